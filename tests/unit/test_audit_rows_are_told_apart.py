"""On charts of an audit no two rows have one name, and a page of records says what it judges."""

from dataclasses import replace

import pytest
from test_report_pages import attack, audit

from synthkit.audit.sequences.white_box import NAME as WHITE_BOX
from synthkit.report.charts import attack_name
from synthkit.report.documents import audit_page

MOST = 60
NAMES = (WHITE_BOX, f"{WHITE_BOX}, calibrated", "near record match, by visits", "exact record match")
STATISTICS = ("tpr_at_fpr_0.01", "tpr_at_fpr_0.10", "tpr_at_fpr_0.50", "visits_in_order")
STRATA = ("all", "5 or more visits", "unshared")


def result(name, statistic="visits", stratum="all"):
    return replace(attack(name), name=name, statistic=statistic, stratum=stratum)


def test_long_names_are_cut_where_they_are_alike():
    rows = [result(n, s, t) for n in NAMES for s in STATISTICS for t in STRATA]
    names = [attack_name(row, MOST) for row in rows]
    assert len(set(names)) == len(rows)
    assert max(map(len, names)) <= MOST


@pytest.mark.parametrize(
    ("name", "words"),
    [("exact record match", "synthetic records of visits"), ("exact match", "a synthetic table")],
)
def test_the_page_names_what_was_judged(name, words):
    assert f"Privacy audit of {words}" in audit_page(audit(attacks=(result(name),)))
