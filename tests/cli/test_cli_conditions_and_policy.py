"""Conditions at the desk: stated, refused below a policy's floor, and shown to whoever receives the table."""

import re
from dataclasses import replace

import numpy as np
import pytest
from cli_clinic import policy_text

from synthkit.data.bundled import example
from synthkit.domain.canonical import digest_of
from synthkit.domain.documents import policy_from_toml
from synthkit.training.artefact import load_model, new_generator, save_model

WHERE = ("--where", "age >= 40 and sex = Female")
TABLES = ("--members", "members.csv", "--holdout", "holdout.csv", "--reference", "reference.csv")


def generate(synthkit, *options, output="some.csv", rows=230):
    return synthkit("generate", "model", "-n", rows, "-o", output, *options)


def write_policy(clinic, name="p.toml", **changes):
    (clinic / name).write_text(policy_text(max_advantage="0.4", **changes))
    return ("--policy", name)


def test_share_and_reliability_are_stated_in_words_and_in_the_object(clinic, synthkit):
    told = generate(synthkit, *WHERE)
    assert told.code == 0
    words = (
        r"By the model [0-9.]+ % of patients meet the conditions; reliability [01]\.[0-9]{2}: the rows vary"
    )
    assert re.search(words, told.out)
    document = generate(synthkit, *WHERE, "--force", "--json").document
    assert document["conditions"] == ["age >= '40'", "sex = 'Female'"]
    assert 0 < document["condition_mass"] < 1
    assert 0 < document["reliability"] <= 1


def test_without_conditions_nothing_is_said_of_them(clinic, synthkit):
    plain = generate(synthkit, "--policy", "standard", "--json")
    assert (plain.code, plain.document["condition_mass"], plain.document["conditions"]) == (0, 1.0, [])
    assert "patients meet" not in plain.err


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"floor": "0.5"}, "floor"),
        ({"max_columns": "1"}, "max_columns"),
        ({"allowed_columns": '["age"]'}, "allowed_columns"),
        ({"allowed_columns": '["age", "sexx"]'}, "allowed_columns"),
        ({"allowed_columns": "[]", "max_columns": "0"}, "allowed_columns"),
    ],
)
def test_a_policy_refuses_in_one_line_and_nothing_is_written(clinic, synthkit, changes, rule):
    answer = generate(synthkit, *WHERE, *write_policy(clinic, **changes))
    assert answer.code == 1
    assert f"[rule conditions.{rule}] (" in answer.error
    assert not (clinic / "some.csv").exists()


def test_an_expired_or_missing_policy_refuses_before_the_model_is_opened(clinic, synthkit):
    expired = generate(synthkit, *WHERE, *write_policy(clinic, expires="2020-01-01"))
    assert (expired.code, "[rule policy.expires]" in expired.error) == (1, True)
    assert generate(synthkit, *WHERE, "--policy", "absent.toml").code == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense = 3", "unknown column nonsense"),
        ("sex = Femal", "did you mean Female?"),
        ("sex = Female and sex = Male", "no value is left"),
        ("age > 50 and age < 51", "no value is left"),
        ("age >= 60 and age < 60", "no value is left"),
        ("age > 7000", "outside the public bounds"),
        ("sex > Female", "has no order"),
        ("sex is missing", "never missing"),
        ("age in []", "a list entry is expected"),
        ("age", "no operator"),
        ("", "a column name is expected"),
        ("age >= old", "is compared with a number"),
    ],
)
def test_a_condition_that_no_row_can_meet_is_bad_input_with_or_without_a_policy(
    clinic, synthkit, text, words
):
    for policy in ((), ("--policy", "standard")):
        answer = generate(synthkit, "--where", text, *policy)
        assert answer.code == 4
        assert words in answer.error
        assert answer.error.endswith(")")
    assert not (clinic / "some.csv").exists()


def test_a_condition_next_to_never_met_is_drawn_with_a_warning_and_refused_by_a_policy(clinic, synthkit):
    """Ten columns at once: the untrained model gives such patients a share of about one in a million."""
    schema = example("heart").schema
    rare = " and ".join(
        f"`{column.name}` = '{column.categories[-1]}'" for column in schema if column.categories
    )
    told = generate(synthkit, "--where", rare)
    assert told.code == 0
    assert "a policy's floor may keep the rows back" in told.out
    assert "%" in told.out
    refused = generate(synthkit, "--where", rare, *write_policy(clinic, max_columns="40"), output="b.csv")
    assert (refused.code, "[rule conditions.floor]" in refused.error) == (1, True)
    assert not (clinic / "b.csv").exists()


def test_a_noisy_model_is_refused_for_its_reliability_and_says_so_without_a_policy(clinic, synthkit):
    """Bought tables whose noise in a cell is half of all patients."""
    known = load_model(clinic / "model")
    settings = {"hidden_1": 8, "hidden_2": 8, "hidden_3": 8, "codes": 20}
    noisy = new_generator("medvae", known.schema, settings, seed=0)
    noisy.set_weights({**noisy.get_weights(), "table_noise": np.array([0.5], dtype=np.float32)})
    save_model(replace(known, generator=noisy), clinic / "noisy")
    asked = ("generate", "noisy", "-n", 20, *WHERE, "-o")
    told = synthkit(*asked, "a.csv")
    assert told.code == 0
    assert re.search(r"about \d+ % of the signal in these conditions is the patients', the rest", told.out)
    refused = synthkit(*asked, "b.csv", *write_policy(clinic, min_reliability="0.9"))
    assert (refused.code, "[rule conditions.min_reliability]" in refused.error) == (1, True)
    assert not (clinic / "b.csv").exists()


