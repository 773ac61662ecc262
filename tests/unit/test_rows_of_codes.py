"""What a code list is bought from: one row a code, whatever lies in which file."""

from dataclasses import replace

import numpy as np
import pytest

from synthkit.data.purchase import Purchase, buy
from synthkit.data.sequence_reading import read_code_rows, read_sequences
from synthkit.domain.schema import Column, Kind, Provenance, Schema
from synthkit.errors import SchemaError

CODE = Column(name="code", kind=Kind.CODE, missing=True, provenance=Provenance.DP)
AGE = Column(name="age", kind=Kind.INTEGER, provenance=Provenance.DP)
SITE = Column(name="site", kind=Kind.CATEGORICAL, categories=("east", "west"))
DRAFT = Schema(columns=(CODE, AGE, SITE), patient_id="patient", visit="visit", time="day", name="ward")
LONG = "patient,visit,day,code\nb,1,0,I10\nb,2,9,E11\na,1,3,I10\na,1,3,\nb,2,9,I10\n"
PEOPLE = "patient,age,site\na,70,west\nb,41,east\n"


@pytest.fixture
def ward(tmp_path):
    (tmp_path / "records.csv").write_text(LONG, "utf-8")
    (tmp_path / "patients.csv").write_text(PEOPLE, "utf-8")
    cells = dict(line.split(",", 1) for line in PEOPLE.splitlines())
    joined = [f"{line},{cells[line.split(',')[0]]}" for line in LONG.splitlines()]
    (tmp_path / "joined.csv").write_text("\n".join(joined) + "\n", "utf-8")
    return tmp_path


def test_rows_are_those_of_the_file_with_their_patients_columns(ward):
    apart = read_code_rows(ward / "records.csv", DRAFT, patients=ward / "patients.csv")
    joined = read_code_rows(ward / "joined.csv", DRAFT)
    for table in (apart, joined):
        assert table.frame["code"].tolist() == ["I10", "E11", "I10", None, "I10"]
        assert table.frame["age"].tolist() == [41, 41, 70, 70, 41]
        assert table.frame["site"].tolist() == ["east", "east", "west", "west", "east"]
        assert len(set(table.patients[[0, 1, 4]])) == len(set(table.patients[[2, 3]])) == 1
        assert table.patient_count == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LONG.replace("E11", "E\u200b11"), "not on one printable line"),
        (LONG.replace("b,2,9,E11", ",2,9,E11"), "no patient id"),
        (LONG.replace("a,1", "c,1"), "not in patients.csv"),
        (LONG.replace("code", "icd"), "the column is missing"),
    ],
)
def test_rows_that_are_none_are_refused_without_quoting_a_cell(ward, text, words):
    (ward / "records.csv").write_text(text, "utf-8")
    with pytest.raises(SchemaError, match=words) as refusal:
        read_code_rows(ward / "records.csv", DRAFT, patients=ward / "patients.csv")
    assert "E11" not in str(refusal.value)


def test_codes_of_a_public_list_stay_checked_while_a_bound_is_bought(ward):
    public = replace(CODE, categories=("I10",), provenance=Provenance.PUBLIC)
    draft = replace(DRAFT, columns=(public, AGE, SITE))
    with pytest.raises(SchemaError, match="not a listed code"):
        read_code_rows(ward / "records.csv", draft, patients=ward / "patients.csv")


def test_a_code_that_was_not_bought_reads_as_other(ward):
    bought = replace(CODE, categories=("I10", "other"))
    age = replace(AGE, provenance=Provenance.PUBLIC, minimum=0, maximum=120)
    schema = replace(DRAFT, columns=(bought, age, SITE))
    records = read_sequences(ward / "records.csv", schema, patients=ward / "patients.csv")
    assert records.dense().tolist() == [[True, False], [True, False], [True, True]]


def test_what_a_draft_says_of_its_codes_is_ignored(ward):
    """A list that the purchase is to replace could have been read off the rows."""
    told = replace(DRAFT, columns=(replace(CODE, categories=("SECRET",)), AGE, SITE))
    purchase = Purchase(draft=told.blank, noise_multiplier=1.0, failure_delta=1e-6)
    assert purchase.draft.code.categories == ()
    rng = np.random.default_rng(1)
    lines = [f"{n},1,0,I10,{rng.integers(20, 90)},east" for n in range(300)]
    (ward / "many.csv").write_text("patient,visit,day,code,age,site\n" + "\n".join(lines) + "\n", "utf-8")
    completed = buy(read_code_rows(ward / "many.csv", told), purchase)
    assert completed.code.categories == ("I10", "other")
    assert not completed.to_buy()
    assert 0 <= completed.column("age").minimum < completed.column("age").maximum <= 128
