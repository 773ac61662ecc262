"""Where a site stands: each study's decision, what it cost, its last round, and what the budget has left.

Knows the site's folder and reads it. Changes nothing and decides nothing.
"""

from dataclasses import dataclass

from synthkit.domain.canonical import JsonObject
from synthkit.domain.study import Study
from synthkit.errors import SynthkitError
from synthkit.privacy.ledger import Ledger
from synthkit.privacy.ledger_verify import read_entries
from synthkit_client.decisions import Decision, brought_studies, decision_on
from synthkit_client.joining import known_coordinator
from synthkit_client.service import is_running
from synthkit_client.site_folder import SiteFolder
from synthkit_client.witness import stored_witness


@dataclass(frozen=True, kw_only=True)
class StudyHere:
    """A study at this site. `spent_epsilon` is the receipt's figure, 0 before the first reservation."""

    study: Study
    decision: Decision
    spent_epsilon: float
    last_round: int
    """Last round whose reply was stored; 0 before the first."""
    open_rounds: int
    """Reservations without an outcome: they count as spent."""

    def to_json(self) -> JsonObject:
        """For machines."""
        return {
            "name": self.study.name,
            "digest": self.study.digest,
            "decision": self.decision.standing.value,
            "officer": self.decision.officer,
            "reason": self.decision.reason,
            "spent_epsilon": self.spent_epsilon,
            "last_round": self.last_round,
            "rounds": self.study.plan.server_rounds,
            "open_reservations": self.open_rounds,
        }


@dataclass(frozen=True, kw_only=True)
class SiteStanding:
    """A site at a glance."""

    name: str
    coordinator: str
    address: str
    is_running: bool
    ledger: JsonObject
    studies: tuple[StudyHere, ...]
    unreadable: tuple[str, ...]
    """Digests of studies whose file was altered, or whose signer is not trusted (any more)."""

    def to_json(self) -> JsonObject:
        """For machines."""
        return {
            "site": self.name,
            "coordinator": self.coordinator,
            "address": self.address,
            "running": self.is_running,
            "ledger": self.ledger,
            "studies": [entry.to_json() for entry in self.studies],
            "unreadable_studies": list(self.unreadable),
        }


def standing_of(folder: SiteFolder) -> SiteStanding:
    """Read it all.

    Raises:
        LedgerError: The ledger does not verify.
        InputError: A file is malformed.
        PolicyError: So is the policy.
    """
    coordinator = known_coordinator(folder)
    ledger = folder.open_ledger()
    studies = studies_of(folder, ledger)
    whole = {entry.study.digest for entry in studies}
    return SiteStanding(
        name=folder.name,
        coordinator=coordinator.name if coordinator else "",
        address=coordinator.address if coordinator else "",
        is_running=is_running(folder),
        ledger=_ledger(folder, ledger),
        studies=studies,
        unreadable=tuple(digest for digest in folder.studies if digest not in whole),
    )


def studies_of(folder: SiteFolder, ledger: Ledger) -> tuple[StudyHere, ...]:
    """The studies that were brought to this site."""
    rounds = _rounds(folder)
    return tuple(
        StudyHere(
            study=study,
            decision=decision_on(folder, study),
            spent_epsilon=ledger.spend(study.digest).epsilon if ledger.history(study.digest) else 0.0,
            last_round=max(rounds.get(study.digest, {0})),
            open_rounds=sum(entry.study == study.digest for entry in ledger.open_reservations()),
        )
        for study in brought_studies(folder)
    )


def _rounds(folder: SiteFolder) -> dict[str, set[int]]:
    """Committed rounds by study."""
    reserved: dict[int, tuple[str, int]] = {}
    found: dict[str, set[int]] = {}
    for entry in read_entries(folder.ledger_path):
        if entry.kind == "reserve":
            reserved[entry.n] = (entry.fields["study"], entry.fields["server_round"])
        elif entry.kind == "commit":
            study, server_round = reserved[entry.fields["reservation"]]
            found.setdefault(study, set()).add(server_round)
    return found


def _ledger(folder: SiteFolder, ledger: Ledger) -> JsonObject:
    number, head = ledger.head
    try:
        witness = stored_witness(folder.witness_path)
    except SynthkitError:
        witness = None
    return {
        "asset": ledger.asset,
        "cap_epsilon": ledger.budget.epsilon,
        "delta": ledger.budget.delta,
        "reported_epsilon": ledger.spend().epsilon if ledger.history() else 0.0,
        "planned_epsilon": ledger.planned_epsilon(),
        "open_reservations": len(ledger.open_reservations()),
        "counter": number,
        "head": head,
        "witnessed": witness.ledger_counter if witness else None,
    }
