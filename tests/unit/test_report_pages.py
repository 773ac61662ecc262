"""Pages are self-contained, well-formed and escaped, and say what a reader must not misread."""

import functools
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from synthkit.domain.audit import AttackResult, AuditReport, Interval, Verdict
from synthkit.domain.utility import Moments, Quality, Score, TargetUtility, UtilityReport
from synthkit.report.charts import (
    advantage_chart,
    association_chart,
    attack_rate_chart,
    distribution_chart,
    distribution_grid,
    spend_chart,
    tstr_chart,
)
from synthkit.report.documents import audit_page, evaluation_page, spend_section
from synthkit.report.figures import AssociationMaps, ColumnDistribution, SpendCurve
from synthkit.report.page import Page, Section, paragraph, table

HOSTILE = '<script>alert("x")</script>--> $x^2$ id="y" & ]]>'
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Balance(HTMLParser):
    """Refuses an element that is not closed in order, collects ids, elements and addresses."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.tags, self.addresses, self.text = [], [], set(), [], []

    def handle_starttag(self, tag, attrs):
        self.note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.note(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def note(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "action", "data", "srcset"):
                self.addresses.append(value)


def read(document):
    parser = Balance()
    parser.feed(document)
    parser.close()
    assert parser.open == []
    return parser


def interval(middle, half=0.02):
    return Interval(lower=middle - half, upper=middle + half, confidence=0.95)


def attack(name, *, decides=True, stratum="all", advantage=0.01):
    return AttackResult(
        name=name,
        statistic="distance",
        attack_rate=0.5 + advantage,
        control_rate=0.5,
        baseline_rate=0.5,
        attack_interval=interval(0.5 + advantage),
        control_interval=interval(0.5),
        advantage=advantage,
        advantage_interval=interval(advantage, 0.03),
        p_value=0.4,
        p_adjusted=0.8,
        minimum_detectable_effect=0.0437,
        decides=decides,
        stratum=stratum,
    )


def audit(verdict=Verdict.PASS, attacks=None):
    return AuditReport(
        verdict=verdict,
        reasons=(f"because {HOSTILE}",),
        attacks=(attack("membership"), attack("presence", decides=False)) if attacks is None else attacks,
        hard_rules=(),
        diagnostics={"dcr_median": 0.123},
        table_digest="a" * 64,
        schema_digest="b" * 64,
        policy_digest="c" * 64,
        max_advantage=0.1,
        alpha=0.05,
        attempt=3,
        seed=7,
        versions={"numpy": "9.9.9"},
    )


def utility():
    quality = Quality(overall=0.9, column_shapes=0.95, column_pairs=0.85)
    floor = Quality(overall=0.85, column_shapes=1.0, column_pairs=0.7)
    ceiling = Quality(overall=0.98, column_shapes=0.99, column_pairs=0.97)
    moments = Moments(mean=1.5, std=0.5, skewness=0.0, kurtosis=-1.0)
    ways = ("one_way", "two_way", "floor_one_way", "floor_two_way", "ceiling_one_way", "ceiling_two_way")
    return UtilityReport(
        quality=quality,
        floor=floor,
        ceiling=ceiling,
        total_variation={way: 0.01 * i for i, way in enumerate(ways)},
        utility=(
            TargetUtility(
                target=f"{HOSTILE} = yes",
                real=Score(accuracy=0.8, auc=0.9),
                synthetic=Score(accuracy=0.7, auc=0.4321),
                others={HOSTILE: Score(accuracy=0.6, auc=0.7)},
            ),
        ),
        moments={HOSTILE: (moments, moments)},
        missing_rates={HOSTILE: (0.25, 0.5)},
        notes=(f"note {HOSTILE}",),
    )


def distribution(name=HOSTILE, *, is_numeric=False, missing=0.2):
    shares = np.full(4, (1 - missing) / 4)
    return ColumnDistribution(
        name=name,
        labels=(HOSTILE, "b", "c", "d"),
        real=shares,
        synthetic=shares[::-1],
        real_missing=missing,
        synthetic_missing=missing,
        is_numeric=is_numeric,
    )


def maps(size=4):
    values = np.eye(size)
    values[0, 1] = values[1, 0] = np.nan
    return AssociationMaps(names=(HOSTILE, *map(str, range(size - 1))), real=values, synthetic=np.eye(size))


def curves(count=3):
    return tuple(
        SpendCurve(site=f"{HOSTILE}{i}", rounds=(1, 2, 3), epsilon=(0.5, 0.8, 1.25), cap=3.0)
        for i in range(count)
    )


@functools.cache
def evaluation():
    shown = tuple(distribution(f"{HOSTILE}{i}", is_numeric=bool(i % 2)) for i in range(3))
    return evaluation_page(utility(), shown, maps(), title=HOSTILE)


def spend():
    return Page(title=HOSTILE, subtitle=HOSTILE, sections=(spend_section(curves()),), footer=HOSTILE).render()


@pytest.mark.parametrize("make", [evaluation, lambda: audit_page(audit(), title=HOSTILE), spend])
def test_page_is_well_formed_self_contained_and_escaped(make):
    document = make()
    page = read(document)
    assert "script" not in page.tags
    assert not {"link", "iframe", "object", "embed"} & page.tags
    assert len(page.ids) == len(set(page.ids)), "two pictures share an id"
    assert page.addresses
    for address in page.addresses:
        assert address.startswith(("#", "data:image/png;base64,"))
        assert not address.startswith("#") or address[1:] in page.ids
    outside = re.sub(r'xmlns(:\w+)?="[^"]*"', "", document)
    assert not re.search(r"https?://|//\w+\.\w|@import|url\((?!#)", outside)
    assert "default-src 'none'" in document
    assert HOSTILE in "".join(page.text), "a name is shown as it is, neither run nor set as a formula"


@pytest.mark.parametrize(
    "make",
    [
        lambda: spend_chart(curves(1)),
        lambda: spend_chart(curves(5)),
        lambda: distribution_chart(distribution(is_numeric=True)),
        lambda: distribution_grid((distribution(),)),
        lambda: association_chart(maps(2)),
        lambda: attack_rate_chart((attack("a"),)),
        lambda: advantage_chart((attack("a", advantage=-0.5), attack("b", decides=False)), 0.1),
        lambda: tstr_chart(utility().utility * 2),
    ],
)
def test_chart_is_well_formed_repeatable_and_says_what_it_shows(make):
    first = make()
    assert first == make()
    assert read(first).tags >= {"svg", "title"}
    assert 'role="img" aria-label=' in first


def test_tstr_chart_shows_an_auc_below_chance():
    assert "0.432" in tstr_chart(utility().utility)


def test_different_pictures_never_share_an_id():
    first, second = (read(distribution_grid((distribution(name),))) for name in ("one", "two"))
    assert first.ids
    assert not set(first.ids) & set(second.ids)


def test_evaluation_page_shows_floor_ceiling_others_missing_and_notes():
    text = "".join(read(evaluation()).text)
    for expected in ("Floor", "Ceiling", "0.850", "0.980", "0.432", "25.0 %", "note <script>", " alone"):
        assert expected in text
    assert "56 % of the way" in text
    assert "not covered by the privacy budget" in text


def test_evaluation_page_of_a_bare_report():
    quality = Quality(overall=1.0, column_shapes=1.0, column_pairs=1.0)
    bare = UtilityReport(
        quality=quality, floor=quality, ceiling=quality, total_variation={}, utility=(), moments={}
    )
    text = "".join(read(evaluation_page(bare)).text)
    assert "of the way" not in text, "no share of nothing"


@pytest.mark.parametrize("verdict", list(Verdict))
def test_audit_page_shows_verdict_evidence_and_limits(verdict):
    document = audit_page(audit(verdict))
    text = "".join(read(document).text)
    assert f'class="badge {verdict.value.lower()}">{verdict.value}<' in document
    for expected in ("because <script>", "0.044", "c" * 64, "9.9.9", "Attempt 3", "tau = 0.1"):
        assert expected in text
    assert "A PASS means that the attacks listed found less than tau; it is not proof of anonymity." in text
    assert "No hard rule is violated." in text


def test_audit_page_keeps_diagnostics_and_comparisons_apart_from_what_decides():
    text = "".join(read(audit_page(audit())).text)
    deciding = text.index("Attacks that decide")
    compared = text.index("Attacks shown for comparison: they decide nothing")
    assert deciding < text.index("membership, distance", deciding) < compared
    assert text.index("presence, distance", deciding) > compared
    assert "Diagnostics: they decide nothing" in text


def test_audit_page_without_attacks_is_still_a_page():
    text = "".join(read(audit_page(audit(Verdict.INVALID, attacks=()))).text)
    assert "cannot be relied on" in text


def test_sections_can_be_composed_into_one_page():
    sections = (Section(title="One", blocks=(paragraph("a"),)), spend_section(()))
    page = read(Page(title="t", subtitle="s", sections=sections).render())
    assert page.ids == ["section-1", "section-2"]
    assert "No site has spent anything." in page.text


def test_table_marks_its_headings_for_screen_readers():
    markup = table("caption", ("name", "value"), (("a", "1"),))
    assert markup.count('scope="col"') == 2
    assert markup.count('scope="row"') == 1


def test_figures_refuse_arrays_that_do_not_fit():
    with pytest.raises(ValueError, match="differ in length"):
        ColumnDistribution(name="a", labels=("x",), real=np.ones(2), synthetic=np.ones(2))
    with pytest.raises(ValueError, match="do not fit"):
        AssociationMaps(names=("a",), real=np.eye(2), synthetic=np.eye(2))
    with pytest.raises(ValueError, match="differ in length"):
        SpendCurve(site="a", rounds=(1,), epsilon=(), cap=1.0)


def test_charts_leave_matplotlibs_settings_as_they_were():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    spend_chart(curves(1))
    assert dict(mpl.rcParams) == before
