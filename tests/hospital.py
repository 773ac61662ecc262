"""Real sites for federation tests: folders with tables, keys, signed policies and ledgers; a coordinator."""

import datetime as dt
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from small_ward import WARD, make_plan, ward_table

from synthkit.data.table import SyntheticTable
from synthkit.domain.canonical import canonical_json
from synthkit.domain.study import Site, Study
from synthkit.federation.messages import TrainRequest, Weights
from synthkit.privacy.ledger import Ledger
from synthkit.release.signing import SigningKey, TrustedKey, generate_key, read_key, seal_document
from synthkit.training.artefact import new_generator
from synthkit_client.agent import SiteAgent
from synthkit_client.enrol import OFFICER_KEY, NewSite, bring_study, init_site, officer_name
from synthkit_client.guard import approve_study
from synthkit_client.site_folder import SiteFolder

POLICY = (Path(__file__).parents[1] / "policies" / "demo.toml").read_text("utf-8")
TODAY = dt.date(2026, 1, 1)
FAR = dt.date(2999, 1, 1)
SPLIT = (0.7, 0.2, 0.1)


def policy_text(**changes: str) -> str:
    """The demo policy with one site enough and some lines replaced."""
    changes = {"min_sites": "1"} | changes
    lines = POLICY.splitlines()
    for place, line in enumerate(lines):
        key = line.split(" = ")[0]
        if key in changes:
            lines[place] = f"{key} = {changes.pop(key)}"
    assert not changes
    return "\n".join(lines) + "\n"


@dataclass
class Hospital:
    """One site, its coordinator's key and a study that nobody has signed yet."""

    path: Path
    coordinator: SigningKey
    study: Study

    @property
    def folder(self) -> SiteFolder:
        return SiteFolder(self.path)

    @property
    def table(self) -> Path:
        return self.path / "patients.csv"

    @property
    def officer(self) -> SigningKey:
        return read_key(self.path / OFFICER_KEY)

    @property
    def ledger(self) -> Ledger:
        return self.folder.open_ledger()

    def bring(self, study: Study | None = None, key: SigningKey | None = None) -> Study:
        """Put a signed study into the folder."""
        study = study or self.study
        envelope = seal_document(study.to_json(), "study", key or self.coordinator, "coordinator")
        return bring_study(self.folder, envelope)

    def approve(self, study: Study | None = None) -> None:
        approve_study(self.folder, study or self.study, officer_name("north"), self.officer, today=TODAY)

    def force_approval(self, study: Study, **changes: str) -> None:
        """The officer's signature under an approval that her policy would not allow."""
        folder = self.folder
        document = {
            "study_digest": study.digest,
            "policy_digest": folder.policy.digest,
            "site": "north",
            **changes,
        }
        envelope = seal_document(document, "study-approval", self.officer, officer_name("north"))
        folder.write_json(folder.study_folder(study.digest) / "approval.json", envelope)

    def ready(self, study: Study | None = None) -> "Hospital":
        self.bring(study)
        self.approve(study)
        return self

    def agent(self) -> SiteAgent:
        return SiteAgent.open(self.path)

    def request(self, server_round: int = 1, *, study: Study | None = None, seed: int = 0) -> TrainRequest:
        study = study or self.study
        return TrainRequest(
            study_digest=study.digest, server_round=server_round, weights=initial(study, seed=seed)
        )

    def witness(
        self, mark: tuple[int, str], *, key: SigningKey | None = None, kind: str = "witness", **changes
    ) -> str:
        """The coordinator's signed statement that this ledger had the entry (number, hash)."""
        document = {
            "format": 1,
            "study_digest": self.study.digest,
            "server_round": 1,
            "site": "north",
            "ledger_counter": mark[0],
            "ledger_head": mark[1],
        } | changes
        envelope = seal_document(document, kind, key or self.coordinator, "coordinator")
        return canonical_json(envelope).decode()

    def with_plan(self, **changes) -> Study:
        return replace(self.study, plan=replace(self.study.plan, **changes))


def initial(study: Study, *, seed: int = 0) -> Weights:
    plan = study.plan
    return new_generator(plan.generator, study.schema, plan.hyperparameters, seed=seed).get_weights()


def found(
    root: Path, *, patients: int = 120, policy: str | None = None, table: bytes | None = None
) -> Hospital:
    """Found a hospital: everything of a site, no study brought yet."""
    path = root / "north"
    path.mkdir(parents=True)
    rows = SyntheticTable(schema=WARD, frame=ward_table(patients).frame).to_csv_bytes()
    (path / "patients.csv").write_bytes(table or rows)
    coordinator = generate_key()
    trusted = TrustedKey(name="coordinator", role="coordinator", public_key=coordinator.public_key_hex)
    new = NewSite(
        name="north",
        table="patients.csv",
        declared_size=80,
        policy_text=policy or policy_text(),
        split=SPLIT,
        split_seed=3,
    )
    folder = init_site(path, new, coordinator=trusted)
    study = Study(
        name="trial",
        purpose="a test",
        schema=WARD,
        plan=make_plan(rounds=2, local_steps=2, sample_rate=0.2, noise_multiplier=3.0, delta=1e-5),
        roster=(Site(name="north", public_key=folder.key.public_key_hex, declared_size=80),),
        expires=FAR,
    )
    return Hospital(path=path, coordinator=coordinator, study=study)


def every_byte(root: Path, *, but: tuple[str, ...] = ()) -> bytes:
    """The content of all files below a folder, but those of the given names."""
    files = sorted(file for file in root.rglob("*") if file.is_file() and file.name not in but)
    return b"\n".join(file.read_bytes() for file in files)


def as_bytes(reply) -> bytes:
    """A reply as it would leave: scalars and arrays."""
    arrays = b"".join(name.encode() + np.asarray(a).tobytes() for name, a in sorted(reply.weights.items()))
    return json.dumps(reply.scalars(), sort_keys=True).encode() + arrays
