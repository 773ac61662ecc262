"""What a draft may leave open, what a purchase fills in, and what both look like on paper."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_ward import WARD, ward_table

from synthkit.data.connectors import read_table
from synthkit.data.encoding import fit_encoding
from synthkit.data.purchase import Purchase, buy, conform
from synthkit.domain.canonical import canonical_json
from synthkit.domain.conditions import allowed, parse_conditions
from synthkit.domain.documents import schema_from_toml, schema_to_toml
from synthkit.domain.privacy import GaussianEvent, GaussianThresholdEvent
from synthkit.domain.schema import OTHER, Column, Kind, Provenance, Scale, Schema
from synthkit.errors import ConditionError, InputError, SchemaError
from synthkit.privacy.accounting import admission_epsilon, reported_epsilon
from synthkit.training.planning import effort_for, plan_for, purchase_for

DRAFT = """
[columns.age]
kind = "integer"
provenance = "dp"

[columns.dose]
kind = "numeric"
minimum = 0
maximum = 400
bins = "dp"

[columns.unit]
kind = "categorical"
provenance = "dp"
missing = false

[columns.sex]
kind = "binary"
categories = ["Female", "Male"]
"""
DONE = """
[columns.age]
kind = "integer"
minimum = 16
maximum = 127
edges = [30, 50, 71]
spikes = [65]
missing = true
provenance = "dp"

[columns.admitted]
kind = "datetime"
minimum = 2020-01-01
maximum = 2024-01-01
edges = [2021-06-01, 2022-01-01]
provenance = "public"
bins = "dp"

[columns.lactate]
kind = "numeric"
minimum = 0
maximum = 20
edges = [0.5, 2, 4]

