"""A drafted schema fits its table, guesses kinds sensibly, and calls nothing public."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synthkit.cli.main import run
from synthkit.data.bundled import example
from synthkit.data.checking import check_table
from synthkit.data.inference import LOG_SKEWNESS, Inference, infer_schema
from synthkit.domain.documents import schema_from_toml, schema_to_toml
from synthkit.domain.schema import Kind, Provenance, Scale
from synthkit.errors import InputError, SchemaError

ROWS = 400


@pytest.fixture(scope="module")
def drafted(tmp_path_factory) -> Inference:
    rng = np.random.default_rng(1)
    skewed = np.where(rng.random(ROWS) < 0.5, 0, rng.integers(1, 40, ROWS) ** 4)
    frame = pd.DataFrame(
        {
            "patient_nbr": rng.integers(10**6, 10**7, ROWS),
            "encounter_id": rng.permutation(ROWS) + 5000,
            "name_text": [f"CANARY note {i}" for i in range(ROWS)],
            "empty": [""] * ROWS,
            "constant": ["No"] * ROWS,
            "one_number": [7.5] * ROWS,
            "sex": rng.choice(["M", "F"], ROWS),
            "flag": rng.choice(["1.0", "0.0", ""], ROWS),
            "grade": rng.choice([1, 2, 10], ROWS),
            "age": rng.integers(20, 95, ROWS),
            "bmi": np.round(rng.normal(25, 4, ROWS), 1),
            "gain": skewed,
            "hours": np.where(rng.random(ROWS) < 0.4, 40, rng.integers(1, 99, ROWS)),
            "seen": pd.to_datetime("2001-01-01") + pd.to_timedelta(rng.integers(0, 900, ROWS), "D"),
            "zip": rng.choice(["01", "02", "10"], ROWS),
            "icd": [f"{i}.0X" for i in rng.integers(0, 80, ROWS)],
            "lab": [*map(str, range(100, 100 + ROWS - 1)), "hemolysed"],
        }
    )
    path = tmp_path_factory.mktemp("infer") / "ward.csv"
    frame.to_csv(path, index=False)
    result = infer_schema(path)
    assert check_table(path, result.schema).is_valid
    return result


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("constant", Kind.CATEGORICAL),
        ("one_number", Kind.CATEGORICAL),
        ("sex", Kind.BINARY),
        ("flag", Kind.BINARY),
        ("grade", Kind.ORDINAL),
        ("age", Kind.INTEGER),
        ("bmi", Kind.NUMERIC),
        ("gain", Kind.INTEGER),
        ("seen", Kind.DATETIME),
        ("zip", Kind.CATEGORICAL),
        ("icd", Kind.CODE),
    ],
)
def test_kinds(drafted, name, kind):
    assert drafted.schema.column(name).kind is kind


def test_identifiers_free_text_and_empty_columns_are_left_out_with_a_note(drafted):
    schema = drafted.schema
    assert schema.patient_id == "patient_nbr"
    assert set(schema.ignored) == {"encounter_id", "name_text", "empty", "lab"}
    notes = "\n".join(drafted.notes)
    for name in ("patient_nbr", *schema.ignored):
        assert f"Column {name} " in notes
    assert "CANARY" not in notes


def test_nothing_is_called_public(drafted):
    assert {column.provenance for column in drafted.schema} == {Provenance.DATA}
    assert drafted.schema.not_public() == drafted.schema.names


def test_details(drafted):
    column = drafted.schema.column
    assert column("bmi").decimals == 1
    assert column("flag").missing
    assert not column("sex").missing
    assert column("grade").categories == ("1", "2", "10")
    assert column("zip").categories == ("01", "02", "10")
    assert (column("gain").scale, column("gain").spikes) == (Scale.LOG, (0.0,))
    assert (column("hours").scale, column("hours").spikes) == (Scale.LINEAR, (40.0,))
    assert column("age").spikes == ()


def test_a_draft_survives_its_document(drafted):
    assert schema_from_toml(schema_to_toml(drafted.schema), "draft") == drafted.schema


def test_a_heap_at_zero_in_a_spread_column_is_a_spike(tmp_path):
    values = [0] * 100 + list(range(1, 101))
    pd.DataFrame({"gain": values, "x": ["a", "b"] * 100}).to_csv(tmp_path / "a.csv", index=False)
    assert infer_schema(tmp_path / "a.csv").schema.column("gain").spikes == (0.0,)


def test_the_patient_id_can_be_named_and_has_to_exist(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("who,x\nu,1\nv,2\nw,3\n")
    result = infer_schema(path, patient_id="who")
    assert (result.schema.patient_id, result.schema.names) == ("who", ("x",))
    assert infer_schema(path).schema.patient_id is None
    assert any("each row counts as one patient" in note for note in infer_schema(path).notes)
    with pytest.raises(InputError, match="no column whom"):
        infer_schema(path, patient_id="whom")
    path.write_text("pid\nu\nv\nw\n")
    with pytest.raises(SchemaError, match="no column is left"):
        infer_schema(path)


@pytest.mark.parametrize("name", ["diabetes", "heart"])
def test_a_draft_of_each_bundled_file_fits_it(name):
    for path in example(name).sites.values():
        assert check_table(path, infer_schema(path).schema).is_valid


def test_a_number_mixed_with_a_word_is_pointed_out(tmp_path):
    path = Path(tmp_path / "a.csv.gz")
    rows = "".join(f"{i % 30},{i}\n" for i in range(300)) + "unknown,301\n"
    path.write_bytes(gzip.compress(f"lab,x\n{rows}".encode()))
    result = infer_schema(path)
    assert result.schema.column("lab").kind is Kind.CATEGORICAL
    assert any("lab mixes numbers and texts" in note for note in result.notes)
    assert not any("unknown" in note for note in result.notes)


def test_a_long_tail_is_drafted_by_the_stated_rule_and_put_up_for_review(tmp_path):
    """Non-negative, moment skewness above 2; what is below 0, or merely spread, stays linear."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "troponin": np.round(rng.lognormal(2, 1.2, ROWS), 1),
            "balance": np.round(rng.lognormal(2, 1.2, ROWS) - 1.0, 1),
            "uniform": np.round(rng.uniform(0, 100, ROWS), 1),
            "waiting": np.round(rng.exponential(5, ROWS) ** 0.5, 2),
        }
    )
    frame.to_csv(tmp_path / "tails.csv", index=False)
    draft = infer_schema(tmp_path / "tails.csv")
    assert {column.name: column.scale for column in draft.schema} == {
        "troponin": Scale.LOG,
        "balance": Scale.LINEAR,
        "uniform": Scale.LINEAR,
        "waiting": Scale.LINEAR,
    }
    (note,) = (note for note in draft.notes if "scale" in note)
    assert "'troponin'" in note or "troponin" in note
    assert "skewness above 2" in note
    assert "troponin" in draft.schema.not_public()
    plain = infer_schema_of_linear(tmp_path, frame.drop(columns="troponin"))
    assert not any("scale" in note for note in plain.notes)


def test_the_rule_is_told_by_the_help(capsys):
    assert run(["schema", "infer", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "never below 0 and whose moment skewness exceeds 2" in said
    assert LOG_SKEWNESS == 2


def infer_schema_of_linear(folder: Path, frame: pd.DataFrame) -> Inference:
    frame.to_csv(folder / "linear.csv", index=False)
    return infer_schema(folder / "linear.csv")
