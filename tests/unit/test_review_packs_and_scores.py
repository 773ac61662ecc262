"""Blinded review: nothing on a page depends on its kind, and guessing is scored as guessing."""

import numpy as np
import pytest

from synthkit.data.sequences import PatientSequences
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.errors import InputError
from synthkit.evaluation import review_score
from synthkit.evaluation.review_pack import MOST_VISITS, ReviewKey, make_pack
from synthkit.evaluation.review_score import (
    Answer,
    agreement,
    clopper_pearson,
    read_answers,
    score,
)
from synthkit.report.review_pages import index_page, record_page

MADE = simulate(standard_process(visits_mean=30, most_visits=100), 80, seed=3)
REAL = PatientSequences(**vars(MADE))


def pack(count=40, seed=0):
    return make_pack(REAL, MADE, count=count, rng=np.random.default_rng(seed))


def key_of(coins):
    return ReviewKey(pack="P", is_real={f"P-{n:03d}": bool(coin) for n, coin in enumerate(coins)})


def answers_of(key, reviewer, says):
    pairs = zip(key.is_real, says, strict=True)
    return [Answer(reviewer=reviewer, record=name, says_real=bool(said)) for name, said in pairs]


def test_pages_are_the_same_whatever_their_kind():
    """The same patients given as real and as generated: seeds that differ in their coins alone give a page
    for a patient that is the same but for its name."""
    by_text = {}
    for seed in range(4):
        found = pack(count=80, seed=seed)
        for record in found.records:
            text = record_page(record).replace(record.name, "NAME")
            by_text.setdefault(text, set()).add(found.key.is_real[record.name])
    assert len(by_text) <= len(MADE)
    assert sum(len(kinds) == 2 for kinds in by_text.values()) > 60


def test_every_record_is_tossed_for_by_itself():
    """Of 80 coins in 20 packs the share of real is 1/2 but for 0.05: four standard errors. The number of
    real ones varies from pack to pack, so that counting does not help."""
    made = simulate(standard_process(visits_mean=1, most_visits=1), 80, seed=3)
    real = PatientSequences(**vars(made))
    packs = [make_pack(real, made, count=80, rng=np.random.default_rng(seed)) for seed in range(20)]
    counts = [sum(found.key.is_real.values()) for found in packs]
    assert np.mean(counts) / 80 == pytest.approx(0.5, abs=0.05)
    assert len(set(counts)) > 5


def test_dates_begin_at_zero_and_long_records_are_cut_alike():
    found = pack(count=80)
    assert all(record.visits[0].day == 0 for record in found.records)
    assert max(len(record.visits) for record in found.records) == MOST_VISITS
    assert any(record.more for record in found.records)
    text = "".join(record_page(record) for record in found.records)
    assert not any(f"{year}-" in text for year in range(2008, 2030))
    assert "Inside the site only" in text
    assert "Dates are shifted" in index_page(tuple(found.key.is_real))


def test_a_seed_repeats_a_pack_and_the_key_survives_its_file():
    assert pack(seed=5).records == pack(seed=5).records
    assert pack(seed=5).key != pack(seed=6).key
    key = pack().key
    assert ReviewKey.from_json(key.to_json()) == key
    for document in ({}, {**key.to_json(), "records": {"a": "perhaps"}}, {**key.to_json(), "format": 2}):
        with pytest.raises(InputError):
            ReviewKey.from_json(document)


def test_more_records_than_patients_are_refused():
    with pytest.raises(InputError, match="option -n"):
        pack(count=81)


def test_the_exact_interval_is_that_of_the_tables():
    """Clopper and Pearson's intervals for 7 of 10, 0 of 10 and 10 of 10, by R's binom.test."""
    assert clopper_pearson(7, 10) == pytest.approx((0.3475471, 0.9332605), abs=1e-6)
    assert clopper_pearson(0, 10) == pytest.approx((0.0, 0.3084971), abs=1e-6)
    assert clopper_pearson(10, 10) == pytest.approx((0.6915029, 1.0), abs=1e-6)


def test_one_reviewer_is_scored_by_hand():
    key = key_of([1] * 5 + [0] * 5)
    found = score(answers_of(key, "ab", [1] * 5 + [0] * 3 + [1] * 2), key)
    only = found.reviewers["ab"]
    assert (only.answers, only.right, only.accuracy.mean) == (10, 8, 0.8)
    assert only.p_value == pytest.approx(2 * (45 + 10 + 1) / 1024)
    assert (only.real_called_real, only.synthetic_called_real) == (1.0, 0.4)
    assert only.needed == 0.9
    assert found.pooled == only
    assert found.agreement is None


