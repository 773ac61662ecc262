"""Add or remove one patient: whatever no budget was charged for stays as it was, byte for byte.

Three hospitals with equal keys, papers and clocks: one with 120 patients, one with the last of them gone,
one with an outlier more, whose every cell lies on a bound. Sampling and noise come from one fixed stream,
so that any difference is the patient's. Weights and what is derived from them (their digests, the ledger's
hashes, signatures) are what the budget pays for; all else has to be equal.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hospital import found
from small_ward import FIRST_DAY, WARD, days, make_plan, ward_table

import synthkit.privacy.ledger as ledger_module
from synthkit.data.connectors import read_table
from synthkit.data.encoding import fit_encoding
from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.privacy import Budget
from synthkit.domain.schema import Schema
from synthkit.domain.study import TrainingPlan
from synthkit.privacy import rng
from synthkit.privacy.ledger import Ledger
from synthkit.privacy.ledger_verify import read_entries
from synthkit.training.single_site import Job, train_privately
from synthkit_client.agent import SiteAgent
from synthkit_client.guard import read_study
from synthkit_client.release_desk import audit_candidate, state
from synthkit_client.site_folder import SiteFolder

PATIENTS = 120
OUTLIER = {
    **{"age": 100.0, "visits": 12.0, "creatinine": 12.0, "dose": 400.0, "troponin": 50_000.0},
    **{"sex": "Female", "stage": "IV", "unit": "day clinic", "admitted": days(FIRST_DAY)},
    **{"follow_up": 2000.0, "outcome": "dead"},
}


def frames() -> dict[str, pd.DataFrame]:
    whole = ward_table(PATIENTS).frame
    return {
        "whole": whole,
        "one less": whole.iloc[:-1],
        "an outlier more": pd.concat([whole, pd.DataFrame([OUTLIER])], ignore_index=True),
    }


def csv(frame: pd.DataFrame) -> bytes:
    return SyntheticTable(schema=WARD, frame=frame.reset_index(drop=True)).to_csv_bytes()


@pytest.fixture(scope="module")
def fixed_world():
    """One clock, and one stream in the place of the operating system's entropy."""
    with pytest.MonkeyPatch.context() as patch:
        stream = np.random.default_rng(11)
        patch.setattr(rng, "uniform", lambda count: 1.0 - stream.random(count))
        patch.setattr(ledger_module, "_now", lambda: "2026-01-01T00:00:00+00:00")
        yield


@pytest.fixture(scope="module")
def answers(tmp_path_factory, fixed_world):
    return answers_of(tmp_path_factory.mktemp("neighbours"))


def answers_of(root: Path) -> dict:
    """Each hospital's folder after three rounds, and its three replies."""
    hospital = found(root / "first", patients=PATIENTS).ready()
    requests = [hospital.request(number) for number in (1, 2, 3)]
    result = {}
    for name, frame in frames().items():
        folder = root / name / "north"
        shutil.copytree(hospital.path, folder)
        (folder / "patients.csv").write_bytes(csv(frame))
        agent = SiteAgent.open(folder)
        result[name] = folder, [agent.answer(request) for request in requests]
    return result


CHARGED_FIELDS = {"ledger_head", "signature"}
"""Digests over the weights."""


def all_equal(values) -> bool:
    first, *others = values
    return all(other == first for other in others)


def test_a_replys_scalars_are_equal(answers):
    told = [
        [{k: v for k, v in reply.scalars().items() if k not in CHARGED_FIELDS} for reply in replies]
        for _, replies in answers.values()
    ]
    assert all_equal(told)
    assert {"site", "study_digest", "server_round", "base_digest", "ledger_counter"} <= set(told[0][0])


def test_a_replys_arrays_have_equal_names_shapes_and_types(answers):
    shapes = [
        [{name: (array.shape, array.dtype) for name, array in reply.weights.items()} for reply in replies]
        for _, replies in answers.values()
    ]
    assert all_equal(shapes)


