"""A code list and a longitudinal schema say one thing, and survive being written down."""

import re

import pytest

from synthkit.domain.documents import schema_from_toml, schema_to_toml
from synthkit.domain.schema import Column, Kind, Provenance, Schema
from synthkit.domain.vocabulary import CodeType, Vocabulary
from synthkit.errors import SchemaError

WARD = """
[table]
patient_id = "patient"
visit = "visit"
time = "day"

[columns.code]
kind = "code"

[columns.code.codes]
diagnosis = ["E11", "I10"]
drug = ["A10BA02"]

[columns.sex]
kind = "binary"
categories = ["Female", "Male"]
"""


def test_a_longitudinal_schema_knows_its_parts():
    schema = schema_from_toml(WARD, "ward.toml")
    assert schema.is_longitudinal
    assert schema.time == "day"
    assert schema.code.name == "code"
    assert schema.vocabulary.codes == ("E11", "I10", "A10BA02")
    assert [schema.vocabulary.of_type(kind) for kind in CodeType][:3] == [range(2), range(2, 3), range(0)]
    assert schema.vocabulary.places["A10BA02"] == 2
    assert schema.statics is not None
    assert schema.statics.names == ("sex",)


def test_it_survives_toml_and_json():
    schema = schema_from_toml(WARD, "ward.toml")
    assert schema_from_toml(schema_to_toml(schema), "again") == schema
    assert Schema.from_json(schema.to_json()) == schema
    assert Vocabulary.from_json(schema.vocabulary.to_json()) == schema.vocabulary


def test_the_order_and_the_types_are_part_of_the_digest():
    plain = Vocabulary(codes=("a", "b"), types=(CodeType.DRUG,) * 2)
    others = [
        Vocabulary(codes=("b", "a"), types=plain.types),
        Vocabulary(codes=plain.codes, types=(CodeType.DIAGNOSIS,) * 2),
        Vocabulary(codes=("a",), types=(CodeType.DRUG,)),
    ]
    assert plain.digest not in {other.digest for other in others}


def test_documents_of_flat_tables_are_what_they_were():
    """A schema without times and types has no key for them, so that no older signature breaks."""
    flat = Schema(columns=(Column(name="dx", kind=Kind.CODE, categories=("1", "2")),))
    assert "time" not in flat.to_json()
    assert "types" not in flat.columns[0].to_json()
    assert not flat.is_longitudinal


def test_ten_thousand_codes_are_a_code_list():
    codes = tuple(f"C{number:05}" for number in range(10_000))
    schema = Schema(
        columns=(Column(name="code", kind=Kind.CODE, categories=codes),), patient_id="p", visit="v"
    )
    assert len(schema.vocabulary) == 10_000
    assert set(schema.vocabulary.types) == {CodeType.UNTYPED}


def test_a_list_still_to_be_bought_is_forgotten_with_its_types():
    column = Column(
        name="code",
        kind=Kind.CODE,
        categories=("a", "b"),
        types=(CodeType.DRUG,) * 2,
        provenance=Provenance.DP,
    )
    assert (column.blank.categories, column.blank.types) == ((), ())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('["E11", "I10"]', '["E11", "E11"]', "column code: a code is listed twice"),
        ('["A10BA02"]', '["E11"]', "prefix it by type"),
        ('["A10BA02"]', '[""]', "empty or not on one line"),
        ("drug =", "drugs =", r"drugs is not a known key \(known here: diagnosis, drug"),
        ('kind = "code"', 'kind = "categorical"', "stands in place of categories in a column of kind code"),
        ('kind = "code"\n', 'kind = "code"\ncategories = ["x"]\n', "stands in place of categories"),
        ('time = "day"', 'time = "sex"', "column sex: the time column has another role too"),
        ('visit = "visit"\n', "", "column day: a time belongs to a longitudinal table"),
    ],
)
def test_contradictions_are_refused(old, new, words):
    assert old in WARD
    with pytest.raises(SchemaError, match=words) as refusal:
        schema_from_toml(WARD.replace(old, new), "ward.toml")
    assert "\n" not in str(refusal.value)
    assert re.match(r"ward\.toml: ", str(refusal.value))


def test_types_that_do_not_stand_together_are_refused():
    with pytest.raises(SchemaError, match="sort the list by type"):
        Vocabulary(codes=("a", "b", "c"), types=(CodeType.DRUG, CodeType.DIAGNOSIS, CodeType.DRUG))


def test_a_flat_schema_has_no_vocabulary():
    with pytest.raises(SchemaError, match="not of a longitudinal table"):
        _ = Schema(columns=(Column(name="dx", kind=Kind.CODE, categories=("1", "2")),)).vocabulary
