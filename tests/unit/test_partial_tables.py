"""Partial tables: what counts as unknown, what is refused and how, and that a given cell stays as it was."""

import gzip

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from small_ward import WARD, ward_model, ward_states, ward_table

from synthkit.data.connectors import read_partial, read_synthetic, write_completed
from synthkit.data.encoding import fit_encoding
from synthkit.data.partial import CompletedTable, stack
from synthkit.data.table import SyntheticTable
from synthkit.domain.privacy import EncoderProvenance
from synthkit.domain.schema import Column, Kind, Provenance, Schema
from synthkit.errors import InputError, SchemaError
from synthkit.training.artefact import Model, new_generator
from synthkit.training.synthesis import _drawn_cells, complete, completing

torch.set_num_threads(1)

CANARY = "CANARY-7731"
NAMED = Schema(columns=WARD.columns, name="ward", patient_id="mrn", ignored=("remark",))


def model_for(schema=WARD, generator=None):
    return Model(
        schema=schema,
        generator=generator or ward_model(),
        spend=None,
        encoder_provenance=EncoderProvenance.TRAINED,
        study="s",
        study_digest="0" * 64,
        site="north",
    )


def texts_of(rows, *, hidden=0.4, seed=0):
    """The ward's rows as text in the released format, a share of the cells emptied."""
    table = ward_table(rows, seed=seed)
    frame = SyntheticTable(schema=WARD, frame=table.frame).release_frame()
    return frame.mask(np.random.default_rng(seed).random(frame.shape) < hidden, None)


def completed(path, *, schema=WARD, keep_missing=(), seed=0, copies=1):
    return complete(
        model_for(schema), read_partial(path, schema, keep_missing=keep_missing), seed=seed, copies=copies
    )


def written(tmp_path, frame, name="partial.csv"):
    frame.to_csv(tmp_path / name, index=False)
    return tmp_path / name


def test_given_cells_come_out_to_the_byte(tmp_path):
    """Notations that the schema takes and would not write itself: kept; what is drawn has its format."""
    path = tmp_path / "partial.csv"
    path.write_text(
        "age,creatinine,dose,troponin,stage,admitted,follow_up\n"
        "063,0.9,50,1e2,II,2020-02-03 10:30,\n"
        ",+1.23456,,,,,12.0\n"
        "64.0, 1,0.0,,IV,,\n"
    )
    out = tmp_path / "completed.csv"
    write_completed(completed(path), out)
    given, made = (pd.read_csv(file, dtype=str, keep_default_na=False) for file in (path, out))
    assert tuple(made.columns) == WARD.names
    for name in given:
        known = given[name] != ""
        assert (made[name][known] == given[name][known]).all()
    assert made.loc[1, "age"].isdigit()
    assert made["follow_up"][[0, 2]].str.fullmatch(r"\d+").all()
    assert made["troponin"][[1, 2]].str.fullmatch(r"\d+\.\d").all()
    assert made["admitted"][[1, 2]].str.fullmatch(r"\d{4}-\d{2}-\d{2}").all()
    assert read_synthetic(out, WARD).frame["creatinine"][1] == 1.23456


@pytest.mark.parametrize("name", ["done.csv", "done.csv.gz", "done.parquet"])
def test_every_format_reads_back_with_the_given_values(tmp_path, name):
    path = written(tmp_path, texts_of(300))
    write_completed(completed(path), tmp_path / name)
    back = read_synthetic(tmp_path / name, WARD).frame
    rows = read_partial(path, WARD)
    assert len(back) == 300
    for place, column in enumerate(WARD):
        known = rows.known[:, place]
        assert known.any()
        assert (back[column.name][known] == rows.values[column.name][known]).all()
        if not column.missing:
            assert back[column.name].notna().all()
    assert [file.name for file in tmp_path.glob(".*")] == []


def test_parquet_has_the_types_of_generate_and_double_only_for_a_given_fraction(tmp_path):
    frame = texts_of(50)
    write_completed(completed(written(tmp_path, frame)), tmp_path / "whole.parquet")
    frame.loc[0, "follow_up"] = "12.25"
    write_completed(completed(written(tmp_path, frame)), tmp_path / "fraction.parquet")
    whole, fraction = (
        {field.name: str(field.type) for field in pq.read_schema(tmp_path / name)}
        for name in ("whole.parquet", "fraction.parquet")
    )
    assert (whole["admitted"], whole["age"], whole["creatinine"]) == ("date32[day]", "int64", "double")
    assert whole["sex"] == "string"
    assert fraction == {**whole, "follow_up": "double"}
    assert pd.read_parquet(tmp_path / "fraction.parquet")["follow_up"][0] == 12.25