def test_the_charged_part_does_differ(answers):
    """The comparison is of three different data sets, not of one three times."""
    heads = {replies[0].ledger_head for _, replies in answers.values()}
    assert len(heads) == len(answers)


def test_every_file_of_the_site_has_the_same_size(answers):
    """Ledger, stored replies, optimiser state: a length is a count that nobody declared."""
    sizes = []
    for folder, _ in answers.values():
        files = [path for path in folder.rglob("*") if path.is_file() and path.name != "patients.csv"]
        sizes.append(sorted((path.suffix, path.parent.name, path.stat().st_size) for path in files))
    assert all_equal(sizes)
    assert len(sizes[0]) > 8


def test_the_ledgers_entries_are_equal(answers):
    told = []
    for folder, _ in answers.values():
        entries = read_entries(folder / "ledger.jsonl")
        charged = {"reply_digest", "base_digest"}
        told.append(
            [(e.n, e.kind, e.time, {k: v for k, v in e.fields.items() if k not in charged}) for e in entries]
        )
    assert all_equal(told)


JOB = Job(study="ward", site="north", declared_size=100, min_patients=50, seed=4)
PLAN: TrainingPlan = make_plan(local_steps=2, noise_multiplier=3.0)


def trained(root: Path, frame: pd.DataFrame) -> Path:
    path = root / "patients.csv"
    path.write_bytes(csv(frame))
    budget = Budget(epsilon=9, delta=1e-5)
    ledger = Ledger.create(root / "ledger", asset="ward", site="north", budget=budget)
    train_privately(read_table(path, WARD), PLAN, JOB, ledger=ledger, quota=budget, folder=root / "model")
    return root / "model"


def test_a_models_header_and_sizes_are_equal(tmp_path, fixed_world):
    headers, sizes, digests = [], [], set()
    for name, frame in frames().items():
        (tmp_path / name).mkdir()
        folder = trained(tmp_path / name, frame)
        header = json.loads((folder / "model.json").read_text())
        digests.add(header.pop("weights_sha256"))
        headers.append(json.dumps(header))
        sizes.append({path.name: path.stat().st_size for path in folder.iterdir()})
    assert all_equal(headers)
    assert all_equal(sizes)
    assert len(digests) == len(headers)


def check_encoding_knows_no_other_patient() -> None:
    """A patient's states, the layout and its record are the same whoever else is in the table.

    The catalogue of seeded faults calls this with bounds and categories read off the rows.
    """
    tables = {name: as_table(frame) for name, frame in frames().items()}
    encodings = {name: fit_encoding(table.schema) for name, table in tables.items()}
    assert all_equal([encoding.layout for encoding in encodings.values()]), "the layout differs"
    assert all_equal([encoding.to_json() for encoding in encodings.values()]), "the record differs"
    states = {name: encodings[name].encode(table) for name, table in tables.items()}
    shared = [array[: PATIENTS - 1] for array in states.values()]
    assert all(np.array_equal(array, shared[0]) for array in shared), "another patient moved a state"


def test_encoding_knows_no_other_patient():
    check_encoding_knows_no_other_patient()


def as_table(frame: pd.DataFrame) -> PatientTable:
    return PatientTable(schema=WARD, frame=frame.reset_index(drop=True), patients=np.arange(len(frame)))


SHARES = (0.7, 0.2, 0.1)


def parts_of(path: Path, schema: Schema) -> list[list[str]]:
    """The rows of each part, as text, in order."""
    parts = read_table(path, schema).split(SHARES, seed=3)
    return [part.frame.to_csv(index=False, header=False).splitlines() for part in parts]


