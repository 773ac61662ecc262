"""The ledger: what one site's patients of one asset have spent, append-only and hash-chained.

Knows events, studies and digests. Refuses to know any row, count of patients, weight or loss. One file
per asset and site; the asset is the one the signed policy names, so a re-exported table meets the same
ledger.

The order that keeps the count at or above the truth, whatever dies in between:

1. `reserve` is on disk (file synced) before it returns; only then may anything be drawn or trained.
2. The exact reply is stored by the caller.
3. `commit` is on disk before the reply is sent.

A reservation counts as spent from step 1 on: with a commit, without any outcome (a crash), and when
abandoned, except when the site itself knows that neither a sample nor noise was drawn for it.

Incomplete last line. A line becomes an entry when its line feed is on disk, and no call returns before.
So an incomplete last line was never acknowledged: nothing was trained under it (reserve), nothing was
sent on it (commit), nothing was refunded by it (abandon). Cutting it off loses no spend. The next opening
does so and records it as a `repair` entry with the length and hash of what was cut.

What the chain shows by itself: an edited, deleted, reordered or inserted line. What needs the head
(number and hash) noted by a witness outside, such as the coordinator, who signs it with each round: a
ledger cut at its end, replaced by an older copy, or rewritten whole.

Compatibility promise, format 1 (`ledger_chain` lists the fields): every later version reads a format 1
ledger, composes exactly its events and counts at least what this one counts; no kind of entry or event
changes its meaning; a new kind or field comes with a new `v`; a reader that meets an unknown `v`, kind or
field refuses the whole ledger. Format 2 changes the audit's entry alone: it binds the report's digest.
A ledger written by each version is kept with the tests, with its spend.
"""

import datetime as dt
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from synthkit.domain.audit import Verdict
from synthkit.domain.canonical import JsonObject, sha256_hex
from synthkit.domain.privacy import Budget, PrivacyEvent, PrivacySpend
from synthkit.errors import InputError, LedgerError
from synthkit.privacy.accounting import admission_epsilon, spend_of
from synthkit.privacy.ledger_admission import check_room
from synthkit.privacy.ledger_book import Book, Commit, Reservation, check_whole_counts
from synthkit.privacy.ledger_chain import GENESIS_PREV, seal_entry
from synthkit.privacy.ledger_file import (
    append_bytes,
    create_file,
    cut_file,
    exclusive_lock,
    read_snapshot,
)
from synthkit.privacy.ledger_verify import LedgerSummary, check_identity, verify_ledger

__all__ = ["Commit", "Ledger", "LedgerSummary", "Reservation", "verify_ledger"]

_CODE = re.compile(r"[a-z0-9_-]{1,64}")
MOST_CHARACTERS = 200


