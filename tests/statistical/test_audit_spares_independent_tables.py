"""A table drawn independently of the members is not failed, passes where it can, and never by smallness."""

from collections import Counter

import audit_clinic as clinic
import numpy as np
import pytest

from synthkit.audit.baseline import blind_baseline
from synthkit.domain.audit import AuditReport, Verdict

HOSPITAL = (1957, 560, 280)
"""Members, holdout and reference of a mid-sized site."""


def independent(seed: int, sizes: tuple[int, int, int]) -> AuditReport:
    rng = np.random.default_rng(seed)
    members, holdout, reference, fresh = (clinic.draw(rng, size) for size in (*sizes, sizes[0]))
    return clinic.audit(members, holdout, reference, fresh)


def test_four_independent_tables_are_not_failed_and_mostly_pass() -> None:
    """FAIL has probability at most 0.05 / 3 + the hard rules' share, say 0.02; more than 1 of 4 then has
    0.0023. Seeds are fixed."""
    verdicts = [independent(seed, HOSPITAL).verdict for seed in range(4)]
    assert verdicts.count(Verdict.FAIL) <= 1
    assert verdicts.count(Verdict.PASS) >= 3


@pytest.mark.slow
def test_forty_independent_tables_are_not_failed_and_mostly_pass() -> None:
    """FAIL has probability at most 0.05 / 3 + the hard rules' share, say 0.02; more than 3 of 40 then has
    0.0012. INVALID has 0.001 a table. Seeds are fixed."""
    verdicts = [independent(seed, HOSPITAL).verdict for seed in range(40)]
    assert verdicts.count(Verdict.FAIL) <= 3
    assert verdicts.count(Verdict.INVALID) <= 1
    assert verdicts.count(Verdict.PASS) >= 32


@pytest.mark.slow
def test_two_hundred_independent_tables_are_failed_at_most_five_percent() -> None:
    """At a true rate of 0.02, more than 10 of 200 has probability 0.003. Of one statistic, p below 0.05 has
    probability at most 0.05 a table: more than 22 of 200 has 0.0004, for any of 24 at most 0.01. Seeds are
    fixed."""
    reports = [independent(1000 + seed, (1000, 1000, 1000)) for seed in range(200)]
    assert [report.verdict for report in reports].count(Verdict.FAIL) <= 10
    attacks = [attack for report in reports for attack in report.attacks]
    low = Counter(
        (attack.name, attack.statistic, attack.stratum) for attack in attacks if attack.p_value < 0.05
    )
    assert max(low.values()) <= 22


@pytest.mark.parametrize("sizes", [(100, 100, 100), (212, 60, 30)])
def test_small_sets_never_pass_and_say_what_is_missing(sizes: tuple[int, int, int]) -> None:
    """Deterministic but for FAIL (0.02 each) and INVALID (0.001): no draw can reach PASS."""
    reports = [independent(seed, sizes) for seed in range(6)]
    assert all(report.verdict is not Verdict.PASS for report in reports)
    unsure = [report for report in reports if report.verdict is Verdict.INCONCLUSIVE]
    assert unsure
    assert all("times as many patients" in " ".join(report.reasons) for report in unsure)


def test_every_rate_stands_with_its_interval_and_the_report_is_canonical() -> None:
    report = independent(4, (1000, 1000, 1000))
    for attack in report.attacks:
        assert attack.attack_interval.lower <= attack.attack_rate <= attack.attack_interval.upper
        assert attack.control_interval.lower <= attack.control_rate <= attack.control_interval.upper
        assert attack.advantage_interval.lower <= attack.advantage <= attack.advantage_interval.upper
        assert attack.p_value <= attack.p_adjusted <= 1.0
        assert 0.0 < attack.minimum_detectable_effect < 1.0
    assert {attack.stratum for attack in report.attacks} == {"all", "rare"}
    assert len(report.digest) == 64
    assert report.digest == independent(4, (1000, 1000, 1000)).digest


def test_the_blind_baseline_rejects_a_random_split_no_more_often_than_stated() -> None:
    """P below 0.05 has probability 0.05 a split; more than 8 of 50 has 0.0008. Seeds are fixed."""
    p_values = []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        first, second = (clinic.people(clinic.draw(rng, size)) for size in (400, 200))
        p_values.append(blind_baseline(first, second, seed=seed).p_value)
    assert sum(p < 0.05 for p in p_values) <= 8


def test_a_shifted_holdout_is_invalid() -> None:
    """Four years of age on a standard deviation of fourteen; missed with probability below 0.001."""
    rng = np.random.default_rng(2)
    members, reference, fresh = (clinic.draw(rng, 1000) for _ in range(3))
    report = clinic.audit(members, clinic.draw(rng, 1000, age_shift=4.0), reference, fresh)
    assert report.verdict is Verdict.INVALID
    assert "not a random split" in report.reasons[0]


@pytest.mark.parametrize("shared", ["holdout", "reference"])
def test_members_inside_another_set_are_invalid(shared: str) -> None:
    rng = np.random.default_rng(2)
    members, other, fresh = (clinic.draw(rng, 1000) for _ in range(3))
    inside = members.iloc[:400].reset_index(drop=True)
    sets = {"holdout": other, "reference": clinic.draw(rng, 500)} | {shared: inside}
    report = clinic.audit(members, sets["holdout"], sets["reference"], fresh)
    assert report.verdict is Verdict.INVALID
    assert f"members and {shared}" in report.reasons[0]
