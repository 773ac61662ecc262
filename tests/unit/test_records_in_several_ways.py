"""One patient in several ways: pairs that differ where they are told to, and histories that stay as given."""

import numpy as np
import pytest
import torch
from record_ward import SMALL, simulated

from synthkit.data.continued import ContinuedSequences
from synthkit.data.sequences import SyntheticSequences
from synthkit.domain.conditions import parse_conditions
from synthkit.errors import ConditionError, InputError, SchemaError
from synthkit.generators.eva_sampling import in_chunks
from synthkit.training.record_variants import continue_records, pairs_of_records
from synthkit.training.sequence_artefact import SequenceModel, new_sequence_generator, synthesize_records

RECORDS = simulated(30)


def model_of(kind):
    generator = new_sequence_generator(kind, RECORDS.schema, dict(SMALL), seed=3).eval()
    return SequenceModel(
        schema=RECORDS.schema, generator=generator, spend=None, study="s", study_digest="0" * 64, site="north"
    )


def pairs(model, count=200, *, where="sex = Female", instead="sex = Male", seed=5):
    first, second = ([] if not t else parse_conditions([t], model.schema) for t in (where, instead))
    return pairs_of_records(model, count, seed=seed, conditions=first, instead=second)


@pytest.mark.parametrize("kind", ["eva", "eva-c"])
def test_pairs_differ_in_the_named_column_and_what_follows_from_it(kind):
    found = pairs(model_of(kind))
    first, second = found.factual, found.counterfactual
    assert set(first.statics["sex"]) == {"Female"}
    assert set(second.statics["sex"]) == {"Male"}
    others = [name for name in first.statics.columns if name != "sex"]
    assert first.statics[others].equals(second.statics[others])
    assert np.array_equal(first.first_days, second.first_days)
    assert first.digest != second.digest


def test_under_the_condition_that_a_patient_meets_already_the_pair_is_one_record():
    """So whatever else differs in a pair comes from the condition: both draw from equal chance."""
    found = pairs(model_of("eva-c"), instead="sex = Female")
    assert found.factual.digest == found.counterfactual.digest


def test_pairs_repeat_by_seed_and_refuse_what_says_nothing():
    model = model_of("eva-c")
    assert pairs(model, 20).counterfactual.digest == pairs(model, 20).counterfactual.digest
    assert pairs(model, 20).factual.digest != pairs(model, 20, seed=6).factual.digest
    with pytest.raises(InputError, match="says no condition"):
        pairs(model, 20, instead="")
    with pytest.raises(ConditionError):
        pairs(model, 20, instead="age > 95")
    with pytest.raises(InputError):
        pairs(model, 0)


def test_what_is_drawn_does_not_depend_on_the_number_of_threads():
    model, cores = model_of("eva"), torch.get_num_threads()
    digests = set()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            digests.add(synthesize_records(model, 2500, seed=1, visits=2).records.digest)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(cores)
    assert len(digests) == 1


def test_an_error_in_one_chunk_is_the_callers():
    def fail(chunk, source):
        raise InputError("broken")

    with pytest.raises(InputError):
        in_chunks(fail, 3000, 5, torch.Generator().manual_seed(1))


def test_a_continued_record_begins_with_its_history_and_cannot_be_released():
    history = RECORDS.take(RECORDS.visits_per_patient > 1).first_visits(2)
    made = continue_records(model_of("eva"), history, seed=1)
    begun = made.first_visits(2)
    assert np.array_equal(begun.codes, history.codes)
    assert np.array_equal(begun.gaps, history.gaps)
    assert np.array_equal(made.first_days, history.first_days)
    # Ages are drawn within a state: the given ones have to come back, not ones like them.
    assert made.statics.equals(history.statics)
    assert made.visit_count > history.visit_count
    assert not isinstance(made, SyntheticSequences)
    assert not hasattr(made, "digest")
    assert "private" in repr(made)


def test_a_record_that_does_not_begin_with_its_history_is_not_passed_off_as_one():
    model = model_of("eva")
    drawn = synthesize_records(model, 20, seed=2, visits=3).records
    with pytest.raises(RuntimeError, match="does not begin"):
        ContinuedSequences.join(RECORDS.take(np.arange(20)), drawn)


def test_times_of_another_kind_are_refused():
    generator = new_sequence_generator("eva", RECORDS.schema, {**SMALL, "dated": 0}, seed=3)
    model = SequenceModel(
        schema=RECORDS.schema, generator=generator, spend=None, study="s", study_digest="0" * 64, site="north"
    )
    with pytest.raises(SchemaError, match="whole days"):
        continue_records(model, RECORDS, seed=1)


@pytest.mark.parametrize("block", [0, 1])
def test_upsampling_by_blocks_is_upsampling(block):
    generator = new_sequence_generator("eva", RECORDS.schema, {**SMALL, "most_visits": 30}, seed=3)
    up, latent = generator.upsample, torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    assert up.span == 16
    whole = up(latent, 30)
    part = up.block(latent, block)[:, :, : 30 - block * up.span]
    torch.testing.assert_close(part, whole[:, :, block * up.span : (block + 1) * up.span])
