"""The page an officer signs under: nine parts, each saying what it has to, and no gap filled in."""

import datetime as dt
import re
from dataclasses import replace

import pytest
from test_report_pages import HOSTILE, attack, audit, read

from synthkit.domain.audit import Interval, Verdict
from synthkit.domain.linkage import Linkage
from synthkit.domain.privacy import (
    DpSgdEvent,
    EncoderProvenance,
    GaussianEvent,
    GaussianThresholdEvent,
    PrivacySpend,
)
from synthkit.domain.schema import Column, Kind, Provenance, Schema
from synthkit.report.audit_scope import outside_the_claim
from synthkit.report.charts import statistic_words
from synthkit.report.documents import AuditScope, ModelClaim, audit_page
from synthkit.report.roc_chart import roc_chart

PARTS = (
    "1. Scope",
    "2. What would leave",
    "3. The privacy claim",
    "4. Attacks",
    "5. Singling out, linkability, inference, and the rarest patients",
    "6. Verdict of the privacy audit",
    "7. What this audit does not say",
    "8. Evidence",
    "9. Decision and signature",
)

SPEND = PrivacySpend(
    events=(
        DpSgdEvent(noise_multiplier=1.25, sample_rate=0.015, steps=321),
        GaussianEvent(noise_multiplier=7.5, count=2),
        GaussianThresholdEvent(noise_multiplier=6.5, failure_delta=1e-7),
    ),
    epsilon=1.23411,
    delta=1e-5,
    accountant="pld",
)

CLAIM = ModelClaim(
    generator="medvae-sgd",
    weights_digest="c4" * 32,
    spend=SPEND,
    encoder_provenance=EncoderProvenance.TRAINED,
)

SCHEMA = Schema(
    name="heart",
    columns=(
        Column(name="sex", kind=Kind.CATEGORICAL, categories=("F", "M")),
        Column(name="ward", kind=Kind.CATEGORICAL, categories=("a", "b"), provenance=Provenance.DATA),
    ),
)


def scope(**changes):
    clean = AuditScope(
        site="north",
        asset="heart-patients",
        study="yearly",
        policy="strict",
        made=dt.date(2026, 3, 2),
        ledger=(17, "b5" * 32),
        schema=SCHEMA,
        claim=CLAIM,
    )
    return replace(clean, **changes)


def text_of(document):
    page = read(document)
    return " ".join(" ".join(page.text).split())


def headings(document):
    return tuple(re.findall(r"<h2>([^<]*)</h2>", document))


def named(name, statistic="univariate", *, lower=-0.05, upper=0.05, **changes):
    between = Interval(lower=lower, upper=upper, confidence=0.95)
    return replace(
        attack(name),
        name=name,
        statistic=statistic,
        advantage=(lower + upper) / 2,
        advantage_interval=between,
        **changes,
    )


@pytest.mark.parametrize("verdict", list(Verdict))
@pytest.mark.parametrize("known", [scope(), AuditScope(), None])
def test_the_nine_parts_stand_in_order_whatever_is_known(verdict, known):
    assert headings(audit_page(audit(verdict), known)) == PARTS
    assert headings(audit_page(audit(verdict, attacks=()), known)) == PARTS


def test_what_nobody_stated_is_said_to_be_unstated():
    text = text_of(audit_page(audit()))
    assert text.count("not stated") >= 7
    assert "this audit states no epsilon" in text


def test_scope_and_claim_are_printed():
    sizes = {"members": 1237, "holdout": 411, "reference": 402, "synthetic": 2500}
    text = text_of(audit_page(replace(audit(), sizes=sizes), scope()))
    for expected in ("north", "heart-patients", "yearly", "2026-03-02", "1,237", "411", "402", "2,500"):
        assert expected in text
    for expected in ("1.235 at delta 1e-05", "add or remove one patient", "pld", "entry 17, b5b5", "c4c4"):
        assert expected in text
    for expected in ("1.25 0.015 321", "7.5 everyone 2", "failure 1e-07"):
        assert expected in text