def check_split_moves_one_patient(root: Path) -> None:
    """A patient more or less changes their own part of a split, and no other patient's.

    Otherwise a generator trained on one part protects nobody of the whole table: noise for one patient
    does not hide the many who changed places with them.
    """
    whole = ward_table(PATIENTS).frame.assign(age=lambda f: 18.0 + np.arange(len(f)) % 80)
    for name, schema in (("rows", WARD), ("ids", replace(WARD, patient_id="mrn"))):
        ids = [f"mrn-{17 * row}" for row in range(PATIENTS)]
        source = whole.assign(mrn=ids) if schema.patient_id else whole
        path = root / f"{name}.csv"
        path.write_bytes(_source_csv(source))
        before = parts_of(path, schema)
        assert all(len(part) > 3 for part in before)
        for gone in (0, 40, PATIENTS - 1):
            path.write_bytes(_source_csv(source.drop(index=gone)))
            after = parts_of(path, schema)
            lost = [len(set(b) - set(a)) for b, a in zip(before, after, strict=True)]
            come = [len(set(a) - set(b)) for b, a in zip(before, after, strict=True)]
            assert (sum(lost), sum(come)) == (1, 0), f"{name}: other patients changed their part"


def _source_csv(frame: pd.DataFrame) -> bytes:
    made = SyntheticTable(schema=WARD, frame=frame[list(WARD.names)]).release_frame()
    if "mrn" in frame:
        made = made.assign(mrn=frame["mrn"])
    text: str = made.to_csv(index=False, lineterminator="\n")
    return text.encode()


def test_a_split_moves_one_patient_and_no_other(tmp_path):
    check_split_moves_one_patient(tmp_path)


def test_the_order_of_the_rows_has_no_part_in_a_split(tmp_path):
    frame = ward_table(PATIENTS).frame
    (tmp_path / "a.csv").write_bytes(_source_csv(frame))
    (tmp_path / "b.csv").write_bytes(_source_csv(frame.iloc[::-1]))
    both = (parts_of(tmp_path / name, WARD) for name in ("a.csv", "b.csv"))
    for one, other in zip(*both, strict=True):
        assert sorted(one) == sorted(other)


def test_a_splits_parts_have_about_their_shares():
    """Each share within five standard deviations of a binomial: false alarm below 1e-5. Seeds fixed."""
    table = ward_table(4000)
    for seed in range(5):
        masks = table.split_masks(SHARES, seed=seed)
        assert np.array_equal(np.sum(masks, axis=0), np.ones(4000))
        for mask, share in zip(masks, SHARES, strict=True):
            assert abs(mask.mean() - share) < 5 * np.sqrt(share * (1 - share) / 4000)


def test_a_patients_rows_stay_together(tmp_path):
    """Five rows a patient: one part has all of them."""
    schema = replace(WARD, patient_id="mrn")
    frame = ward_table(PATIENTS).frame.assign(mrn=[f"mrn-{row // 5}" for row in range(PATIENTS)])
    (tmp_path / "a.csv").write_bytes(_source_csv(frame))
    table = read_table(tmp_path / "a.csv", schema)
    parts = [set(table.patients[mask]) for mask in table.split_masks(SHARES, seed=1)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == PATIENTS // 5


def test_a_sites_statement_on_one_table_is_equal_but_for_its_coarse_figures(answers):
    """What each neighbour signs about the very same synthetic table.

    Verdict and detectable effects are figures of the audit that leave by design, uncharged and coarse.
    """
    table = SyntheticTable(schema=WARD, frame=ward_table(80, seed=5).frame)
    told = []
    for folder, _ in answers.values():
        site = SiteFolder(folder)
        (digest,) = (path.name for path in (folder / "studies").iterdir())
        study = read_study(site, digest)
        statement = state(site, study, audit_candidate(site, study, table))["document"]
        assert statement.pop("ledger_head")
        assert statement.pop("verdict") == statement["audit"].pop("verdict")
        for attack in statement["audit"]["attacks"]:
            assert attack.pop("minimum_detectable_effect") <= 1.0
        told.append(json.dumps(statement, sort_keys=True))
    assert all_equal(told)
