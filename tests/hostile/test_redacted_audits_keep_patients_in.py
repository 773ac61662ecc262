"""What of an audit may leave: canaries planted in the full report, and searched for in every form."""

import base64
import gzip
import json
import re
from dataclasses import fields, replace
from html.parser import HTMLParser

import pytest

from synthkit.domain.audit import COARSE_EFFECTS, AttackResult, AuditReport, Interval, Verdict
from synthkit.domain.canonical import canonical_json
from synthkit.domain.privacy import DpSgdEvent, EncoderProvenance, PrivacySpend
from synthkit.report.documents import AuditScope, ModelClaim, audit_page, redacted_page

MARK = "QX7731-patient"
COUNTS = {"members": 73_137, "holdout": 41_719, "reference": 38_923, "synthetic": 61_357}
RATES = (0.73319, 0.28471, 0.61793, 0.44848, 0.79231, 0.38167, 0.93571, 0.17393, 0.87139, 0.53711)
SEED = 915_273
STRATUM = "5 or more visits"
TABLE, SCHEMA, POLICY = ("d1" * 32, "e2" * 32, "f3" * 32)


def attack(name="presence by exact match", statistic="exact_match", **changes):
    between = Interval(lower=RATES[7], upper=RATES[0], confidence=0.95)
    clean = AttackResult(
        name=name,
        statistic=statistic,
        attack_rate=RATES[0],
        control_rate=RATES[1],
        baseline_rate=RATES[2],
        attack_interval=Interval(lower=RATES[2], upper=RATES[4], confidence=0.95),
        control_interval=Interval(lower=RATES[7], upper=RATES[5], confidence=0.95),
        advantage=RATES[3],
        advantage_interval=between,
        p_value=RATES[9],
        p_adjusted=RATES[8],
        minimum_detectable_effect=RATES[5],
    )
    return replace(clean, **changes)


def planted(verdict=Verdict.FAIL, attacks=None, **changes):
    """A report in which every field that comes from patients holds a canary."""
    default = (
        attack(),
        attack("singling out", "univariate"),
        attack("linkability", "halves_meet"),
        attack("attribute inference", f"secret_{MARK}-column"),
        attack("membership by density ratio", "tpr_at_fpr_0.01"),
        attack("membership by density ratio", "tpr_at_fpr_0.10"),
        attack("presence by exact match", "exact_match", stratum=STRATUM, minimum_detectable_effect=RATES[9]),
        attack("white-box membership by likelihood", "tpr_at_fpr_0.01", decides=False),
    )
    clean = AuditReport(
        verdict=verdict,
        reasons=(f"reason {MARK}", f"an advantage of {RATES[3]}"),
        attacks=default if attacks is None else attacks,
        hard_rules=(f"rule {MARK}",),
        diagnostics={f"dcr {MARK}": RATES[6], "eva_sensitivity_at_73137": RATES[4]},
        table_digest=TABLE,
        schema_digest=SCHEMA,
        policy_digest=POLICY,
        max_advantage=0.02,
        alpha=0.05,
        attempt=2,
        seed=SEED,
        versions={"synthkit": "9.9.9"},
        earlier=("ab" * 32,),
        sizes=COUNTS,
    )
    return replace(clean, **changes)


def scope():
    spend = PrivacySpend(
        events=(DpSgdEvent(noise_multiplier=1.1, sample_rate=0.01, steps=317),),
        epsilon=1.2345,
        delta=1e-5,
        accountant="pld",
    )
    claim = ModelClaim(
        generator="medvae-sgd",
        weights_digest="c4" * 32,
        spend=spend,
        encoder_provenance=EncoderProvenance.TRAINED,
    )
    return AuditScope(site="north", asset="heart", ledger=(17, "b5" * 32), claim=claim)


def spellings(rate):
    """A rate as a page could show it, to two digits or more, also in per cent."""
    for digits in (2, 3, 4, 5):
        yield f"{rate:.{digits}f}"
    for digits in (0, 1, 2, 3):
        yield f"{100 * rate:.{digits}f} %"
        yield f"{100 * rate:.{digits}f}%"
        yield f"{100 * rate:+.{digits}f}"


def words(text):
    """Every spelling of everything that must stay."""
    found = {MARK, STRATUM, str(SEED), SCHEMA, "ab" * 32, planted().digest}
    for count in COUNTS.values():
        found |= {str(count), f"{count:,}", f"{count:_}", f"{count / 1000:.0f}k", f"{count / 1000:.1f}"}
        found |= {hex(count)[2:], f"{count:.3g}"}
    for rate in RATES:
        found |= set(spellings(rate))
    return sorted(word for word in found if re.search(rf"(?<![\w.]){re.escape(word)}(?![\w.])", text))


def leaks(page):
    """Canaries in a page: as text, in base64 at each offset, and within whatever is embedded."""
    found = words(page)
    for word in (MARK, str(SEED), *map(str, COUNTS.values()), *(f"{rate:.3f}" for rate in RATES)):
        for offset in range(3):
            coded = base64.b64encode(b"x" * offset + word.encode()).decode()
            inner = coded[(0, 2, 3)[offset] : -4]
            found += [f"{word} in base64"] if len(inner) >= 4 and inner in page else []
    for block in re.findall(r"[A-Za-z0-9+/]{16,}={0,2}", page):
        found += [f"{word} in base64" for word in words(_decoded(block))]
    return found


