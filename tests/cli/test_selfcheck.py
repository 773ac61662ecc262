"""`synthkit selfcheck`: measured against claimed, and the exit code says which it was."""

import pytest

from synthkit.domain.documents import schema_to_toml
from synthkit.privacy import dpsgd

QUICK = ("--steps", 250, "--watch", 100, "--sample-rate", 0.25)


@pytest.fixture
def small_schema(tmp_path):
    from training_claims import CLINIC

    path = tmp_path / "clinic.toml"
    path.write_text(schema_to_toml(CLINIC), encoding="utf-8")
    return path


def test_a_sound_build_ends_with_0(synthkit, small_schema):
    """False alarm below 1e-3."""
    answer = synthkit("selfcheck", "--schema", small_schema, *QUICK, "--json")
    assert (answer.code, answer.document["agrees"], answer.document["contradicted"]) == (0, True, [])
    checks = {check["name"]: check for check in answer.document["checks"]}
    assert checks["releases as accounted"]["measured"] == 100
    assert (answer.document["watched_steps"], answer.document["claim"]["steps"]) == (100, 250)
    epsilon = checks["epsilon"]
    assert epsilon["interval"]["lower"] <= epsilon["claimed"] <= epsilon["interval"]["upper"]
    assert answer.document["false_alarm"] == 1e-3
    assert "PASS: every claim stands" in answer.err


def test_half_the_noise_ends_with_1_and_is_named(synthkit, small_schema, monkeypatch):
    honest = dpsgd.rng.normal

    def weaker(count, *, std):
        return honest(count, std=std / 2)

    monkeypatch.setattr(dpsgd.rng, "normal", weaker)
    answer = synthkit("selfcheck", "--schema", small_schema, *QUICK)
    assert answer.code == 1
    assert "CONTRADICTED" in answer.out
    assert "FAIL: contradicted: noise" in answer.out


def test_too_few_steps_an_unknown_generator_and_no_schema_are_4(synthkit, small_schema):
    answer = synthkit("selfcheck", "--schema", small_schema, "--watch", 99)
    assert (answer.code, "too few steps" in answer.error) == (4, True)
    answer = synthkit("selfcheck", "--schema", small_schema, "--generator", "gan")
    assert (answer.code, "no generator 'gan'" in answer.error) == (4, True)
    assert synthkit("selfcheck", "--schema", "absent.toml").code == 4


def test_help_has_an_example(synthkit):
    answer = synthkit("selfcheck", "--help")
    assert (answer.code, "Example:\n    synthkit selfcheck" in answer.out) == (0, True)
