"""What the entries of one ledger mean: reservations, outcomes, attempts, and the spend so far. No files.

Knows how entries fold into a state. Refuses an entry that makes no sense after the ones before it (an
outcome without its reservation, a second outcome, a second opening), even if its hash fits.

Rule that keeps the count safe: a reservation counts as spent from the moment it is written; only an
`abandon` with `refunded` takes it out again.
"""

from dataclasses import dataclass

from synthkit.domain.canonical import JsonObject
from synthkit.domain.privacy import (
    Adjacency,
    Budget,
    DpSgdEvent,
    GaussianEvent,
    GaussianThresholdEvent,
    PrivacyEvent,
    event_from_json,
)
from synthkit.errors import InputError, LedgerError, RollbackError
from synthkit.privacy.ledger_chain import GENESIS_PREV, Entry, parse_entry, refuse
from synthkit.privacy.renyi import MOST_STEPS, Tally


@dataclass(frozen=True, kw_only=True, slots=True)
class Reservation:
    """Budget set aside for one round before anything is drawn. `number` is its entry's number."""

    number: int
    study: str
    server_round: int
    base_digest: str
    events: tuple[PrivacyEvent, ...]
    entry_hash: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """A reservation whose exact reply was stored before it left. `number` is this entry's number."""

    number: int
    reservation: Reservation
    reply_digest: str
    entry_hash: str


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the first entry fixes for the ledger's whole life."""

    asset: str
    site: str
    budget: Budget
    reference: PrivacyEvent | None


class Book:
    """The state after the entries applied so far.

    Args:
        where: Name of the ledger, for messages.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.hashes: list[str] = []
        self.reservations: dict[int, Reservation] = {}
        self.refunded: set[int] = set()
        self.open: dict[int, Reservation] = {}
        self.commits: dict[tuple[str, int, str], Commit] = {}
        self.commit_count = 0
        self.audits: dict[str, int] = {}
        self.repairs = 0
        self.tally = Tally()
        self.study_tallies: dict[str, Tally] = {}
        self.study_references: dict[str, PrivacyEvent] = {}
        self._header: Header | None = None
        self._first_event: PrivacyEvent | None = None

    @property
    def header(self) -> Header:
        """What the first entry fixed."""
        if self._header is None:
            refuse("the ledger is empty", self.where)
        return self._header

    @property
    def head(self) -> tuple[int, str]:
        """(number, hash) of the last entry."""
        return len(self.hashes) - 1, self.hashes[-1]

    @property
    def reference(self) -> PrivacyEvent | None:
        """The event that fixes the filter's leading order; None while nothing was ever reserved.

        A refunded first event keeps fixing it: an order that moves later would not be fixed.
        """
        return self.header.reference or self._first_event

    def read_line(self, line: bytes) -> None:
        """Verify the next line and apply it.

        Raises:
            LedgerError: The line does not continue the ledger.
        """
        prev = self.hashes[-1] if self.hashes else GENESIS_PREV
        entry = parse_entry(line, n=len(self.hashes), prev=prev, where=self.where)
        place = f"{self.where} line {entry.n + 1}"
        if (entry.kind == "open") != (entry.n == 0):
            refuse("a ledger is opened once, in its first entry", place)
        try:
            self._apply(entry, place)
        except (InputError, TypeError, ValueError, KeyError, OverflowError) as error:
            raise LedgerError("the entry's content is invalid", where=place) from error
        self.hashes.append(entry.hash)

    def _apply(self, entry: Entry, place: str) -> None:
        fields = entry.fields
        match entry.kind:
            case "open":
                self._header = _header(fields)
            case "reserve":
                self._reserve(entry)
            case "commit":
                self._commit(self._take_open(fields["reservation"], place), entry)
            case "abandon":
                self._abandon(self._take_open(fields["reservation"], place), refunded=fields["refunded"])
            case "audit":
                self.audits[fields["study"]] = self.audits.get(fields["study"], 0) + 1
            case _:
                self.repairs += 1

    def _reserve(self, entry: Entry) -> None:
        fields = entry.fields
        reservation = Reservation(
            number=entry.n,
            study=fields["study"],
            server_round=fields["server_round"],
            base_digest=fields["base_digest"],
            events=tuple(_event(document) for document in fields["events"]),
            entry_hash=entry.hash,
        )
        if not reservation.events:
            raise ValueError("a reservation without events")
        self._first_event = self._first_event or reservation.events[0]
        self.study_references.setdefault(reservation.study, reservation.events[0])
        study_tally = self.study_tallies.setdefault(reservation.study, Tally())
        for event in reservation.events:
            self.tally.add(event)
            study_tally.add(event)
        self.reservations[entry.n] = self.open[entry.n] = reservation

    def _take_open(self, number: int, place: str) -> Reservation:
        reservation = self.open.pop(number, None)
        if reservation is None:
            refuse("an outcome without its open reservation", place)
        return reservation

    def _commit(self, reservation: Reservation, entry: Entry) -> None:
        key = (reservation.study, reservation.server_round, reservation.base_digest)
        self.commit_count += 1
        self.commits[key] = Commit(
            number=entry.n,
            reservation=reservation,
            reply_digest=entry.fields["reply_digest"],
            entry_hash=entry.hash,
        )

    def _abandon(self, reservation: Reservation, *, refunded: bool) -> None:
        if not refunded:
            return
        self.refunded.add(reservation.number)
        for event in reservation.events:
            self.tally.remove(event)
            self.study_tallies[reservation.study].remove(event)

    def history(self, study: str | None = None) -> tuple[PrivacyEvent, ...]:
        """All events that count as spent, oldest first; of one study if named."""
        return tuple(
            event
            for number, reservation in self.reservations.items()
            if number not in self.refunded and study in (None, reservation.study)
            for event in reservation.events
        )

    def check_witness(self, witness: tuple[int, str]) -> None:
        """Refuse a chain that does not contain the head somebody outside wrote down.

        Raises:
            RollbackError: The ledger is an older copy, or another history took this one's place.
        """
        counter, digest = witness
        what = ""
        if not 0 <= counter < len(self.hashes):
            what = f"the ledger is older than its witness: it has no entry {counter}"
        elif self.hashes[counter] != digest:
            what = f"the ledger is not the one the witness saw at entry {counter}"
        if what:
            raise RollbackError(
                what, where=self.where, fix="stop training; an older ledger forgets what was spent"
            )


def _header(fields: JsonObject) -> Header:
    budget = Budget(
        epsilon=fields["epsilon"], delta=fields["delta"], adjacency=Adjacency(fields["adjacency"])
    )
    reference = None if fields["reference"] is None else _event(fields["reference"])
    return Header(asset=fields["asset"], site=fields["site"], budget=budget, reference=reference)


def _event(document: JsonObject) -> PrivacyEvent:
    if not isinstance(document, dict):
        raise TypeError("an event is a JSON object")
    event = event_from_json(document)
    check_whole_counts(event)
    return event


def check_whole_counts(event: PrivacyEvent) -> None:
    """Refuse a number of steps that cannot be counted exactly; the event itself does not look.

    Raises:
        TypeError: Not a known event, or `steps` or `count` is not an int.
        InputError: The number is beyond any training.
    """
    if isinstance(event, GaussianThresholdEvent):
        return
    if not isinstance(event, DpSgdEvent | GaussianEvent):
        raise TypeError("not a privacy event")
    count = event.steps if isinstance(event, DpSgdEvent) else event.count
    if type(count) is not int:
        raise TypeError("an event's number of steps must be an int")
    if count > MOST_STEPS:
        raise InputError(f"an event has more than {MOST_STEPS:g} steps")
