"""Records of visits go the whole way: audited, sealed with both tables, approved, exported, opened again."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_clinic import EVENT, SITE, STUDY, STUDY_DIGEST, make_ledger, policy_text

from synthkit.cli.main import run
from synthkit.cli.seal_records import check_origin_of_records
from synthkit.data.sequence_writing import write_sequences
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.domain.conditions import parse_conditions
from synthkit.domain.documents import schema_to_toml
from synthkit.domain.release import BundleManifest
from synthkit.errors import BundleError, ReleaseRefusedError
from synthkit.privacy.accounting import spend_of
from synthkit.release.candidate import Candidate
from synthkit.release.claims import check_parts
from synthkit.training.sequence_artefact import (
    SequenceModel,
    load_sequence_model,
    new_sequence_generator,
    save_sequence_model,
    synthesize_records,
)

SMALL = {"channels": 8, "hidden": 8, "latent": 3, "layers": 2, "most_visits": 4, "most_codes": 10, "dated": 1}
SETS = ("members", "holdout", "reference")
BOTH = ("--patients", "patients.csv")
RARE = ("--where", "age >= 95 and sex = Female")


def _model(schema, folder, seed=0, kind="eva"):
    """A small model that has learnt nothing, with a receipt as if it had."""
    model = SequenceModel(
        schema=schema,
        generator=new_sequence_generator(kind, schema, SMALL, seed=seed),
        spend=spend_of([EVENT], 1e-5),
        study=STUDY,
        study_digest=STUDY_DIGEST,
        site=SITE,
    )
    save_sequence_model(model, folder)


def _audit(records, patients, target="audit.json"):
    sets = [(f"--{name}", f"{name}.csv", f"--{name}-patients", f"{name}-patients.csv") for name in SETS]
    return run(
        [
            "audit",
            *(word for words in sets for word in words),
            *("--synthetic", records, "--synthetic-patients", patients, "--schema", "schema.toml"),
            *("--policy", "lenient.toml", "--ledger", "ward.ledger", "--model", "model", "--save", target),
        ]
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A model of records, drawn records and an audit that the ledger counted; nothing sealed yet."""
    folder = tmp_path_factory.mktemp("ward")
    process = standard_process(visits_mean=2, most_visits=4)
    everyone = simulate(process, 360, seed=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for place, name in enumerate(SETS):
            part = everyone.take(np.arange(120 * place, 120 * (place + 1)))
            write_sequences(part, f"{name}.csv", patients=f"{name}-patients.csv")
        Path("schema.toml").write_text(schema_to_toml(process.schema), "utf-8")
        Path("lenient.toml").write_text(policy_text(max_advantage="0.6", floor="0.05"), "utf-8")
        _model(process.schema, folder / "model")
        make_ledger(folder / "ward.ledger")
        assert run(["generate", "model", "-n", "100", "--seed", "5", "-o", "records.csv", *BOTH]) == 0
        assert _audit("records.csv", "patients.csv") == 0
        for name, role in (("north", "site"), ("ada", "officer")):
            assert run(["release", "keygen", "--name", name, "--role", role, "-o", "keys"]) == 0
    return folder


@pytest.fixture
def ward(built, tmp_path, monkeypatch):
    folder = tmp_path / "ward"
    shutil.copytree(built, folder)
    monkeypatch.chdir(folder)
    return folder


def seal(synthkit, *more, **changes):
    options = {
        "table": "records.csv",
        "patients": "patients.csv",
        "schema": "schema.toml",
        "model": "model",
        "audit": "audit.json",
        "policy": "lenient.toml",
        "ledger": "ward.ledger",
        "site": "north",
        "key": "keys/north.pem",
        "seed": 5,
        "output": "candidate",
        **changes,
    }
    given = [text for name, value in options.items() if value is not None for text in (f"--{name}", value)]
    return synthkit("release", "seal", *given, *more, "--json")


def exported(synthkit):
    assert seal(synthkit).code == 0
    who = ("--site", "north", "--officer", "ada", "--key", "keys/ada.pem", "--policy", "lenient.toml")
    assert synthkit("release", "approve", "candidate", *who).code == 0
    assert synthkit("release", "export", "candidate", "-o", "ward.synthkit").code == 0


def test_records_go_all_the_way_and_come_out_byte_for_byte(ward, synthkit):
    exported(synthkit)
    verified = synthkit("release", "verify", "ward.synthkit", "--trust", "keys", "--json")
    assert (verified.code, verified.document["verified"]) == (0, True)
    assert verified.document["rows"] == len(Path("records.csv").read_text("utf-8").splitlines()) - 1
    opened = ("release", "open", "ward.synthkit", "--trust", "keys", "-o", "out.csv")
    assert synthkit(*opened, "--patients", "people.csv").code == 0
    assert Path("out.csv").read_bytes() == Path("records.csv").read_bytes()
    assert Path("people.csv").read_bytes() == Path("patients.csv").read_bytes()


def test_opening_half_of_a_release_writes_nothing(ward, synthkit):
    exported(synthkit)
    opened = ("release", "open", "ward.synthkit", "--trust", "keys", "-o", "out.csv")
    alone = synthkit(*opened)
    assert (alone.code, "static columns, too" in alone.error) == (4, True)
    taken = synthkit(*opened, "--patients", "patients.csv")
    assert (taken.code, "the file exists" in taken.error) == (4, True)
    assert not Path("out.csv").exists()


def test_verification_needs_neither_torch_nor_pandas(ward, synthkit):
    exported(synthkit)
    code = (
        "import sys; from synthkit.cli.main import run; "
        "assert run(['release', 'verify', 'ward.synthkit', '--trust', 'keys']) == 0; "
        "print(sorted({'torch', 'pandas', 'scipy', 'numpy.random', 'flwr'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout.splitlines()[-1].replace("'", '"'))) <= {"numpy.random"}


def refused(answer, words, code=1):
    assert (answer.code, words in answer.error) == (code, True), answer.err
    assert not Path("candidate").exists()


def _without_patient(number: int) -> None:
    """Both files without one patient, the others counted anew: a table that was filtered with care."""
    for name in ("records.csv", "patients.csv"):
        header, *rows = Path(name).read_text("utf-8").splitlines(keepends=True)
        kept = []
        for row in rows:
            found, rest = row.split(",", 1)
            if int(found) != number:
                kept.append(f"{int(found) - (int(found) > number)},{rest}")
        Path(name).write_text("".join([header, *kept]), "utf-8")


def _with_another_code() -> None:
    """One code of one visit exchanged for another that this visit does not have."""
    header, *rows = Path("records.csv").read_text("utf-8").splitlines(keepends=True)
    codes = sorted({row.rstrip("\n").rsplit(",", 1)[1] for row in rows})
    start = rows[0].rsplit(",", 1)[0]
    held = {row.rstrip("\n").rsplit(",", 1)[1] for row in rows if row.startswith(f"{start},")}
    other = next(code for code in codes if code and code not in held)
    Path("records.csv").write_text("".join([header, f"{start},{other}\n", *rows[1:]]), "utf-8")


def _with_swapped_people() -> None:
    """The static columns of two patients exchanged; every row of both files is one the model drew."""
    header, *rows = Path("patients.csv").read_text("utf-8").splitlines(keepends=True)
    cells = [row.split(",", 1)[1] for row in rows]
    other = next(place for place, cell in enumerate(cells) if cell != cells[0])
    cells[0], cells[other] = cells[other], cells[0]
    texts = [f"{place},{cell}" for place, cell in enumerate(cells, start=1)]
    Path("patients.csv").write_text("".join([header, *texts]), "utf-8")


EDITS = {
    "a patient left out": lambda: _without_patient(7),
    "one code changed": _with_another_code,
    "two patients' static columns exchanged": _with_swapped_people,
}


@pytest.mark.parametrize("name", EDITS)
def test_records_that_were_touched_are_not_sealed(ward, synthkit, name):
    """Neither under the audit of the clean ones, nor under an audit of their own."""
    EDITS[name]()
    refused(seal(synthkit), "the audit judged another table")
    assert _audit("records.csv", "patients.csv", "own.json") in (0, 2)
    refused(seal(synthkit, audit="own.json"), "not the records that the model draws")


def test_another_models_records_or_another_seed_are_not_sealed(ward, synthkit):
    refused(seal(synthkit, seed=6), "not the records that the model draws")
    shutil.rmtree("model")
    schema = standard_process(visits_mean=2, most_visits=4).schema
    _model(schema, Path("model"), seed=1)
    refused(seal(synthkit), "not the records that the model draws")


def test_static_columns_are_bound_and_cannot_be_left_out(ward, synthkit):
    refused(seal(synthkit, patients=None), "the column is missing", 4)
    shutil.copy("members-patients.csv", "patients.csv")
    assert seal(synthkit).code in (1, 4)
    assert not Path("candidate").exists()


def test_a_table_of_patients_belongs_to_records(clinic, synthkit):
    changes = {"table": "synthetic.csv", "ledger": "heart.ledger", "patients": "members.csv", "seed": 0}
    synthkit("release", "keygen", "--name", "north", "--role", "site", "-o", "keys")
    Path("audit.json").write_text("{}", "utf-8")
    answer = seal(synthkit, **changes)
    assert (answer.code, "belongs to records of visits" in answer.error) == (4, True), answer.err


def test_a_rare_group_is_kept_back_by_the_floor(ward, synthkit):
    """The records are drawn and audited; what the model says of the group decides."""
    assert run(["generate", "model", "-n", "60", *RARE, "-o", "old.csv", "--patients", "old-p.csv"]) == 0
    assert _audit("old.csv", "old-p.csv", "old.json") in (0, 1, 2)
    changes = {"table": "old.csv", "patients": "old-p.csv", "audit": "old.json", "seed": 0}
    answer = seal(synthkit, *RARE, **changes)
    refused(answer, "[rule conditions.")
    refused(seal(synthkit, **changes), "not the records that the model draws")


@pytest.mark.slow
def test_conditions_that_are_common_travel_in_the_manifest(ward, synthkit):
    women = ("--where", "sex = Female")
    assert run(["generate", "model", "-n", "60", *women, "-o", "w.csv", "--patients", "w-p.csv"]) == 0
    assert _audit("w.csv", "w-p.csv", "w.json") in (0, 1, 2)
    changes = {"table": "w.csv", "patients": "w-p.csv", "audit": "w.json", "seed": 0}
    answer = seal(synthkit, *women, **changes)
    assert answer.code == 0, answer.err
    conditions = answer.document["conditions"]
    assert conditions["all_of"] == ["sex = 'Female'"]
    assert 0.3 < conditions["mass"] < 0.7


@pytest.fixture
def of_a_length(ward):
    """60 women of four visits each, and their audit."""
    asked = ("--visits", "4", "--where", "sex = Female")
    assert run(["generate", "model", "-n", "60", *asked, "-o", "v.csv", "--patients", "v-p.csv"]) == 0
    assert _audit("v.csv", "v-p.csv", "v.json") in (0, 1, 2)
    return {"table": "v.csv", "patients": "v-p.csv", "audit": "v.json", "seed": 0, "where": "sex = Female"}


def test_a_length_that_was_asked_for_travels_in_the_manifest(of_a_length, synthkit):
    answer = seal(synthkit, "--visits", "4", **of_a_length)
    assert (answer.code, answer.document["visits"]) == (0, 4), answer.err
    assert "4, as was asked for" in answer.err
    who = ("--site", "north", "--officer", "ada", "--key", "keys/ada.pem", "--policy", "lenient.toml")
    approved = synthkit("release", "approve", "candidate", *who, "--reason", "asked for by the registry")
    assert approved.code == 0, approved.err
    assert synthkit("release", "export", "candidate", "-o", "ward.synthkit").code == 0
    verified = synthkit("release", "verify", "ward.synthkit", "--trust", "keys", "--json")
    assert (verified.code, verified.document["visits"]) == (0, 4)
    read_me = next(Path("candidate").rglob("README.txt")).read_text("utf-8")
    assert "this many visits: 4" in read_me


@pytest.mark.parametrize("given", [(), ("--visits", "3"), ("--visits", "4", "--seed", "1")])
def test_records_of_another_length_than_was_stated_are_not_sealed(of_a_length, synthkit, given):
    refused(seal(synthkit, *given, **of_a_length), "not the records that the model draws")


def test_records_of_the_stated_length_with_one_code_altered_are_not_sealed(of_a_length, synthkit):
    lines = Path("v.csv").read_text("utf-8").splitlines()
    other = next(line.rsplit(",", 1)[1] for line in lines[1:] if line.rsplit(",", 1)[1] not in lines[1])
    lines[1] = f"{lines[1].rsplit(',', 1)[0]},{other}"
    Path("v.csv").write_text("\n".join(lines) + "\n", "utf-8")
    answer = seal(synthkit, "--visits", "4", **of_a_length)
    assert answer.code == 1, answer.err
    assert not Path("candidate").exists()


def test_a_length_beside_a_length_the_model_does_not_know_is_refused(of_a_length, synthkit):
    answer = seal(synthkit, "--visits", "5", **of_a_length)
    assert (answer.code, "1 to 4" in answer.error) == (4, True), answer.err


def test_eva_c_records_of_a_length_are_drawn_again_under_their_conditions(tmp_path):
    schema, where = standard_process(visits_mean=2, most_visits=4).schema, ("sex = Female",)
    _model(schema, tmp_path / "model", kind="eva-c")
    model = load_sequence_model(tmp_path / "model")
    drawn = synthesize_records(
        model, 50, seed=7, conditions=parse_conditions(where, schema), visits=3
    ).records
    stated = check_origin_of_records(drawn, tmp_path / "model", 7, where, visits=3)
    assert stated is not None
    assert stated.conditions == ("sex = 'Female'",)
    for visits, others in ((None, where), (2, where), (3, ())):
        with pytest.raises(ReleaseRefusedError):
            check_origin_of_records(drawn, tmp_path / "model", 7, others, visits=visits)


def test_a_manifest_that_states_another_length_than_its_records_is_refused(ward, synthkit):
    """Sealed by the site's own key, by other means than the command: a recipient counts the visits."""
    assert seal(synthkit).code == 0
    manifest = Candidate.read(Path("candidate")).manifest
    parts = Candidate.read(Path("candidate")).parts
    check_parts(manifest, parts)
    with pytest.raises(BundleError, match="stated number of visits"):
        check_parts(replace(manifest, visits=4), parts)
    for wrong in (0, True, "4", 2.0):
        with pytest.raises(ValueError, match="number of visits"):
            BundleManifest.from_json({**manifest.to_json(), "visits": wrong})