def test_everything_fitted_outside_the_claim_is_listed():
    lines = " ".join(outside_the_claim(CLAIM, SCHEMA))
    assert "read off the patients' rows: ward. No epsilon covers them." in lines
    assert "the other columns: stated in the schema" in lines
    assert "No encoder was frozen" in lines
    linkage = Linkage(mask_share=0.75, kept_cells=0.25, linked_rows=0.9)
    bare = replace(CLAIM, spend=None, encoder_provenance=EncoderProvenance.NON_DP, linkage=(linkage.words,))
    lines = " ".join(outside_the_claim(bare, None))
    assert "Everything: the generator was trained on the patients without differential privacy." in lines
    assert "90 % of the rows lead back to theirs" in lines
    assert "no epsilon can be claimed" in lines
    frozen = replace(CLAIM, encoder_provenance=EncoderProvenance.PUBLIC, encoder_digest="ab" * 32)
    assert "Its weights: abab" in " ".join(outside_the_claim(frozen, SCHEMA))
    assert {*EncoderProvenance} == {
        one for one in EncoderProvenance if outside_the_claim(replace(CLAIM, encoder_provenance=one), SCHEMA)
    }


def test_the_three_criteria_are_answered_in_words():
    attacks = (
        named("singling out", lower=0.1, upper=0.2),
        named("linkability", "halves_meet"),
        named("membership by density ratio", "tpr_at_fpr_0.01"),
    )
    text = text_of(audit_page(audit(attacks=attacks)))
    assert "More than of strangers." in text
    assert "[+10.0, +20.0]" in text
    assert "No difference was shown." in text
    assert "could have gone unseen" in text
    assert "something they did not know? Not tried: this audit has no answer." in text


def test_an_audit_of_records_says_that_the_three_were_not_asked():
    text = text_of(audit_page(audit(attacks=(named("exact record match", "multiset"),))))
    assert "do not run on records of visits" in text


def test_the_rarest_patients_stand_apart():
    attacks = (named("presence by exact match"), named("presence by exact match", stratum="rare"))
    text = text_of(audit_page(audit(attacks=attacks)))
    assert text.index("Attacks that decide") < text.index("The rarest patients") < text.index("(rare)")
    assert "No stratum was measured" in text_of(audit_page(audit(attacks=attacks[:1])))


def test_the_decision_offers_what_the_verdict_allows():
    texts = {verdict: text_of(audit_page(audit(verdict))) for verdict in Verdict}
    assert "release, on the audit's PASS" in texts[Verdict.PASS]
    assert "(override)" in texts[Verdict.FAIL]
    assert "release on the privacy claim" in texts[Verdict.INCONCLUSIVE]
    assert "nobody can approve" in texts[Verdict.INVALID]
    choices = {verdict: text.count("\N{BALLOT BOX}") for verdict, text in texts.items()}
    assert choices == {Verdict.PASS: 2, Verdict.FAIL: 2, Verdict.INCONCLUSIVE: 2, Verdict.INVALID: 1}
    for text in texts.values():
        assert "Name of the officer:" in text
        assert "Place, date, signature:" in text


def test_the_page_with_all_its_parts_is_escaped():
    known = scope(site=HOSTILE, asset=HOSTILE, study=HOSTILE, policy=HOSTILE)
    attacks = (named("singling out", HOSTILE), named("membership", "tpr_at_fpr_0.01", stratum=HOSTILE))
    page = read(audit_page(audit(attacks=attacks), known))
    assert "script" not in page.tags
    assert len(page.ids) == len(set(page.ids))


def test_the_curve_needs_two_rates_and_shows_a_rate_of_zero():
    low, high = (named("membership by density ratio", f"tpr_at_fpr_{rate}") for rate in ("0.01", "0.50"))
    assert roc_chart((low, named("singling out"))) is None
    curve = roc_chart((replace(low, attack_rate=0.0), high))
    assert curve is not None
    assert "membership by density ratio" in curve
    assert curve == roc_chart((replace(low, attack_rate=0.0), high))


@pytest.mark.parametrize(
    ("statistic", "words"),
    [("tpr_at_fpr_0.01", "at 1 %"), ("tpr_at_fpr_0.50", "at 50 %"), ("halves_meet", "halves meet")],
)
def test_statistics_are_named_in_words(statistic, words):
    assert statistic_words(statistic) == words
