"""What ships with the package is whole: tables fit schemas, policies are complete, licences are there."""

import datetime as dt
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from synthkit.data.bundled import TITLES, example
from synthkit.data.connectors import read_table
from synthkit.domain.conditions import allowed, parse_conditions
from synthkit.domain.documents import policy_from_toml, schema_from_toml, schema_to_toml
from synthkit.domain.policy_words import explain_policy
from synthkit.domain.schema import Kind
from synthkit.errors import InputError

POLICIES = Path(__file__).parents[2] / "policies"


def test_the_folders_stay_small():
    folder = Path(str(files("synthkit.data.examples")))
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 1_800_000


@pytest.mark.parametrize(
    ("name", "sites", "columns"),
    [("diabetes", 8, 30), ("heart", 4, 14), ("gbsg2", 1, 10), ("rossi", 1, 9), ("lung", 1, 9)],
)
def test_every_table_fits_its_public_schema(name, sites, columns):
    bundled = example(name)
    assert bundled.schema.not_public() == ()
    assert (len(bundled.sites), len(bundled.schema)) == (sites, columns)
    for path in (*bundled.sites.values(), *((bundled.test,) if bundled.test else ())):
        table = read_table(path, bundled.schema)
        assert len(table) > 100
        assert table.patient_count == len(table)


def test_diabetes_has_a_test_table_apart_from_the_hospitals():
    bundled = example("diabetes")
    assert bundled.test is not None
    assert list(bundled.sites) == [f"H{i}" for i in range(1, 9)]
    assert bundled.test not in bundled.sites.values()
    assert example("heart").test is None


def test_age_at_least_seventy_selects_the_right_rows_of_the_diabetes_table():
    bundled = example("diabetes")
    column = bundled.schema.column("age")
    rule = allowed(column, parse_conditions(["age >= 70 and insulin = No"], bundled.schema))
    ages = read_table(bundled.sites["H5"], bundled.schema).frame["age"]
    kept = ages.isin([column.categories[i] for i in rule.categories]).to_numpy()
    assert np.array_equal(kept, ages.astype(int).to_numpy() >= 70)
    assert kept.any()
    assert not kept.all()


def test_heart_keeps_what_each_hospital_did_not_measure():
    bundled = example("heart")
    frames = {name: read_table(path, bundled.schema).frame for name, path in bundled.sites.items()}
    assert frames["switzerland"]["chol"].isna().all()
    assert frames["cleveland"]["thal"].isna().mean() < 0.05
    assert sum(len(frame) for frame in frames.values()) == 920
    assert sum((frame["disease"] == "yes").sum() for frame in frames.values()) == 509


@pytest.mark.parametrize("name", TITLES)
def test_licence_and_authors_are_named(name):
    text = example(name).attribution
    licences = {"diabetes": "CC BY 4.0", "heart": "CC BY 4.0"}
    assert licences.get(name, "MIT licence, Copyright (c) 2017 Cameron Davidson-Pilon") in text
    assert "**Changes" in text
    authors = {
        "diabetes": ["Strack", "Clore", "781670"],
        "heart": ["Janosi", "Steinbrunn", "Pfisterer", "Detrano"],
        "gbsg2": ["Schumacher", "Sauerbrei", "Royston"],
        "rossi": ["Rossi", "Berk", "Lenihan", "Allison"],
        "lung": ["Loprinzi", "Therneau", "North Central Cancer Treatment Group"],
    }
    for author in authors[name]:
        assert author in text


@pytest.mark.parametrize("name", TITLES)
def test_each_column_says_where_its_bounds_come_from(name):
    text = (Path(str(files("synthkit.data.examples"))) / name / "schema.toml").read_text("utf-8")
    blocks = re.findall(r"((?:^#.*\n)*)^\[columns\.", text, flags=re.MULTILINE)
    assert len(blocks) == len(example(name).schema)
    for block in blocks:
        assert re.search(r"\[(dictionary|clinical|recipe)\]", block)
    assert schema_from_toml(schema_to_toml(example(name).schema), name).digest == example(name).schema.digest


def test_there_is_no_other_example():
    with pytest.raises(InputError, match="diabetes, heart, gbsg2, rossi, lung"):
        example("lungs")


@pytest.mark.parametrize("name", ["gbsg2", "rossi", "lung"])
def test_a_survival_example_has_a_time_with_a_unit_and_an_event(name):
    schema = example(name).schema
    kinds = [column.kind for column in schema]
    assert (kinds.count(Kind.DURATION), kinds.count(Kind.EVENT)) == (1, 1)
    time = next(column for column in schema if column.kind is Kind.DURATION)
    assert time.unit
    assert time.minimum == 1


@pytest.mark.parametrize("name", ["demo", "single-site", "standard", "strict"])
def test_shipped_policies_are_complete_and_explain_every_rule(name):
    text = (POLICIES / f"{name}.toml").read_text("utf-8")
    policy = policy_from_toml(text, f"{name}.toml")
    assert policy.name == name
    assert policy.expires == dt.date(2030, 12, 31)
    assert not policy.release.allow_non_private
    assert policy.release.fail == "refuse"
    previous = ""
    for line in text.splitlines():
        if re.match(r"[a-z_]+ = ", line):
            assert previous.startswith("# "), line
        previous = line
    words = " ".join(explain_policy(policy).split())
    for table in ("study", "conditions", "audit", "release"):
        for rule in vars(getattr(policy, table)):
            assert f"{table}.{rule}" in words


def test_policies_grow_stricter():
    demo, standard, strict = (
        policy_from_toml((POLICIES / f"{name}.toml").read_text("utf-8"), name)
        for name in ("demo", "standard", "strict")
    )
    assert demo.budget.epsilon > standard.budget.epsilon > strict.budget.epsilon
    assert demo.study.max_epsilon > standard.study.max_epsilon > strict.study.max_epsilon
    assert demo.study.min_noise_multiplier < standard.study.min_noise_multiplier
    assert standard.study.min_noise_multiplier < strict.study.min_noise_multiplier
    assert demo.conditions.floor < standard.conditions.floor < strict.conditions.floor
    assert demo.conditions.min_reliability < standard.conditions.min_reliability
    assert standard.conditions.min_reliability < strict.conditions.min_reliability
    assert strict.release.four_eyes
    assert strict.release.inconclusive == "refuse"


def test_the_single_site_policy_allows_a_roster_of_one():
    text = (POLICIES / "single-site.toml").read_text("utf-8")
    assert policy_from_toml(text, "single-site.toml").study.min_sites == 1


def test_kinds_of_the_diabetes_ages_are_decades():
    age = example("diabetes").schema.column("age")
    assert age.kind is Kind.ORDINAL
    assert age.categories == tuple(str(decade) for decade in range(0, 100, 10))