def test_parquet_in_is_csv_in(tmp_path):
    """The same cells, the same completion."""
    path = written(tmp_path, texts_of(80))
    typed = pd.read_csv(path)
    typed.to_parquet(tmp_path / "partial.parquet")
    one, other = completed(path), completed(tmp_path / "partial.parquet")
    assert np.array_equal(one.given, other.given)
    pd.testing.assert_frame_equal(one.frame, other.frame)


def test_an_absent_column_is_filled_in_every_row(tmp_path):
    frame = texts_of(200).drop(columns=["sex", "dose"])
    made = completed(written(tmp_path, frame))
    assert tuple(made.frame.columns) == WARD.names
    assert set(made.frame["sex"]) == {"Female", "Male"}
    assert made.frame["dose"].between(0, 400).all()
    assert not made.given[:, [WARD.names.index("sex"), WARD.names.index("dose")]].any()


def test_an_empty_cell_is_unknown_unless_it_is_said_to_be_missing(tmp_path):
    """Unknown cells of two columns that may be missing: some are drawn as values, some as missing."""
    frame = texts_of(400)
    frame[["creatinine", "stage"]] = None
    path = written(tmp_path, frame)
    free = completed(path)
    for name in ("creatinine", "stage"):
        assert 0 < free.frame[name].isna().mean() < 1
    kept = completed(path, keep_missing=("stage",))
    assert kept.frame["stage"].isna().all()
    assert (kept.cells["stage"].isna()).all()
    assert 0 < kept.frame["creatinine"].isna().mean() < 1


def test_the_model_is_told_of_a_cell_known_to_be_missing(tmp_path):
    """Where b is missing exactly when a is high, keeping b missing fills a with high values only.

    A model made by hand, in which the two columns share a code; no row can be otherwise.
    """
    columns = (
        Column(name="a", kind=Kind.BINARY, categories=("low", "high")),
        Column(name="b", kind=Kind.BINARY, categories=("no", "yes"), missing=True),
    )
    schema = Schema(columns=columns)
    model = model_of_two_codes(schema)
    path = tmp_path / "partial.csv"
    path.write_text("b\n" + '""\n' * 200)
    rows = read_partial(path, schema, keep_missing=("b",))
    assert set(complete(model, rows, seed=0).frame["a"]) == {"high"}
    free = complete(model, read_partial(path, schema), seed=0).frame
    assert set(free["a"]) == {"low", "high"}
    assert (free["b"].isna() == (free["a"] == "high")).all()


def model_of_two_codes(schema):
    """Code 0: a low and b given; code 1: a high and b missing; to the last bit."""
    small = {"codes": 2, "latent": 1, "hidden_1": 1, "hidden_2": 1, "hidden_3": 1}
    generator = new_generator("medvae", schema, small, seed=0)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.zero_()
        generator.codes[:, 0] = torch.tensor([-1.0, 1.0])
        generator.linear.weight[:, 0] = torch.tensor([-200.0, 200.0, -200.0, -200.0, 200.0])
    return model_for(schema, generator)


def test_all_known_comes_back_as_it_was_and_all_unknown_is_filled(tmp_path):
    frame = texts_of(60, hidden=0.0)
    whole = completed(written(tmp_path, frame), keep_missing=("creatinine", "stage"))
    assert whole.given.all()
    assert whole.to_csv_bytes() == (tmp_path / "partial.csv").read_bytes()
    path = tmp_path / "blank.csv"
    path.write_text(",".join(WARD.names) + "\n" + ("," * (len(WARD) - 1) + "\n") * 60)
    blank = completed(path)
    assert not blank.given.any()
    assert len(blank) == 60
    assert blank.frame["age"].nunique() > 10


def test_one_row(tmp_path):
    made = completed(written(tmp_path, texts_of(1)))
    assert len(made) == 1


