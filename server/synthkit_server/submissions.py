"""Studies that were handed in, and where each of them stands.

Knows the coordinator's folder, the roster and the files that a run leaves. Refuses a study that this
coordinator did not sign, that has expired, or whose roster is not made of enrolled sites under the very keys
and sizes they enrolled with. Where a study stands is read off its files each time: nothing is kept twice.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from synthkit.domain.study import Site, Study
from synthkit.errors import InputError
from synthkit.federation.messages import Weights
from synthkit.release.trust import TrustStore
from synthkit_server.app import read_failure
from synthkit_server.checkpoint import STATE
from synthkit_server.enrolment import Member, read_roster
from synthkit_server.folder import CoordinatorFolder
from synthkit_server.result import RESULT_JSON, RoundSummary
from synthkit_server.storage import write_atomically, write_weights
from synthkit_server.study_file import read_study
from synthkit_server.superlink import read_progress

STUDY, INITIAL = "study.json", "initial.safetensors"


class State(StrEnum):
    """Where a study stands; `begun` has finished rounds and goes on from there when it is run again."""

    WAITING = "waiting"
    BEGUN = "begun"
    FAILED = "failed"
    DONE = "done"
    EXPIRED = "expired"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A study in the coordinator's folder."""

    folder: Path
    study: Study

    @property
    def run(self) -> Path:
        """Progress, checkpoint, mirror and result."""
        return self.folder / "run"

    @property
    def model(self) -> Path:
        """The model that a finished study ends in."""
        return self.folder / "model"

    @property
    def state(self) -> State:
        """Where it stands. Done is what has its model too."""
        if (self.run / RESULT_JSON).exists() and self.model.is_dir():
            return State.DONE
        if self.study.expires < dt.datetime.now(dt.UTC).date():
            return State.EXPIRED
        if self.failure is not None:
            return State.FAILED
        return State.BEGUN if (self.run / "checkpoint" / STATE).exists() else State.WAITING

    @property
    def failure(self) -> str | None:
        """The line that its last run ended with."""
        return read_failure(self.run)

    @property
    def rounds(self) -> list[RoundSummary]:
        """Finished rounds, oldest first; a round that was reported twice counts once."""
        return list({summary.server_round: summary for summary in read_progress(self.run)}.values())


def submit(folder: CoordinatorFolder, study_file: Path, initial: Weights) -> Submission:
    """Put a signed study into the queue.

    Args:
        folder: The coordinator's.
        study_file: Envelope of kind `study`.
        initial: Weights that the first round starts from.

    Raises:
        InputError: It expired, was handed in before, or its roster is not made of enrolled sites.
        SignatureError: It is not signed with this coordinator's key.
    """
    trust = TrustStore.read(folder.trust_path)
    study = read_study(study_file, trust)
    check_roster(study.roster, read_roster(folder), where=f"study {study.name}")
    place = folder.studies / study.digest
    if (place / STUDY).exists():
        raise InputError("was handed in already", where=f"study {study.name}", fix="see study status")
    (place / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
    write_weights(place / INITIAL, initial)
    write_atomically(place / STUDY, study_file.read_bytes())  # last: a reader takes it for whole
    return Submission(folder=place, study=study)


def read_submissions(folder: CoordinatorFolder) -> tuple[Submission, ...]:
    """All studies, oldest first.

    Raises:
        InputError: A study's file is damaged.
        SignatureError: It was altered.
    """
    trust = TrustStore.read(folder.trust_path)
    files = sorted(folder.studies.glob(f"*/{STUDY}"), key=lambda file: (file.stat().st_mtime_ns, file))
    # Expiry is judged when a study is handed in and by every site at every round, not when it is listed.
    return tuple(
        Submission(folder=file.parent, study=read_study(file, trust, today=dt.date.min)) for file in files
    )


def check_roster(roster: Sequence[Site], members: Sequence[Member], *, where: str) -> None:
    """Refuse a roster that differs from what the sites enrolled with.

    Raises:
        InputError: A site is not enrolled, or its key or declared size is another one.
    """
    enrolled = {member.name: member for member in members}
    for site in roster:
        member = enrolled.get(site.name)
        if member is None:
            fix = "coordinator invite NAME, or leave it out of the study"
            raise InputError(f"site {site.name} is not enrolled", where=where, fix=fix)
        if site.public_key != member.public_key:
            raise InputError(
                f"site {site.name} enrolled with another key", where=where, fix="draft and sign it again"
            )
        if site.declared_size != member.declared_size:
            raise InputError(
                f"site {site.name} enrolled with another declared size",
                where=where,
                fix=f"{member.declared_size} is what it declared; agree on one",
            )
