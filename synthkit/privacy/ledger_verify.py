"""Verifying a ledger that one only reads: an officer, an auditor, the coordinator, a recipient.

Knows a copy of the file and, at best, a head that a witness noted. Refuses to change anything: no lock,
no repair. Needs no key and no accountant; composing epsilon is left to `LedgerSummary.spend`.
"""

from dataclasses import dataclass
from pathlib import Path

from synthkit.domain.privacy import Budget, PrivacyEvent, PrivacySpend
from synthkit.errors import LedgerError
from synthkit.privacy.accounting import spend_of
from synthkit.privacy.ledger_book import Book
from synthkit.privacy.ledger_chain import GENESIS_PREV, Entry, parse_entry
from synthkit.privacy.ledger_file import read_snapshot


@dataclass(frozen=True, kw_only=True)
class LedgerSummary:
    """What a verified ledger says. `events` count as spent, oldest first; `head` is (number, hash)."""

    asset: str
    site: str
    budget: Budget
    head: tuple[int, str]
    events: tuple[PrivacyEvent, ...]
    studies: tuple[str, ...]
    reservations: int
    commits: int
    open_reservations: int
    refunds: int
    audits: int
    repairs: int

    def spend(self) -> PrivacySpend:
        """Receipt for everything in the ledger, at its own delta."""
        return spend_of(self.events, self.budget.delta, self.budget.adjacency)


def verify_ledger(
    path: Path | str, *, witness: tuple[int, str] | None = None, asset: str | None = None
) -> LedgerSummary:
    """Verify a ledger file without changing it: no lock, no repair, no private key.

    Args:
        path: The ledger or a copy of it.
        witness: (number, hash) of a head noted outside. Without it a ledger that was cut at its end,
            replaced by an older copy, or rewritten whole cannot be told from a true one.
        asset: Refuse a ledger of another asset.

    Raises:
        LedgerError: With the line where the chain breaks, or why the ledger is not the expected one.
    """
    path = Path(path)
    book = Book(path.name)
    *lines, rest = read_snapshot(path).data.split(b"\n")
    for line in lines:
        book.read_line(line)
    if rest:
        raise LedgerError(
            "the last entry is incomplete",
            where=f"{path.name} line {len(lines) + 1}",
            fix="open the ledger at its site once: it is cut off and recorded",
        )
    check_identity(book, asset=asset, witness=witness)
    header = book.header
    return LedgerSummary(
        asset=header.asset,
        site=header.site,
        budget=header.budget,
        head=book.head,
        events=book.history(),
        studies=tuple(book.study_tallies),
        reservations=len(book.reservations),
        commits=book.commit_count,
        open_reservations=len(book.open),
        refunds=len(book.refunded),
        audits=sum(book.audits.values()),
        repairs=book.repairs,
    )


def read_entries(path: Path | str) -> tuple[Entry, ...]:
    """Every entry of a ledger, verified one by one, oldest first. Changes nothing.

    Entries are bound to one another here; whether they also make sense together is `verify_ledger`'s
    question. An incomplete last line, which was never acknowledged, is passed over.

    Raises:
        LedgerError: A line was altered, is out of order, or is not of a known format.
    """
    path = Path(path)
    entries: list[Entry] = []
    for number, line in enumerate(read_snapshot(path).data.split(b"\n")[:-1]):
        prev = entries[-1].hash if entries else GENESIS_PREV
        entries.append(parse_entry(line, n=number, prev=prev, where=path.name))
    return tuple(entries)


def check_identity(book: Book, *, asset: str | None, witness: tuple[int, str] | None) -> None:
    """Refuse a ledger of another asset, or one that a witness knows better."""
    if asset is not None and book.header.asset != asset:
        raise LedgerError(
            f"the ledger belongs to asset {book.header.asset}",
            where=book.where,
            fix=f"give the ledger of asset {asset}",
        )
    if witness is not None:
        book.check_witness(witness)