def audited(synthkit, policy, audit="audit.json"):
    counted = ("--ledger", "heart.ledger", "--model", "model", "--save", audit)
    return synthkit("audit", *TABLES, "--synthetic", "some.csv", "--schema", "schema.toml", *policy, *counted)


def sealed(synthkit, policy, *options):
    for name, role, more in (("north", "site", ()), ("ada", "officer", ("--site", "north"))):
        synthkit("release", "keygen", "--name", name, "--role", role, *more, "-o", "keys")
    papers = ("--schema", "schema.toml", "--model", "model", "--audit", "audit.json", *policy)
    who = ("--ledger", "heart.ledger", "--site", "north", "--key", "keys/north.pem")
    return synthkit(
        "release", "seal", "--table", "some.csv", *papers, *who, "-o", "candidate", *options, "--json"
    )


def test_a_conditional_table_goes_the_whole_way_with_its_conditions(clinic, synthkit):
    policy = write_policy(clinic, floor="0.01")
    stated = generate(synthkit, *WHERE, *policy, "--json").document
    assert audited(synthkit, policy).code == 0
    found = sealed(synthkit, policy, *WHERE)
    assert found.code == 0, found.err
    conditions = found.document["conditions"]
    assert conditions["all_of"] == stated["conditions"]
    assert conditions["mass"] == stated["condition_mass"]
    assert conditions["reliability"] == round(stated["reliability"], 2)
    who = ("--site", "north", "--officer", "ada", "--key", "keys/ada.pem", *policy)
    approved = synthkit("release", "approve", "candidate", *who)
    assert approved.code == 0
    assert "age >= '40' and sex = 'Female'" in approved.out
    assert synthkit("release", "export", "candidate", "-o", "heart.synthkit").code == 0
    told = synthkit("release", "verify", "heart.synthkit", "--trust", "keys")
    assert told.code == 0
    for words in ("age >= '40' and sex = 'Female'", "by the model", "reliability under them"):
        assert words in told.out
    verified = synthkit("release", "verify", "heart.synthkit", "--trust", "keys", "--json").document
    assert verified["conditions"] == conditions


def test_a_table_below_the_floor_is_not_sealed(clinic, synthkit):
    """Made without --policy; the audit passes it, for it copies nobody; the seal refuses the rare group."""
    policy = write_policy(clinic, floor="0.5")
    assert generate(synthkit, *WHERE).code == 0
    assert audited(synthkit, policy).code == 0
    answer = sealed(synthkit, policy, *WHERE)
    assert answer.code == 1
    assert "[rule conditions.floor]" in answer.error
    assert not (clinic / "candidate").exists()
    hidden = sealed(synthkit, policy)
    assert (hidden.code, "not the rows that the model draws" in hidden.error) == (1, True)


def test_evaluate_conditions_names_what_a_policy_keeps_back(clinic, synthkit):
    asked = ("evaluate-conditions", "model", "--real", "holdout.csv", "--schema", "schema.toml")
    some = (*asked, "--column", "cp", "-n", "20")
    plain = synthkit(*some, "--report", "page.html", "--json")
    assert plain.document["barred"] is None
    assert "kept back" not in (clinic / "page.html").read_text()
    shares = [request["mass"] for request in plain.document["requests"]]
    middle = sorted(shares)[len(shares) // 2]
    policy = write_policy(clinic, floor=f"{min(middle, 0.5)}")
    answer = synthkit(*some, *policy, "--report", "page.html", "--json")
    assert answer.code == 0
    document = answer.document
    barred = [request for request in document["requests"] if request["barred"]]
    assert 0 < len(barred) < len(document["requests"])
    assert document["barred"] == len(barred)
    assert {request["barred"] for request in barred} <= {"conditions.floor", "conditions.min_reliability"}
    assert all(request["barred"] for request in document["requests"] if request["mass"] < min(middle, 0.5))
    page = (clinic / "page.html").read_text()
    assert page.count("kept back: conditions.") == len(barred)
    assert "Share of patients" in page


def test_policy_diff_says_which_way_and_ends_like_diff(clinic, synthkit):
    write_policy(clinic, floor="0.01", max_attempts="9")
    answer = synthkit("policy", "diff", "standard", "p.toml", "--json")
    assert answer.code == 1
    ways = {change["rule"]: change["direction"] for change in answer.document["changed"]}
    assert ways == {
        "asset.name": "other",
        "audit.max_advantage": "looser",
        "audit.max_attempts": "looser",
        "conditions.floor": "stricter",
    }
    assert answer.document["words"] == "The new policy differs in 4 rules: 1 stricter, 2 looser, 1 other."
    told = synthkit("policy", "diff", "standard", "p.toml")
    assert re.search(r"conditions\.floor +0\.001 +0\.01 +stricter", told.out)
    same = synthkit("policy", "diff", "p.toml", "p.toml", "--json")
    assert (same.code, same.document["same"], same.document["changed"]) == (0, True, [])


def test_the_explanation_of_the_shipped_policies_is_one_page(clinic, synthkit):
    for name in ("strict", "standard", "single-site", "demo"):
        words = synthkit("policy", "explain", name).out
        assert len(words.splitlines()) <= 60
        assert max(map(len, words.splitlines())) <= 100
        for rule in ("floor", "min_reliability", "max_columns", "allowed_columns"):
            assert f"conditions.{rule}" in words
        assert digest_of(policy_from_toml(policy_text(), "p").to_json()) not in words
