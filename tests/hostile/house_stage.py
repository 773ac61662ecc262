"""The stage on which faults outside the training step play, and the props that several stories use."""

import importlib.util
import json
import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from canary_story import Story
from hospital import Hospital, found, policy_text
from small_ward import make_plan

from synthkit.data.table import PatientTable
from synthkit.domain.audit import AuditReport, Verdict
from synthkit.domain.privacy import Budget
from synthkit.domain.study import TrainingPlan
from synthkit.errors import SynthkitError
from synthkit.privacy.ledger import Ledger
from synthkit.training.single_site import Job, train_privately

TESTS = Path(__file__).parents[1]
FAILED = pytest.fail.Exception


@dataclass(kw_only=True)
class Stage:
    """Where a story plays: a new folder, patches that are undone after it, and shared papers."""

    folder: Path
    patch: pytest.MonkeyPatch
    is_faulty: bool
    papers: Path
    """A hospital that trained, generated and audited on the command line; not to be changed."""
    seed: int = 0

    def hospital(self, **changes: str) -> Hospital:
        """A real site with an approved study."""
        return found(self.folder, policy=policy_text(**changes)).ready()

    def desk(self) -> Story:
        """A copy of the shared papers, ready to be sealed."""
        shutil.copytree(self.papers, self.folder / "desk")
        return Story(folder=self.folder / "desk")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault: the story, who catches it, and what the catcher says (a regular expression)."""

    story: Callable[[Stage], str | None]
    catcher: str
    says: str


def outcome(fault: Fault, stage: Stage) -> str:
    """What the catcher says; empty when the story went through."""
    try:
        return fault.story(stage) or ""
    except SynthkitError as error:
        return str(error)
    except (AssertionError, FAILED) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = [
            f.name
            for f in traceback.extract_tb(error.__traceback__)
            if f.name.startswith(("test_", "check_"))
        ]
        return f"{where[-1] if where else ''} failed: {frame.line} {error}"


def module_of(path: str) -> ModuleType:
    """A test module of this suite by its path, loaded as it is."""
    file = TESTS / path
    for folder in (file.parent, TESTS):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    spec = importlib.util.spec_from_file_location(f"named_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def saved_model(stage: Stage) -> Path:
    folder = stage.folder / "model"
    shutil.copytree(stage.papers / "model", folder)
    return folder


def edit_header(folder: Path, **changes: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def the_clinic() -> ModuleType:
    return module_of("statistical/audit_clinic.py")


def draws_of(stage: Stage, size: int = 500) -> list[pd.DataFrame]:
    clinic, draws = the_clinic(), np.random.default_rng([17, stage.seed])
    return [clinic.draw(draws, size) for _ in range(4)]


def accusation(report: AuditReport) -> str:
    """What the audit says if it does not let the table stand."""
    is_caught = report.verdict in (Verdict.FAIL, Verdict.INVALID)
    return f"{report.verdict.value}: {'; '.join(report.reasons)}" if is_caught else ""


def train_once(stage: Stage, table: PatientTable, *, seed: int, ledger: Ledger | None = None) -> None:
    plan: TrainingPlan = make_plan(local_steps=1, noise_multiplier=3.0)
    budget = Budget(epsilon=9.0, delta=1e-5)
    book = ledger or Ledger.create(stage.folder / "book", asset="ward", site="north", budget=budget)
    job = Job(study=f"try-{seed}", site="north", declared_size=100, min_patients=50, seed=seed)
    train_privately(table, plan, job, ledger=book, quota=book.budget, folder=stage.folder / f"model-{seed}")


def sealed(desk: Story, *more: object) -> str:
    """What sealing says, if it refuses."""
    papers = ("--table", "synthetic.csv", "--schema", "schema.toml", "--model", "model")
    rest = ("--audit", "audit.json", "--policy", "policy.toml", "--ledger", "book.ledger", "--site", "north")
    key = ("--key", "keys/north.pem", "-o", "candidate")
    code = desk.tell("seal", "release", "seal", *papers, *rest, *key, *more)
    return desk.said["seal.err"].decode() if code else ""


def audited(desk: Story, *more: object) -> int:
    sets = ("--members", "parts/members.csv", "--holdout", "parts/holdout.csv")
    table = ("--reference", "parts/reference.csv", "--synthetic", "synthetic.csv", "--schema", "schema.toml")
    return desk.tell(
        "audit", "audit", *sets, *table, "--policy", "policy.toml", "--save", "audit.json", *more
    )