def test_copies_stand_one_below_another_and_the_first_is_that_of_one(tmp_path):
    path = written(tmp_path, texts_of(70))
    one, three = completed(path), completed(path, copies=3)
    assert len(three) == 210
    pd.testing.assert_frame_equal(three.cells.head(70), one.cells)
    assert np.array_equal(three.given, np.tile(one.given, (3, 1)))
    parts = [three.cells.iloc[start : start + 70].reset_index(drop=True) for start in (0, 70, 140)]
    known = one.given
    assert all((part.to_numpy()[known] == parts[0].to_numpy()[known]).all() for part in parts)
    assert not parts[1].equals(parts[0])
    assert not parts[2].equals(parts[1])
    with pytest.raises(InputError, match="--copies"):
        completed(path, copies=0)


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    path = written(tmp_path, texts_of(100))
    assert completed(path, seed=5).to_csv_bytes() == completed(path, seed=5).to_csv_bytes()
    assert completed(path, seed=5).to_csv_bytes() != completed(path, seed=6).to_csv_bytes()


def test_the_patient_id_and_what_the_schema_ignores_go_nowhere(tmp_path):
    frame = texts_of(20)
    frame.insert(0, "mrn", [CANARY] * 20)
    frame["remark"] = CANARY
    path = written(tmp_path, frame)
    rows = read_partial(path, NAMED)
    assert rows.dropped == ("mrn", "remark")
    made = complete(model_for(NAMED), rows, seed=0)
    assert CANARY.encode() not in made.to_csv_bytes()
    assert tuple(made.frame.columns) == WARD.names
    for text in (repr(rows), repr(made)):
        assert CANARY not in text
        assert "rows=<private>" in text


BAD = {
    "text where a number belongs": ("age", CANARY, "row 2 (line 3): not a number"),
    "outside the bounds": ("age", "101", "row 2 (line 3): outside the public bounds (within 18 to 100)"),
    "fraction in an integer": ("visits", "1.5", "not a whole number"),
    "not finite": ("dose", "inf", "not a finite number"),
    "unknown category": ("unit", CANARY, "not one of the categories (see categories in the schema)"),
    "malformed date": ("admitted", "2020-13-45", "not a date (write YYYY-MM-DD)"),
    "blank that is not empty": ("sex", " ", "not one of the categories"),
}


@pytest.mark.parametrize(("column", "cell", "words"), BAD.values(), ids=BAD)
def test_a_cell_that_contradicts_the_schema_is_named_by_place_alone(tmp_path, column, cell, words):
    frame = texts_of(5)
    frame.loc[1, column] = cell
    path = written(tmp_path, frame)
    with pytest.raises(SchemaError) as caught:
        read_partial(path, WARD)
    message = str(caught.value)
    assert message.startswith(f"partial.csv: column {column}, row 2 (line 3): ")
    assert words in message
    assert "\n" not in message
    assert CANARY not in message
    assert caught.value.exit_code == 4


def test_wrong_columns_are_refused_with_advice_that_helps(tmp_path):
    frame = texts_of(5)
    frame["weight"] = "80"
    with pytest.raises(SchemaError, match=r"column weight: the column is not in the schema.*leave it out"):
        read_partial(written(tmp_path, frame), WARD)
    with pytest.raises(SchemaError, match="no column of the schema is in the header line") as caught:
        read_partial(written(tmp_path, pd.DataFrame({CANARY: ["1"]})), WARD)
    assert CANARY not in str(caught.value)


def test_a_header_without_rows_is_refused_as_everywhere(tmp_path):
    path = tmp_path / "partial.csv"
    path.write_text(",".join(WARD.names) + "\n")
    with pytest.raises(InputError, match="a header but no rows"):
        read_partial(path, WARD)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("age", "column age: no cell is missing by the schema"),
        ("weight", "no such column"),
        ("stage", "column stage: the column is absent"),
    ],
)
def test_keep_missing_asks_only_what_can_be(tmp_path, name, words):
    path = written(tmp_path, texts_of(5).drop(columns="stage"))
    with pytest.raises(SchemaError, match=words):
        read_partial(path, WARD, keep_missing=(name,))


