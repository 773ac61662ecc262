"""Against the simulator's exact probabilities, true records agree and each way of being wrong is seen.

Everything is a fixed seed's outcome. Bounds lie five standard errors or more from what was expected, so that
another seed fails with a probability below 1e-5.
"""

from dataclasses import replace

import numpy as np
import pytest

from synthkit.data.sequences import SyntheticSequences, ranges, starts_of
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.data.simulator.truth import death_chances, end_chances, possible_visits, visit_chances
from synthkit.errors import InputError
from synthkit.evaluation.simulated_truth import QUESTIONS, compare_with_truth

PATIENTS = 1000


@pytest.fixture(scope="module")
def process():
    return standard_process(visits_mean=12)


RARE = ("onset after a condition", "death")


def asked(process, records):
    report = compare_with_truth(process, records, seed=99)
    return report, {one.question: one for one in report.questions}


def test_patients_of_the_process_agree_with_it_in_full(process):
    report, answers = asked(process, simulate(process, PATIENTS, seed=4))
    assert report.possible == 1.0
    assert tuple(answers) == QUESTIONS
    for question in QUESTIONS[:4]:
        one = answers[question]
        assert one.synthetic.groups >= 5
        assert one.synthetic.strength == pytest.approx(1.0, abs=0.1)
        assert one.floor.strength == pytest.approx(0.0, abs=1e-9)
        assert one.synthetic.deviation < one.floor.deviation / 4
        assert one.synthetic.found == pytest.approx(one.synthetic.exact, rel=0.1)


CHANGED = {
    "drug after a condition": lambda p: replace(p, old=p.old * 0.4),
    "drug after an event": lambda p: replace(p, new=p.new * 0.4, last=p.last * 0.4),
    "check after a drug": lambda p: replace(p, last=p.last * 0.4),
    "the same code again": lambda p: replace(p, reported=p.reported * 0.5),
    "onset after a condition": lambda p: replace(p, after=p.after + (p.after > 0) * 1.2),
    "death": lambda p: replace(p, death_base=p.death_base + 1.5),
}


@pytest.mark.slow
@pytest.mark.parametrize("question", QUESTIONS)
def test_each_question_sees_the_relation_it_is_about_change(process, question):
    """A process with that relation changed makes the records; the unchanged one is what they are held to."""
    size = 4 * PATIENTS if question in RARE else PATIENTS
    _, answers = asked(process, simulate(CHANGED[question](process), size, seed=6))
    one = answers[question]
    assert one.synthetic.groups >= 1
    assert one.synthetic.error > 2.5 * one.ceiling.error
    assert abs(one.synthetic.found / one.synthetic.exact - 1) > 0.05


def test_visits_dealt_to_other_patients_lose_what_follows(process):
    """Their codes stay together within the visit and stand in no history's place."""
    records = simulate(process, PATIENTS, seed=8)
    order = np.random.default_rng(1).permutation(records.visit_count)
    entries = ranges(records.visit_starts[order], records.visit_starts[order + 1])
    starts = starts_of(records.codes_per_visit[order])
    _, answers = asked(process, replace(records, codes=records.codes[entries], visit_starts=starts))
    for question in QUESTIONS[:4]:
        assert answers[question].synthetic.strength < 0.5
    assert answers["the same code again"].synthetic.strength < 0.1


def test_a_visit_that_the_process_cannot_make_is_counted_and_spoils_no_other(process):
    """The general examination stands alone; put beside another code, it makes its visit impossible, and the
    record's later visits keep their exact answers."""
    records = simulate(process, 200, seed=3)
    examined = records.visit_of_code[records.codes == process.rest]
    spoilt = np.setdiff1d(np.arange(records.visit_count), examined)[::4]
    counts = records.codes_per_visit.copy()
    counts[spoilt] += 1
    codes = np.insert(records.codes, records.visit_starts[spoilt], process.rest)
    # Codes within a visit stand in ascending order.
    owners = np.repeat(np.arange(counts.size), counts)
    codes = codes[np.lexsort((codes, owners))].astype(np.int32)
    wrong = replace(records, codes=codes, visit_starts=starts_of(counts))
    assert (~possible_visits(process, wrong)).nonzero()[0].tolist() == spoilt.tolist()
    report, _ = asked(process, wrong)
    assert report.possible == pytest.approx(1 - spoilt.size / records.visit_count)
    assert np.isnan(visit_chances(process, wrong)).any()
    assert not np.isnan(visit_chances(process, wrong, is_forgiving=True)).any()
    np.testing.assert_array_equal(
        visit_chances(process, records, is_forgiving=True), visit_chances(process, records)
    )


def test_deaths_are_asked_about_after_every_visit(process):
    """After last visits the chance is that of `end_chances`; over all visits it adds up to the deaths."""
    records = simulate(process, 3000, seed=12)
    chances = death_chances(process, records)
    np.testing.assert_allclose(
        chances[records.patient_starts[1:] - 1], end_chances(process, records)[:, 0], rtol=1e-12
    )
    deaths = (records.statics["end"] == "died").sum()
    # After a visit at the cap nobody is asked again, and no patient here is at it.
    assert records.visits_per_patient.max() < process.most_visits
    assert abs(deaths - chances.sum()) < 5 * np.sqrt((chances * (1 - chances)).sum())


def test_records_of_another_schema_are_refused(process):
    records = simulate(process, 20, seed=1)
    other = replace(records.schema, name="another")
    with pytest.raises(InputError, match="not in the simulator's schema"):
        compare_with_truth(process, replace(records, schema=other), seed=1)
    assert isinstance(records, SyntheticSequences)