class Ledger:
    """One asset's ledger at one site. Made by `create` or `open`; safe to share between processes.

    Every call first reads what other processes appended, under the same lock. A ledger that was swapped
    for an older copy while this object lives is refused.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._book = path, Book(path.name)
        self._identity, self._size, self._last = (0, 0), 0, b""

    @classmethod
    def create(
        cls,
        path: Path | str,
        *,
        asset: str,
        site: str,
        budget: Budget,
        reference: PrivacyEvent | None = None,
    ) -> "Ledger":
        """Start a ledger. Never replaces one.

        Args:
            path: The file to create; its folder exists.
            asset: The patient population, as the signed policy names it.
            site: The hospital.
            budget: The cap over everything, for the ledger's whole life.
            reference: The kind of event that most of the budget will go to, if known: it fixes the
                filter's leading order. Otherwise the first reserved event does.

        Raises:
            LedgerError: A file is already there, or cannot be written.
        """
        path = Path(path)
        _check_names(asset=asset, site=site)
        if reference is not None:
            check_whole_counts(reference)
        fields: JsonObject = {
            "asset": asset,
            "site": site,
            "epsilon": budget.epsilon,
            "delta": budget.delta,
            "adjacency": budget.adjacency.value,
            "reference": None if reference is None else reference.to_json(),
        }
        line = seal_entry(n=0, prev=GENESIS_PREV, kind="open", time=_now(), fields=fields)
        create_file(path, line)
        return cls.open(path, asset=asset)

    @classmethod
    def open(
        cls, path: Path | str, *, asset: str | None = None, witness: tuple[int, str] | None = None
    ) -> "Ledger":
        """Open and verify the whole chain; cut off and record an incomplete last line.

        Args:
            path: The ledger.
            asset: Refuse a ledger of another asset.
            witness: (number, hash) of a head noted outside; refuse a ledger that does not contain it.

        Raises:
            LedgerError: The ledger is missing, broken, or of another asset.
            RollbackError: It does not contain what the witness noted.
        """
        path = Path(path)
        read_snapshot(path)  # so that a missing ledger leaves no lock file behind
        with exclusive_lock(path):
            ledger = cls(path)
            ledger._load()
            check_identity(ledger._book, asset=asset, witness=witness)
            ledger._repair()
        return ledger

    @property
    def asset(self) -> str:
        """The patient population this ledger counts for."""
        return self._book.header.asset

    @property
    def site(self) -> str:
        """The hospital this ledger belongs to."""
        return self._book.header.site

    @property
    def budget(self) -> Budget:
        """The cap over everything."""
        return self._book.header.budget

    @property
    def head(self) -> tuple[int, str]:
        """(number, hash) of the last entry: what a witness notes."""
        with self._current() as book:
            return book.head

    def check_witness(self, witness: tuple[int, str]) -> None:
        """Check that the ledger contains a head (number, hash) that was noted outside.

        Raises:
            RollbackError: It does not: an older copy, or another history, took its place.
            LedgerError: The ledger cannot be read, or was tampered with.
        """
        with self._current() as book:
            book.check_witness(witness)

    def export_head(self) -> JsonObject:
        """The head as a document for a witness outside. Canonical, without any spend."""
        with self._current() as book:
            number, digest = book.head
            return {
                "format": 1,
                "asset": self.asset,
                "site": self.site,
                "counter": number,
                "head": digest,
                "time": _now(),
            }

    def reserve(
        self,
        *,
        study: str,
        server_round: int,
        base_digest: str,
        events: Sequence[PrivacyEvent],
        study_budget: Budget | None = None,
    ) -> Reservation:
        """Set budget aside for what is about to be drawn. On disk before this returns.

        Args:
            study: The study's digest.
            server_round: The round, from 1; 0 for what precedes all rounds.
            base_digest: Digest of the weights that the round starts from.
            events: What will be released; at least one.
            study_budget: The policy's quota for all of this study's events together.

        Raises:
            BudgetExceededError: The asset's cap or the study's quota has no room. Nothing was written.
            LedgerError: The ledger cannot be read or written, or was tampered with.
        """
        _check_names(study=study, base_digest=base_digest)
        if not events or type(server_round) is not int or server_round < 0:
            raise RuntimeError("a reservation needs events and a round number from 0")
        for event in events:
            check_whole_counts(event)
        with self._current() as book:
            check_room(book, study, events, study_budget)
            fields: JsonObject = {
                "study": study,
                "server_round": server_round,
                "base_digest": base_digest,
                "events": [event.to_json() for event in events],
            }
            return book.reservations[self._append("reserve", fields)]

    def commit(self, reservation: Reservation, *, reply_digest: str) -> Commit:
        """Record that the reply with this digest is stored. On disk before this returns; then send.

        Raises:
            LedgerError: The ledger cannot be read or written, or was tampered with.
        """
        _check_names(reply_digest=reply_digest)
        with self._current() as book:
            self._check_open(book, reservation)
            self._append("commit", {"reservation": reservation.number, "reply_digest": reply_digest})
            key = (reservation.study, reservation.server_round, reservation.base_digest)
            return book.commits[key]

    def abandon(self, reservation: Reservation, reason_code: str, *, nothing_was_drawn: bool = False) -> None:
        """Close a reservation that led to no reply. It stays spent.

        Args:
            reservation: An open one.
            reason_code: A short code, a-z 0-9 _ -; never a message.
            nothing_was_drawn: Give the budget back. Sound only if the caller knows that no sample and
                no noise was drawn under this reservation; after a crash nobody knows that.

        Raises:
            LedgerError: The ledger cannot be read or written, or was tampered with.
        """
        if not _CODE.fullmatch(reason_code):
            raise RuntimeError("reason_code is 1 to 64 of a-z 0-9 _ -")
        with self._current() as book:
            self._check_open(book, reservation)
            fields: JsonObject = {
                "reservation": reservation.number,
                "reason": reason_code,
                "refunded": bool(nothing_was_drawn),
            }
            self._append("abandon", fields)

    def record_audit(self, *, study: str, table_digest: str, verdict: Verdict, report_digest: str) -> int:
        """Record one audited candidate table and its report's digest; returns the study's attempts so far.

        Record it before showing or saving any of it: an attempt that was seen and not counted is
        selection on private data. A crash after this leaves it counted, without a report.

        Raises:
            LedgerError: The ledger cannot be read or written, or was tampered with.
        """
        names = {"study": study, "table_digest": table_digest, "report_digest": report_digest}
        _check_names(**names)
        with self._current() as book:
            self._append("audit", {**names, "verdict": verdict.value, "salt": secrets.token_hex(32)})
            return book.audits[study]

    def audit_attempts(self, study: str) -> int:
        """How many candidate tables of this study were audited."""
        with self._current() as book:
            return book.audits.get(study, 0)

    def history(self, study: str | None = None, *, schema: str | None = None) -> tuple[PrivacyEvent, ...]:
        """Every event that counts as spent, oldest first; of one study if its digest is given.

        With the digest of the study's schema, what the schema was bought with stands before them.
        """
        bought = self.purchases(schema) if schema is not None else ()
        with self._current() as book:
            paid = tuple(event for commit in bought for event in commit.reservation.events)
            return (*paid, *book.history(study))

    def purchases(self, schema: str) -> tuple[Commit, ...]:
        """Commits of the purchases that completed the schema of this digest, oldest first."""
        with self._current() as book:
            found = (commit for commit in book.commits.values() if commit.reply_digest == schema)
            return tuple(commit for commit in found if commit.reservation.server_round == 0)

    def check_room(self, events: Sequence[PrivacyEvent], *, quota: Budget | None = None) -> None:
        """Refuse what `reserve` would refuse of these events, all together and as a study of their own.

        Raises:
            BudgetExceededError: The asset's cap or the quota has no room. Nothing was written.
            LedgerError: The ledger cannot be read, or was tampered with.
        """
        with self._current() as book:
            check_room(book, "", events, quota)

    def open_reservations(self) -> tuple[Reservation, ...]:
        """Reservations without an outcome, oldest first: after a restart, what a crash left."""
        with self._current() as book:
            return tuple(book.open.values())

    def spend(self, study: str | None = None, *, schema: str | None = None) -> PrivacySpend:
        """Receipt at the ledger's delta, for everything or for one study; see `history` for the schema."""
        return spend_of(self.history(study, schema=schema), self.budget.delta, self.budget.adjacency)

    def planned_epsilon(self) -> float:
        """The cap that the admission filter would already need: the sound figure for "spent so far"."""
        with self._current() as book:
            history, reference = book.history(), book.reference
        return admission_epsilon(history, self.budget.delta, reference=reference)

    def find_commit(self, study: str, server_round: int, base_digest: str) -> Commit | None:
        """The latest commit for exactly this request, whose stored reply may be sent again for free."""
        with self._current() as book:
            return book.commits.get((study, server_round, base_digest))

    @contextmanager
    def _current(self) -> Iterator[Book]:
        """The lock, held, and the state up to the file's end."""
        with exclusive_lock(self._path):
            self._refresh()
            yield self._book

    def _refresh(self) -> None:
        """Read what was appended; start over if the file is not the one read before."""
        start = self._size - len(self._last)
        snapshot = read_snapshot(self._path, start)
        if snapshot.identity != self._identity or not snapshot.data.startswith(self._last):
            self._replace()
        else:
            self._read(snapshot.data[len(self._last) :])
        self._repair()

    def _replace(self) -> None:
        """Take over a file that is not the one read before, if it goes on from there.

        What is known stays known when it does not: an older copy is refused at every later call too.
        """
        found = Ledger(self._path)
        found._load()
        found._book.check_witness(self._book.head)
        vars(self).update(vars(found))

    def _load(self) -> None:
        """Verify the file from its first byte; called once."""
        snapshot = read_snapshot(self._path)
        self._identity = snapshot.identity
        self._read(snapshot.data)
        if not self._book.hashes:
            raise LedgerError("the ledger is empty", where=self._path.name, fix="restore it from a backup")

    def _read(self, data: bytes) -> None:
        """Apply the complete lines of `data`, which starts at the end of what was read."""
        for line in data.split(b"\n")[:-1]:
            self._book.read_line(line)
            self._last = line + b"\n"
            self._size += len(self._last)

    def _repair(self) -> None:
        """Cut off an incomplete last line, and say so in the chain."""
        torn = read_snapshot(self._path, self._size).data
        if torn:
            cut_file(self._path, self._size)
            self._append("repair", {"lost_bytes": len(torn), "lost_digest": sha256_hex(torn)})

    def _append(self, kind: str, fields: JsonObject) -> int:
        """Write one entry durably, then apply it; returns its number. The lock is held."""
        number, prev = self._book.head
        line = seal_entry(n=number + 1, prev=prev, kind=kind, time=_now(), fields=fields)
        append_bytes(self._path, line)
        self._read(line)
        return number + 1

    @staticmethod
    def _check_open(book: Book, reservation: Reservation) -> None:
        if book.open.get(reservation.number) != reservation:
            raise RuntimeError("the reservation is not an open one of this ledger")


def _check_names(**names: str) -> None:
    """Only short printable text reaches the ledger: it is read aloud in tables and messages.

    Raises:
        InputError: A name or digest is empty, too long or not printable.
    """
    for name, value in names.items():
        if not (isinstance(value, str) and 1 <= len(value) <= MOST_CHARACTERS and value.isprintable()):
            raise InputError(f"{name} must be 1 to {MOST_CHARACTERS} printable characters", where="ledger")


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