def test_a_copy_of_a_reviewer_adds_no_certainty():
    """Pooled with itself a set of answers is worth what it was alone: about its own interval and p."""
    rng = np.random.default_rng(1)
    key = key_of(rng.random(60) < 0.5)
    says = [real if rng.random() < 0.7 else not real for real in key.is_real.values()]
    alone = score(answers_of(key, "a", says), key).pooled
    twice = score([*answers_of(key, "a", says), *answers_of(key, "b", says)], key)
    assert twice.agreement == 1.0
    wide, wider = (one.accuracy.upper - one.accuracy.lower for one in (alone, twice.pooled))
    assert wider == pytest.approx(wide, rel=0.05)
    assert twice.pooled.p_value == pytest.approx(alone.p_value, abs=0.02)


def test_guessers_who_guess_alike_are_rarely_taken_for_experts(monkeypatch):
    """Three reviewers share most of their guesses. At 5 % the pooled test alarms in at most 11 % of 120
    packs: the chance that an exact test does is below 1e-2; one that took the answers for independent alarms
    more than twice as often. Fixed seeds."""
    monkeypatch.setattr(review_score, "TOSSES", 2000)
    rng = np.random.default_rng(2)
    alarms = naive = 0
    for _ in range(120):
        key = key_of(rng.random(30) < 0.5)
        common = rng.random(30) < 0.6
        answers = []
        for reviewer in "abc":
            says = np.where(rng.random(30) < 0.9, common, rng.random(30) < 0.5)
            answers += answers_of(key, reviewer, says)
        pooled = score(answers, key).pooled
        alarms += pooled.p_value < 0.05
        lower, upper = clopper_pearson(pooled.right, pooled.answers)
        naive += not lower <= 0.5 <= upper
    assert alarms <= 13
    assert naive > 2 * alarms


def test_agreement_is_krippendorffs():
    """Four records, two reviewers, by the formula: 1 - (n - 1) sum(o) / (n_1 n_0), worked by hand."""
    key = key_of([1, 1, 0, 0])
    first, second = answers_of(key, "a", [1, 1, 0, 0]), answers_of(key, "b", [1, 0, 0, 0])
    # Pairs: one of four differs. n = 8, n_1 = 3, n_0 = 5, so that alpha = 1 - 7 * 2 / (2 * 15).
    assert agreement([*first, *second]) == pytest.approx(1 - 7 * 2 / 30)
    assert agreement([*first, *answers_of(key, "b", [1, 1, 0, 0])]) == 1.0
    assert agreement(first) is None
    assert agreement([*answers_of(key, "a", [1] * 4), *answers_of(key, "b", [1] * 4)]) is None


HEAD = "reviewer,record,answer\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a file of answers"),
        ("who,what\n", "is not a file of answers"),
        ('reviewer,record,answer\n"ab,P-000,real\n', "is not a file of answers"),
        (
            HEAD + "CANARY,P-000,real\nCANARY,P-000,real\n",
            "row 2 (line 3): the reviewer answers a record twice",
        ),
        (HEAD + "ab,CANARY,real\n", "row 1 (line 2): no such record in this pack"),
        (HEAD + "ab,P-000,real\nab,P-001,CANARY\n", "row 2 (line 3): the answer is neither"),
        (HEAD + ",P-000,real\n", "row 1 (line 2): no reviewer is named"),
        (HEAD + "ab,P-000\n", "row 1 (line 2): does not have three cells"),
    ],
)
def test_broken_answers_are_named_in_one_line_and_not_shown(text, words):
    with pytest.raises(InputError) as refusal:
        read_answers(text, key_of([1, 0]), where="answers.csv")
    assert words in str(refusal.value)
    assert "CANARY" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_empty_answers_and_lines_do_not_count_and_case_does_not_matter():
    text = HEAD + "ab,P-000,Real\n\nab,P-001,\n"
    found = read_answers(text, key_of([1, 0]), where="answers.csv")
    assert found == (Answer(reviewer="ab", record="P-000", says_real=True),)
    with pytest.raises(InputError, match="no record is answered"):
        score((), key_of([1, 0]))


def test_few_answers_can_tell_nothing_and_say_so():
    key = key_of([1, 0, 1])
    assert score(answers_of(key, "a", [1, 0, 1]), key).pooled.needed is None
