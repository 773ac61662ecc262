"""A schema document is read strictly: what is unknown, missing or wrong is refused in one line."""

import pytest

from synthkit.domain.documents import schema_from_toml, schema_to_toml
from synthkit.domain.schema import Column, Kind, Provenance, Scale, Schema
from synthkit.errors import InputError, SchemaError

GOOD = """
[table]
name = "ward"
unit = "patient"
patient_id = "pid"
visit = "visit_no"
ignore = ["free text"]

[columns.age]
kind = "integer"
minimum = 0
maximum = 120
unit = "years"

[columns."odd.name (x)"]
kind = "numeric"
minimum = -1.5
maximum = 1e3
decimals = 3
scale = "log"
spikes = [0, 0.5]
missing = true
provenance = "dp"

[columns.sex]
kind = "binary"
categories = ["Female", "Male"]
role = "target"

[columns.admitted]
kind = "datetime"
minimum = 1970-01-02
maximum = "2000-01-01"
spikes = [1970-01-03]

[columns.dx]
kind = "code"

[columns.grade]
kind = "ordinal"
categories = [1, 2, 3]
provenance = "data"
"""


def test_every_key_reaches_its_field():
    schema = schema_from_toml(GOOD, "s.toml")
    assert (schema.name, schema.patient_id, schema.visit) == ("ward", "pid", "visit_no")
    assert schema.ignored == ("free text",)
    assert schema.names == ("age", "odd.name (x)", "sex", "admitted", "dx", "grade")
    odd = schema.column("odd.name (x)")
    assert (odd.minimum, odd.maximum, odd.decimals, odd.spikes) == (-1.5, 1000.0, 3, (0.0, 0.5))
    assert (odd.scale, odd.missing, odd.provenance) == (Scale.LOG, True, Provenance.DP)
    admitted = schema.column("admitted")
    assert (admitted.minimum, admitted.maximum, admitted.spikes) == (1.0, 10957.0, (2.0,))
    assert schema.column("grade").categories == ("1", "2", "3")
    assert schema.column("sex").target
    assert not schema.column("age").target
    assert schema.not_public() == ("grade",)


def test_writing_and_reading_gives_the_same_schema_and_digest():
    schema = schema_from_toml(GOOD, "s.toml")
    again = schema_from_toml(schema_to_toml(schema), "again")
    assert again == schema
    assert again.digest == schema.digest


def test_hard_names_and_categories_survive_the_round_trip():
    column = Column(
        name='a "b" \\ é = # [x]', kind=Kind.CATEGORICAL, categories=("<=50K", 'q"t', "tab\there", "del\x7f")
    )
    schema = Schema(columns=(column,), ignored=("x y",))
    assert schema_from_toml(schema_to_toml(schema), "again") == schema


def test_whole_and_decimal_bounds_give_one_digest():
    whole = schema_from_toml('[columns.a]\nkind="integer"\nminimum=0\nmaximum=9\n', "s")
    decimal = schema_from_toml('[columns.a]\nkind="integer"\nminimum=0.0\nmaximum=9.0\n', "s")
    assert whole.digest == decimal.digest


COLUMN = '[columns.age]\nkind = "integer"\nminimum = 0\nmaximum = 9\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (COLUMN + "minimun = 1", ["minimun", "[columns.age]", "not a known key"]),
        ("[tabel]\n" + COLUMN, ["tabel", "not a known key"]),
        ('[table]\npatient = "x"\n' + COLUMN, ["patient", "[table]"]),
        ('[table]\nunit = "visit"\n' + COLUMN, ["unit", "patient"]),
        ("[table]\n", ["columns", "missing"]),
        ("[columns]\n", ["no columns"]),
        ("columns = 3", ["columns", "table"]),
        ("[columns.age]\nminimum = 0", ["kind", "missing", "[columns.age]"]),
        ('[columns.age]\nkind = "intger"', ["kind", "integer"]),
        ('[columns.age]\nkind = "integer"\nminimum = 0', ["column age", "minimum and maximum"]),
        ('[columns.age]\nkind = "integer"\nminimum = "0"\nmaximum = 9', ["minimum", "number"]),
        ('[columns.age]\nkind = "integer"\nminimum = true\nmaximum = 9', ["minimum", "number"]),
        ('[columns.age]\nkind = "numeric"\nminimum = -inf\nmaximum = 9', ["minimum", "finite"]),
        ('[columns.age]\nkind = "numeric"\nminimum = nan\nmaximum = 9', ["minimum", "finite"]),
        ('[columns.age]\nkind = "integer"\nminimum = 0.5\nmaximum = 9', ["minimum", "whole"]),
        ('[columns.age]\nkind = "integer"\nminimum = 9\nmaximum = 1', ["column age", "not below"]),
        (COLUMN + "decimals = 2", ["decimals", "0"]),
        (COLUMN + 'missing = "no"', ["missing", "true or false"]),
        (COLUMN + 'provenance = "guess"', ["provenance", "public"]),
        (COLUMN + 'role = "feature"', ["role", "target"]),
        (COLUMN + "spikes = 3", ["spikes", "list"]),
        (COLUMN + "spikes = [11]", ["spike", "column age"]),
        (COLUMN + 'categories = ["a"]', ["categories", "integer"]),
        ('[columns.s]\nkind = "categorical"\nminimum = 0\ncategories = ["a"]', ["minimum", "categorical"]),
        ('[columns.s]\nkind = "categorical"\ncategories = "a"', ["categories", "list"]),
        ('[columns.s]\nkind = "categorical"\ncategories = ["a", 1]', ["categories", "texts"]),
        ('[columns.s]\nkind = "categorical"\ncategories = [true]', ["categories", "texts"]),
        ('[columns.s]\nkind = "binary"\ncategories = ["a"]', ["two categories"]),
        ('[columns.d]\nkind = "datetime"\nminimum = 3\nmaximum = 9', ["minimum", "date"]),
        ('[columns.d]\nkind = "datetime"\nminimum = "1999-13-01"\nmaximum = 2000-01-01', ["minimum", "date"]),
        ('[table]\nignore = ["age"]\n' + COLUMN, ["ignore"]),
        ('[table]\npatient_id = "age"\n' + COLUMN, ["patient id"]),
        ('[columns."a\\nb"]\nkind = "code"', ["one line"]),
    ],
)
def test_a_wrong_schema_is_refused_with_its_place(text, words):
    with pytest.raises(SchemaError) as caught:
        schema_from_toml(text, "s.toml")
    message = str(caught.value)
    assert message.startswith("s.toml")
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("text", ["[columns.age\n", "a = 1\na = 2", "x = [1,\n\n", "[a]\nk = 'v"])
def test_a_syntax_error_names_its_line(text):
    with pytest.raises(InputError, match=r"^s\.toml: not valid TOML: .*line|end of document") as caught:
        schema_from_toml(text, "s.toml")
    assert "\n" not in str(caught.value)