def _decoded(block):
    try:
        data = base64.b64decode(block + "=" * (-len(block) % 4), validate=True)
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("latin-1")
    except (ValueError, OSError, EOFError):
        return ""


class Seen(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text, self.is_style = set(), [], False

    def handle_starttag(self, tag, attrs):
        del attrs
        self.tags.add(tag)
        self.is_style = tag == "style"

    def handle_endtag(self, tag):
        self.is_style = self.is_style and tag != "style"

    def handle_data(self, data):
        self.text += [] if self.is_style else [data]


def seen(page):
    parser = Seen()
    parser.feed(page)
    parser.close()
    return parser


@pytest.fixture(scope="module")
def full():
    return audit_page(planted(), scope())


def test_the_full_page_has_the_canaries_that_the_search_looks_for(full):
    """So that an empty search is news."""
    found = words(" ".join(seen(full).text))
    assert {MARK, STRATUM, str(SEED), SCHEMA, "73,137", "61,357", "0.733", "0.285", "0.448", "0.8714"} <= set(
        found
    )
    assert {"svg"} <= seen(full).tags


@pytest.mark.parametrize("verdict", list(Verdict))
def test_no_canary_reaches_the_redacted_page_or_its_json(verdict):
    report = planted(verdict)
    page, document = redacted_page(report.coarse()), canonical_json(report.coarse()).decode()
    assert f">{verdict.value}<" in page
    assert leaks(page) == []
    assert leaks(document) == []


def test_the_search_finds_a_planted_canary_in_every_form():
    page = redacted_page(planted().coarse())
    forms = [MARK, "73,137", "73137", "0.733", "73.3 %", "+44.8", STRATUM, str(SEED)]
    forms += [base64.b64encode(f"{'x' * shift}a row of {MARK} here".encode()).decode() for shift in range(3)]
    forms += [base64.b64encode(gzip.compress(f"a row of {MARK}".encode())).decode()]
    for form in forms:
        assert leaks(page.replace("</main>", f"<p>{form} </p></main>")), form


def test_the_redacted_page_is_a_function_of_the_coarse_form_alone():
    """Two reports that differ in everything the coarse form leaves out give the same bytes."""
    one, other = (
        planted(),
        planted(
            reasons=(),
            hard_rules=(),
            diagnostics={},
            seed=1,
            sizes={},
            earlier=(),
            schema_digest="0" * 64,
            attacks=tuple(
                replace(one, attack_rate=0.5, control_rate=0.5, advantage=0.0, p_value=1.0, p_adjusted=1.0)
                for one in planted().attacks
                if one.decides and one.stratum == "all"
            ),
        ),
    )
    assert redacted_page(one.coarse()) == redacted_page(other.coarse())
    assert redacted_page(json.loads(canonical_json(one.coarse()))) == redacted_page(one.coarse())


def test_it_has_no_picture_and_no_number_but_public_ones():
    page = seen(redacted_page(planted().coarse()))
    assert not {"svg", "img", "canvas", "path"} & page.tags
    text = " ".join(page.text)
    steps = {f"{step:g}" for step in COARSE_EFFECTS}
    public = {*steps, "0", "0.05", "0.02", "2", "1", "10", "9.9.9", "256"}
    numbers = set(re.findall(r"(?<![\w.-])\d+(?:\.\d+)*(?![\w-])", text))
    assert numbers <= public


def test_a_stratum_with_people_in_it_looks_like_one_without():
    """Strata that nobody is in are not attacked; the coarse form must not tell which were."""
    bare = planted(attacks=tuple(one for one in planted().attacks if one.stratum == "all"))
    assert planted().coarse() == bare.coarse()


def test_the_secret_that_patients_chose_looks_like_any_other():
    """A schema without a target has its secrets named by the reference patients."""
    column = [
        replace(one, statistic="secret_bmi") if "secret_" in one.statistic else one
        for one in planted().attacks
    ]
    assert planted(attacks=tuple(column)).coarse() == planted().coarse()


def test_a_few_patients_more_change_no_byte():
    sizes = {name: count + 3 for name, count in COUNTS.items()}
    moved = tuple(
        replace(one, minimum_detectable_effect=one.minimum_detectable_effect * 0.99)
        for one in planted().attacks
    )
    assert redacted_page(planted(sizes=sizes, attacks=moved).coarse()) == redacted_page(planted().coarse())


def test_every_field_of_a_report_was_thought_of():
    """A field added to the report or to an attack has to be planted here, or stand among the public ones."""
    leaving = {
        "verdict",
        "attacks",
        "table_digest",
        "policy_digest",
        "max_advantage",
        "alpha",
        "attempt",
        "versions",
    }
    staying = {"reasons", "hard_rules", "diagnostics", "schema_digest", "seed", "earlier", "sizes"}
    assert {field.name for field in fields(AuditReport)} == leaving | staying
    assert set(planted().coarse()) == leaving
    assert {name for entry in planted().coarse()["attacks"] for name in entry} == {
        "name",
        "statistic",
        "minimum_detectable_effect",
    }
