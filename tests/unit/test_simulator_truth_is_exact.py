"""The exact probabilities are exact: a process small enough to write every possible record down."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest

from synthkit.data.sequences import SyntheticSequences, starts_of
from synthkit.data.simulator.process import ENDS, Process, standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.data.simulator.truth import (
    class_posterior,
    end_chances,
    log_likelihood,
    next_visit_chances,
    visit_chances,
)
from synthkit.domain.vocabulary import CodeType, Vocabulary
from synthkit.errors import InputError

FIRST_DAY = 15_000


@pytest.fixture(scope="module")
def tiny() -> Process:
    """Two conditions, an acute event, an incidental diagnosis, a drug and a check; gaps of 1 to 4 days."""
    kinds = (CodeType.DIAGNOSIS,) * 5 + (CodeType.DRUG, CodeType.LABORATORY)
    return replace(
        standard_process(visits_mean=3, most_visits=2),
        vocabulary=Vocabulary(codes=("k0", "k1", "m0", "i0", "z", "d0", "l0"), types=kinds),
        site_names=("north", "south"),
        ages=np.array([[60.0, 1.0], [61.0, 0.0]]),
        male=0.3,
        first_days=(FIRST_DAY, FIRST_DAY),
        site_shares=np.array([0.25, 0.75]),
        class_shares=np.array([[0.2, 0.8], [0.6, 0.4]]),
        base=np.log([0.01, 0.02, 0.3]),
        age=np.array([0.4, 0.0, -0.3]),
        sex=np.array([[0.3, 0.0, 0.1], [0.0, 0.5, 0.0]]),
        classes=np.array([[0.5, -0.5, 0.8], [-0.7, 0.6, 0.0]]),
        after=np.array([[0.0, 5.0, 0.5], [4.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
        swing=np.array([0.5]),
        peak=np.array([30.0]),
        reported=np.array([0.6, 0.3]),
        incidental=np.array([0.2, 0.5]),
        incidental_shares=np.array([1.0]),
        old=np.array([[0.3, 0.0], [0.0, 0.2]]),
        new=np.array([[0.7, 0.1], [0.0, 0.4], [0.5, 0.0]]),
        last=np.array([[0.9, 1.1], [0.0, 0.1]]),
        visit_base=np.log([60.0, 300.0]),
        scheduled=np.array([0.2, 0.6]),
        quarter=(2, 3),
        longest=4,
        death_base=np.log([0.1, 0.3]),
        death_conditions=np.array([0.5, 0.0]),
    )


VISITS = [
    np.flatnonzero(np.array(bits, dtype=bool))
    for bits in product((0, 1), repeat=7)
    if bits[4] == (sum(bits) - bits[4] == 0)
]
"""Every set of codes; the general examination (4) stands alone or not at all."""
QUIET = next(place for place, codes in enumerate(VISITS) if codes.tolist() == [4])


def records_of(tiny, visits, gaps, ends, *, sex, site):
    """`visits`: numbers into VISITS, and `gaps`, both a list for each patient."""
    flat = [VISITS[visit] for patient in visits for visit in patient]
    counts = np.array([len(patient) for patient in visits])
    frame = pd.DataFrame({"age": 60.0, "sex": sex, "site": site, "end": ends}, index=range(len(visits)))
    return SyntheticSequences(
        schema=tiny.schema,
        codes=np.concatenate(flat).astype(np.int32),
        visit_starts=starts_of(np.array([codes.size for codes in flat])),
        patient_starts=starts_of(counts),
        statics=frame,
        gaps=np.array([gap for patient in gaps for gap in patient], dtype=np.int32),
        first_days=np.full(len(visits), FIRST_DAY, dtype=np.int32),
    )


@pytest.fixture(scope="module")
def all_records(tiny):
    """Every record of a man in the south: visits, gaps, ends, and their log-likelihood."""
    short = [((visit,), (0,), end) for visit in range(len(VISITS)) for end in ENDS[:2]]
    pairs = product(range(len(VISITS)), range(len(VISITS)), range(1, 5), ENDS)
    rows = [*short, *(((first, second), (0, gap), end) for first, second, gap, end in pairs)]
    visits, gaps, ends = zip(*rows, strict=True)
    records = records_of(tiny, visits, gaps, list(ends), sex="Male", site="south")
    return visits, gaps, log_likelihood(tiny, records)


def test_the_probabilities_of_all_records_sum_to_one(tiny, all_records):
    assert len(VISITS) == 64
    assert np.exp(all_records[2]).sum() == pytest.approx(0.3 * 0.75, rel=1e-12)


def test_the_next_visit_is_what_all_records_say(tiny, all_records):
    visits, gaps, likelihood = all_records
    longer = np.array([len(patient) == 2 for patient in visits])
    first = np.array([patient[0] for patient in visits])
    second = np.array([patient[-1] for patient in visits])
    gap = np.array([patient[-1] for patient in gaps])
    dense = np.zeros((64, 7))
    for place, codes in enumerate(VISITS):
        dense[place, codes] = 1
    histories = [[visit] for visit in range(64)]
    records = records_of(tiny, histories, [[0]] * 64, ["left"] * 64, sex="Male", site="south")
    any_gap, three_days = next_visit_chances(tiny, records), next_visit_chances(tiny, records, gap_days=3)
    ends = end_chances(tiny, records)
    possible = [np.isin(place, first[np.isfinite(likelihood)]) for place in range(64)]
    assert sum(possible) > 40
    assert np.isnan(any_gap[~np.array(possible)]).all()
    for history in np.flatnonzero(possible):
        for chosen, found in ((longer, any_gap), (longer & (gap == 3), three_days)):
            rows = chosen & (first == history)
            weights = np.exp(likelihood[rows])
            expected = weights @ dense[second[rows]] / weights.sum()
            np.testing.assert_allclose(found[history], expected, rtol=1e-10, atol=1e-14)
        mine = first == history
        goes_on = np.exp(likelihood[mine & longer]).sum() / np.exp(likelihood[mine]).sum()
        assert ends[history, 2] == pytest.approx(goes_on, rel=1e-10)


def test_every_visits_chances_are_what_all_records_say(tiny, all_records):
    visits, _, likelihood = all_records
    records = records_of(tiny, [[QUIET]], [[0]], ["left"], sex="Male", site="south")
    dense = np.zeros((64, 7))
    for place, codes in enumerate(VISITS):
        dense[place, codes] = 1
    weights = np.exp(likelihood)
    expected = weights @ dense[[patient[0] for patient in visits]] / weights.sum()
    np.testing.assert_allclose(visit_chances(tiny, records)[0], expected, rtol=1e-10)


def test_what_cannot_be_has_no_probability(tiny):
    def value(codes, gap=1, **columns):
        one = records_of(tiny, [[QUIET, QUIET]], [[0, gap]], ["ongoing"], sex="Male", site="south")
        held = np.array(codes, dtype=np.int32)
        starts = starts_of(np.array([held.size, one.codes_per_visit[1]]))
        frame = one.statics.assign(**columns)
        changed = replace(one, codes=np.append(held, one.codes[-1:]), visit_starts=starts, statics=frame)
        return log_likelihood(tiny, changed)[0]

    assert np.isfinite(value([0, 2]))
    assert value([0, 4]) == -np.inf  # a general examination beside something else
    assert value([]) == -np.inf  # a visit without any code
    assert value([0], gap=5) == -np.inf  # longer than the longest gap
    assert value([6]) == -np.inf  # a check that nothing brought about
    assert value([0], age=61.0) == -np.inf
    records = records_of(tiny, [[QUIET]], [[0]], ["left"], sex="Male", site="south")
    with pytest.raises(InputError, match="no such gap"):
        next_visit_chances(tiny, records, gap_days=5)


def test_the_class_is_inferred_by_bayes_rule(tiny):
    """With classes alike but in one rate, two visits' evidence is written out by hand."""
    alike = replace(
        tiny,
        classes=np.zeros((2, 3)),
        visit_base=np.log([60.0, 60.0]),
        death_base=np.log([0.1, 0.1]),
        incidental=np.array([0.2, 0.5]),
    )
    with_incidental = next(place for place, codes in enumerate(VISITS) if codes.tolist() == [0, 3])
    without = next(place for place, codes in enumerate(VISITS) if codes.tolist() == [0])
    records = records_of(tiny, [[with_incidental, without]], [[0, 2]], ["left"], sex="Male", site="north")
    weights = np.array([0.2 * 0.2 * 0.8, 0.8 * 0.5 * 0.5])
    np.testing.assert_allclose(class_posterior(alike, records)[0], weights / weights.sum(), rtol=1e-12)


def test_records_of_another_code_list_are_refused(tiny):
    with pytest.raises(InputError, match="not in the process's schema"):
        log_likelihood(tiny, simulate(standard_process(visits_mean=2), 5, seed=0))