def test_bought_columns_take_what_they_were_bought_to_take_and_give_it_back(tmp_path):
    """Beyond bought bounds, or in no bought category: the model sees the edge and `other`; the file keeps."""
    columns = (
        Column(
            name="age",
            kind=Kind.INTEGER,
            minimum=30,
            maximum=70,
            edges=(40.0, 50.0, 60.0),
            provenance=Provenance.DP,
            bins=Provenance.DP,
        ),
        Column(name="unit", kind=Kind.CATEGORICAL, categories=("icu", "other"), provenance=Provenance.DP),
        Column(name="sex", kind=Kind.BINARY, categories=("f", "m")),
    )
    schema = Schema(columns=columns)
    path = tmp_path / "partial.csv"
    path.write_text("age,unit\n99,burns\n")
    rows = read_partial(path, schema)
    assert (rows.values["age"][0], rows.values["unit"][0]) == (70, "other")
    made = complete(untrained(schema), rows, seed=0)
    assert made.to_csv_bytes().splitlines()[1][:9] == b"99,burns,"
    write_completed(made, tmp_path / "done.parquet")
    assert pd.read_parquet(tmp_path / "done.parquet").loc[0, ["age", "unit"]].tolist() == [99, "burns"]


def untrained(schema):
    return model_for(schema, new_generator("medvae", schema, {"codes": 5}, seed=0))


def test_rows_of_another_schema_are_not_completed(tmp_path):
    rows = read_partial(written(tmp_path, texts_of(5)), WARD)
    with pytest.raises(InputError, match="another schema"):
        complete(model_for(NAMED), rows, seed=0)


class Repeater:
    """Every drawn cell is the column's first level or minimum."""

    def complete(self, partial, *, seed, copies):  # noqa: ARG002
        low = {c.name: c.minimum if c.is_numeric else c.categories[0] for c in partial.schema}
        drawn = pd.DataFrame({name: [value] * len(partial) for name, value in low.items()})
        return stack([partial.fill(drawn)] * copies)


def test_a_model_may_complete_in_a_way_of_its_own(tmp_path):
    rows = read_partial(written(tmp_path, texts_of(30)), WARD)
    assert isinstance(completing(Repeater()), Repeater)
    made = complete(Repeater(), rows, seed=0, copies=2)
    assert len(made) == 60
    drawn = made.frame["age"][~made.given[:, 0]]
    assert len(drawn)
    assert set(drawn) == {18.0}
    assert (made.cells["creatinine"][~made.given[:, 2]] == "0.20").all()


def test_given_rows_have_no_part_in_where_a_drawn_number_lies():
    """A slope of given doses around a drawn one's bin would make it lean, were they looked at."""
    encoding, place = fit_encoding(WARD), WARD.names.index("dose")
    few = np.tile(ward_states(1), (40, 1))
    few[:, place] = 12
    many = np.concatenate([few, np.tile(few[:1], (3000, 1))])
    many[len(few) :, place] = np.repeat([11, 12, 13], [500, 1000, 1500])
    drawn = []
    for states in (few, many):
        is_drawn = np.zeros(states.shape, dtype=bool)
        is_drawn[: len(few), place] = True
        cells = _drawn_cells(encoding, states, is_drawn, np.random.default_rng(0))
        drawn.append(cells["dose"][: len(few)])
        assert cells["dose"].notna().sum() == len(few)
    assert drawn[0].nunique() > 10
    assert (drawn[0] == drawn[1]).all()
    leaning = encoding.decode(many, np.random.default_rng(0)).frame["dose"][: len(few)]
    assert (leaning != drawn[0]).any()


def test_a_completed_table_is_no_synthetic_table(tmp_path):
    """By type: it has no digest, which is what an audit judges and a release seals."""
    made = completed(written(tmp_path, texts_of(5)))
    assert isinstance(made, CompletedTable)
    assert not isinstance(made, SyntheticTable)
    assert not hasattr(made, "digest")


def test_cells_with_commas_quotes_and_line_breaks_survive(tmp_path):
    odd = ('say "yes"', "a,b", "two\nlines", "plain")
    schema = Schema(
        columns=(
            Column(name="note", kind=Kind.CATEGORICAL, categories=odd),
            Column(name="sex", kind=Kind.BINARY, categories=("f", "m")),
        )
    )
    path = written(tmp_path, pd.DataFrame({"note": odd, "sex": [None] * 4}))
    write_completed(complete(untrained(schema), read_partial(path, schema), seed=0), tmp_path / "o.csv.gz")
    assert gzip.decompress((tmp_path / "o.csv.gz").read_bytes()).startswith(b"note,sex\n")
    back = read_partial(tmp_path / "o.csv.gz", schema)
    assert tuple(back.cells["note"]) == odd
    assert back.known.all()