[columns.unit]
kind = "categorical"
categories = ["icu", "ward", "other"]
missing = false
provenance = "dp"
"""


def test_a_draft_leaves_open_what_it_asks_to_buy():
    schema = schema_from_toml(DRAFT, "draft")
    assert schema.to_buy() == ("age", "dose", "unit")
    assert schema.bought() == ()
    assert (schema.column("age").missing, schema.column("unit").missing) == (True, False)
    assert schema.column("dose").provenance is Provenance.PUBLIC


@pytest.mark.parametrize("text", [DRAFT, DONE])
def test_drafts_and_completed_schemas_survive_the_round_trip(text):
    schema = schema_from_toml(text, "s")
    assert schema_from_toml(schema_to_toml(schema), "again") == schema
    assert Schema.from_json(schema.to_json()).digest == schema.digest


def test_a_completed_schema_is_told_from_a_draft():
    schema = schema_from_toml(DONE, "s")
    assert schema.bought() == ("age", "admitted", "unit")
    assert schema.to_buy() == ()
    assert schema.column("lactate").edges == (0.5, 2.0, 4.0)


def test_a_schema_without_edges_has_the_digest_it_always_had():
    assert "edges" not in canonical_json(WARD.to_json()).decode()
    assert "bins" not in canonical_json(WARD.to_json()).decode()
    assert WARD.digest == "787723a7e6dc885c4584fd2a7f6ffa19cc60b5227b06433b2466244d5bb246e2"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("edges = [30, 50, 71]", "edges = [30, 50, 50]", "ascend"),
        ("edges = [30, 50, 71]", "edges = [16, 50]", "ascend"),
        ("edges = [30, 50, 71]", "edges = [30, 128]", "ascend"),
        ("edges = [30, 50, 71]", "edges = [30, 50.5]", "whole"),
        ("minimum = 16\n", "", "minimum and maximum are missing"),
        ('bins = "dp"', 'bins = "data"', "allowed words"),
        ('kind = "categorical"', 'kind = "binary"', "cannot be bought"),
        ('provenance = "dp"', 'provenance = "dp"\nedges = [1]', "does not belong"),
    ],
)
def test_contradictions_are_refused_in_one_line(old, new, words):
    place = DONE.rindex(old) if "edges = [1]" in new else DONE.index(old)
    with pytest.raises(InputError, match=words) as caught:
        schema_from_toml(DONE[:place] + new + DONE[place + len(old) :], "s")
    assert "\n" not in str(caught.value)


def test_what_a_draft_says_in_place_of_a_purchase_is_not_believed():
    """A person turns "data" into "dp": bounds, levels, scale and spikes read off the rows must not stay."""
    read_off = Schema(
        columns=(
            Column(
                name="x",
                kind=Kind.INTEGER,
                minimum=3,
                maximum=977,
                scale=Scale.LOG,
                spikes=(77.0,),
                provenance=Provenance.DP,
            ),
            Column(name="c", kind=Kind.CATEGORICAL, categories=("a", "rare"), provenance=Provenance.DP),
        )
    )
    bare = Schema(
        columns=(
            Column(name="x", kind=Kind.INTEGER, provenance=Provenance.DP),
            Column(name="c", kind=Kind.CATEGORICAL, provenance=Provenance.DP),
        )
    )
    assert read_off.to_buy() == ("x", "c")
    assert read_off.blank == bare
    assert purchase_for(read_off, target_epsilon=1, delta=1e-5) == purchase_for(
        bare, target_epsilon=1, delta=1e-5
    )


def test_a_purchase_is_two_events_whose_noise_each_histogram_shares():
    """Three histograms (age: bounds and quantiles; dose: quantiles) and one list of names."""
    purchase = Purchase(draft=schema_from_toml(DRAFT, "d"), noise_multiplier=10.0, failure_delta=1e-8)
    numbers, names = purchase.events
    assert isinstance(numbers, GaussianEvent)
    assert isinstance(names, GaussianThresholdEvent)
    assert numbers.noise_multiplier == pytest.approx(10 * (4 / 3) ** 0.5, abs=0.01)
    assert names.noise_multiplier == pytest.approx(10 * (4 / 1) ** 0.5, abs=0.01)
    assert numbers.noise_multiplier**-2 + names.noise_multiplier**-2 <= 10.0**-2
    assert names.failure_delta == 1e-8


@pytest.mark.parametrize("epsilon", [0.05, 0.3, 2.0])
def test_a_purchase_keeps_to_its_target(epsilon):
    events = purchase_for(schema_from_toml(DRAFT, "d"), target_epsilon=epsilon, delta=1e-5).events
    assert reported_epsilon(events, 1e-5) <= admission_epsilon(events, 1e-5) <= epsilon


def test_a_plan_leaves_room_for_what_was_bought():
    bought = purchase_for(schema_from_toml(DRAFT, "d"), target_epsilon=0.3, delta=1e-5).events
    effort = effort_for(5000)
    alone = plan_for("medvae-sgd", effort, target_epsilon=3, delta=1e-5)
    beside = plan_for("medvae-sgd", effort, target_epsilon=3, delta=1e-5, history=bought)
    assert beside.noise_multiplier > alone.noise_multiplier
    assert admission_epsilon((*bought, *beside.total_events()), 1e-5) <= 3
    assert admission_epsilon((*bought, *alone.total_events()), 1e-5) > 3


@pytest.mark.parametrize("text", [DONE, DRAFT.replace('provenance = "dp"', "").replace('bins = "dp"', "")])
def test_nothing_to_buy_is_said(text):
    if text is not DONE:
        text = text.replace('kind = "integer"', 'kind = "integer"\nminimum = 0\nmaximum = 9').replace(
            "missing = false", 'categories = ["a"]'
        )
    with pytest.raises(InputError, match="leaves nothing"):
        purchase_for(schema_from_toml(text, "s"), target_epsilon=1, delta=1e-5)


def test_a_schema_is_bought_in_one_piece():
    mixed = schema_from_toml(DONE + '\n[columns.more]\nkind = "integer"\nprovenance = "dp"\n', "s")
    with pytest.raises(InputError, match="bought already"):
        purchase_for(mixed, target_epsilon=1, delta=1e-5)


def test_bought_edges_are_the_encodings_edges():
    done = schema_from_toml(DONE, "s")
    age, admitted, lactate, _ = fit_encoding(done).columns
    assert age.edges.tolist() == [15.5, 29.5, 49.5, 70.5, 127.5]
    assert admitted.edges.size == 4
    assert np.allclose(lactate.edges, [0, 0.495, 1.995, 3.995, 20])
    assert lactate.encode(pd.Series([0.0, 0.49, 0.5, 1.99, 2.0, 20.0])).tolist() == [0, 0, 1, 1, 2, 3]


def test_a_draft_cannot_be_encoded_or_read_as_if_complete(tmp_path):
    draft = schema_from_toml(DRAFT, "d")
    (tmp_path / "t.csv").write_text("age,dose,unit,sex\n1,2,x,Male\n")
    for use in (lambda: fit_encoding(draft), lambda: read_table(tmp_path / "t.csv", draft)):
        with pytest.raises(SchemaError, match="still to be bought"):
            use()


def test_reading_with_a_completed_schema_clamps_and_maps_and_equals_conforming(tmp_path):
    """Public columns refuse such rows; a bought one is known to be too narrow for some patients."""
    path = tmp_path / "t.csv"
    path.write_text(
        "age,admitted,lactate,unit\n5,2020-02-01,1,ICU\n500,2023-01-01,2.5,ward\n,2022-01-01,3,1.0\n"
    )
    done = schema_from_toml(DONE, "s")
    draft = replace(
        done, columns=tuple(replace(c, edges=(), categories=()) if c.is_bought else c for c in done)
    )
    table = read_table(path, done)
    assert table.frame["age"].tolist()[:2] == [16, 127]
    assert table.frame["age"].isna().tolist() == [False, False, True]
    assert table.frame["unit"].tolist() == [OTHER, "ward", OTHER]
    assert table.frame.equals(conform(read_table(path, draft, is_draft=True), done).frame)
    path.write_text("age,admitted,lactate,unit\n5,2020-02-01,21,icu\n")
    with pytest.raises(SchemaError, match="outside the public bounds"):
        read_table(path, done)


def test_where_nothing_is_charged_an_outlier_changes_no_byte():
    """Fitting a public schema reads no row: the same encoding on D and on D with one more patient."""
    table = ward_table(200)
    row = table.frame.iloc[[0]].assign(troponin=49_999.0, age=100.0, stage=None)
    more = replace(
        table, frame=pd.concat([table.frame, row], ignore_index=True), patients=np.append(table.patients, 200)
    )
    for part in (table, more):
        encoding = fit_encoding(part.schema)
        assert canonical_json(encoding.to_json()) == canonical_json(fit_encoding(WARD).to_json())
        assert canonical_json(encoding.schema.to_json()) == canonical_json(WARD.to_json())
        assert [c.edges.tobytes() for c in encoding.columns] == [
            c.edges.tobytes() for c in fit_encoding(WARD).columns
        ]
    assert (fit_encoding(WARD).encode(more)[:200] == fit_encoding(WARD).encode(table)).all()


def test_buying_leaves_public_columns_alone():
    table = ward_table(3_000)
    draft = replace(
        WARD,
        columns=tuple(
            replace(c, provenance=Provenance.DP, categories=()) if c.name == "unit" else c for c in WARD
        ),
    )
    done = buy(replace(table, schema=draft), purchase_for(draft, target_epsilon=1, delta=1e-5))
    assert [c for c in done if c.name != "unit"] == [c for c in WARD if c.name != "unit"]
    assert done.column("unit").categories == ("day clinic", "icu", "ward", OTHER)


@pytest.mark.parametrize(
    ("text", "kept"),
    [("age >= 50", (1, 2)), ("age < 55", (0, 1)), ("age = other", (3,)), ("age != 40", (1, 2, 3))],
)
def test_the_rare_rest_is_neither_above_nor_below(text, kept):
    column = Column(
        name="age", kind=Kind.ORDINAL, categories=("40", "50", "60", OTHER), provenance=Provenance.DP
    )
    schema = Schema(columns=(column,))
    assert allowed(column, parse_conditions([text], schema)).categories == kept
    with pytest.raises(ConditionError, match="no order"):
        parse_conditions(["age >= other"], schema)
