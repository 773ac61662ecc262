"""One hospital's files as its staff would have them: tables, schema, policies, ledger, model, keys."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from synthkit.cli.main import run
from synthkit.data.bundled import example
from synthkit.data.connectors import read_table
from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.canonical import sha256_hex
from synthkit.domain.documents import schema_to_toml
from synthkit.domain.privacy import Budget, DpSgdEvent, EncoderProvenance
from synthkit.domain.schema import Schema
from synthkit.privacy.accounting import spend_of
from synthkit.privacy.ledger import Ledger
from synthkit.training.artefact import Model, load_model, new_generator, save_model
from synthkit.training.synthesis import synthesize

STUDY = "heart-study"
STUDY_DIGEST = sha256_hex(b"the study")
ASSET, SITE = "heart-patients", "north"
EVENT = DpSgdEvent(noise_multiplier=2.0, sample_rate=0.05, steps=100)
POLICIES = Path(__file__).parents[2] / "policies"


@dataclass(frozen=True, kw_only=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict:
        """Standard output, which has to be exactly one JSON object."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one error line, which is the last of standard error."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert self.err.endswith(lines[0] + "\n"), self.err
        assert "Traceback" not in self.err + self.out
        return lines[0]


def policy_text(**changes: str) -> str:
    """The shipped standard policy with single lines replaced."""
    lines = (POLICIES / "standard.toml").read_text("utf-8").splitlines()
    changes = {"name": f'"{ASSET}"'} | changes
    seen = []
    for place, line in enumerate(lines):
        key = line.split(" = ")[0]
        is_asset_name = key == "name" and "population" in line
        if key in changes and (key != "name" or is_asset_name):
            lines[place] = f"{key} = {changes[key]}"
            seen.append(key)
    assert set(seen) == set(changes)
    return "\n".join(lines) + "\n"


def build(folder: Path) -> Path:
    """Everything, written once."""
    heart = example("heart")
    frames = [read_table(path, heart.schema).frame for path in heart.sites.values()]
    frame = pd.concat(frames, ignore_index=True)
    everyone = PatientTable(schema=heart.schema, frame=frame, patients=np.arange(len(frame)))
    names = ("members", "holdout", "reference")
    for name, part in zip(names, everyone.split((0.33,) * 3, seed=1), strict=True):
        made = SyntheticTable(schema=heart.schema, frame=part.frame)
        (folder / f"{name}.csv").write_bytes(made.to_csv_bytes())
    few = SyntheticTable(schema=heart.schema, frame=frame.head(10))
    (folder / "few.csv").write_bytes(few.to_csv_bytes())
    (folder / "schema.toml").write_text(schema_to_toml(heart.schema), encoding="utf-8")
    (folder / "lenient.toml").write_text(policy_text(max_advantage="0.4"), encoding="utf-8")
    (folder / "eyes.toml").write_text(policy_text(max_advantage="0.4", four_eyes="true"), encoding="utf-8")
    make_model(folder / "model", heart.schema)
    made = synthesize(load_model(folder / "model"), 230, seed=0).table
    (folder / "synthetic.csv").write_bytes(made.to_csv_bytes())
    make_ledger(folder / "heart.ledger")
    return folder


def make_ledger(path: Path, asset: str = ASSET, site: str = SITE, study: str = STUDY_DIGEST) -> Ledger:
    ledger = Ledger.create(path, asset=asset, site=site, budget=Budget(epsilon=6.0, delta=1e-5))
    held = ledger.reserve(study=study, server_round=1, base_digest="0" * 64, events=[EVENT])
    ledger.commit(held, reply_digest="1" * 64)
    return ledger


def make_model(folder: Path, schema: Schema) -> None:
    """A small model that has learnt nothing, with a receipt as if it had."""
    model = Model(
        schema=schema,
        generator=new_generator("medvae-sgd", schema, {"hidden_1": 8, "hidden_2": 8, "hidden_3": 8}, seed=0),
        spend=spend_of([EVENT], 1e-5),
        encoder_provenance=EncoderProvenance.TRAINED,
        study=STUDY,
        study_digest=STUDY_DIGEST,
        site=SITE,
    )
    save_model(model, folder)


def overspend() -> None:
    """A command that asks its ledger for more than the cap."""
    dear = DpSgdEvent(noise_multiplier=0.5, sample_rate=0.5, steps=1000)
    ledger = Ledger.open("heart.ledger")
    ledger.reserve(study="s", server_round=1, base_digest="0" * 64, events=[dear])


def crash() -> None:
    """A command with a bug whose exception quotes a cell."""
    raise ValueError("could not convert CANARY-7731 to float")


@contextmanager
def caught(capsys) -> Iterator[list[str]]:
    """Discard what was printed before, collect what is printed now."""
    capsys.readouterr()
    found: list[str] = []
    yield found
    captured = capsys.readouterr()
    found += [captured.out, captured.err]


def call(capsys, *arguments: object) -> Answer:
    """Run the program in this process, through its console entry point."""
    with caught(capsys) as found:
        code = run([str(argument) for argument in arguments])
    return Answer(code=code, out=found[0], err=found[1])
