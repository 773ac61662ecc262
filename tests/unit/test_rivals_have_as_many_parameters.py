"""The paper's rivals are compared at EVA's number of parameters, whatever the records."""

import pytest
from record_ward import encoding_of, records_of, simulated, tiny_schema

from synthkit.domain.sequence_layout import SequenceLayout
from synthkit.generators.eva import Eva
from synthkit.generators.sequence_matching import MATCHED, matched_hyperparameters, parameter_count
from synthkit.generators.sequence_registry import build_sequences, sequence_defaults

SETTINGS = {"most_visits": 40, "most_codes": 20, "dated": 1}
LAYOUTS = {
    "simulated": encoding_of(simulated(20), SETTINGS).layout,
    "771 codes without times": encoding_of(
        records_of([[[0], [1]]], tiny_schema(771)), {**SETTINGS, "dated": 0}
    ).layout,
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("kind", MATCHED)
def test_counts_agree_within_five_percent(layout: SequenceLayout, kind: str):
    found = matched_hyperparameters(kind, layout, {})
    ours, theirs = parameter_count("eva", layout, {}), parameter_count(kind, layout, found)
    assert abs(theirs / ours - 1) < 0.05
    assert found["channels"] == found["hidden"]


@pytest.mark.parametrize("kind", MATCHED)
def test_without_the_rule_they_would_not(kind: str):
    """At one width for all, at least one kind of records tells them apart by more than the 5 %."""
    counts = [
        (parameter_count("eva", layout, {}), parameter_count(kind, layout, {})) for layout in LAYOUTS.values()
    ]
    assert any(abs(theirs / ours - 1) > 0.05 for ours, theirs in counts)


@pytest.mark.parametrize("kind", MATCHED)
def test_what_is_counted_is_what_is_built(kind: str):
    layout = LAYOUTS["simulated"]
    found = matched_hyperparameters(kind, layout, {"channels": 24, "hidden": 24})
    built = build_sequences(kind, layout, found)
    count = sum(parameter.numel() for parameter in built.parameters())
    assert count == parameter_count(kind, layout, found)
    wanted = parameter_count("eva", layout, {"channels": 24, "hidden": 24})
    assert abs(count / wanted - 1) < 0.05


def test_a_rivals_idea_stays_its_own():
    layout = LAYOUTS["simulated"]
    for kind in MATCHED:
        built = build_sequences(kind, layout, matched_hyperparameters(kind, layout, {}))
        differs = {n for n, v in sequence_defaults(kind).items() if v != Eva.defaults[n]}
        assert differs
        assert all(built.hyperparameters[name] == sequence_defaults(kind)[name] for name in differs)


def test_eva_itself_is_left_alone():
    for kind in ("eva", "eva-c"):
        assert matched_hyperparameters(kind, LAYOUTS["simulated"], {"channels": 20}) == {"channels": 20}
