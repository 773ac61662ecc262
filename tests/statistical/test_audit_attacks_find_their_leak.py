"""Each attack finds, by itself, the leak it was made for, and nothing where there is none."""

from collections.abc import Callable
from dataclasses import replace

import audit_clinic as clinic
import numpy as np
import pandas as pd
import pytest

from synthkit.audit import (
    agreement,
    attribute,
    classifier,
    identity,
    linkability,
    membership,
    releases,
    singling_out,
    tracing,
    white_box,
)
from synthkit.audit.claims import Claims
from synthkit.audit.evidence import Evidence, gather
from synthkit.audit.run import run_audit
from synthkit.audit.statistics import fisher_greater
from synthkit.data.encoding import fit_encoding
from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.audit import Verdict
from synthkit.domain.privacy import EncoderProvenance
from synthkit.generators.medvae import MedVae
from synthkit.training.artefact import Model, new_generator

SIZE = 1000
Frames = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]


@pytest.fixture(scope="module")
def frames() -> Frames:
    rng = np.random.default_rng(17)
    return tuple(clinic.draw(rng, SIZE) for _ in range(4))


def evidence(frames: Frames, synthetic: pd.DataFrame, earlier: tuple[pd.DataFrame, ...] = ()) -> Evidence:
    members, holdout, reference, _ = (clinic.people(frame) for frame in frames)
    return gather(
        members=members,
        holdout=holdout,
        reference=reference,
        synthetic=clinic.made(synthetic),
        earlier=[clinic.made(frame) for frame in earlier],
        seed=0,
    )


@pytest.fixture(scope="module")
def clean(frames: Frames) -> Evidence:
    return evidence(frames, frames[3])


def p_value(claims: tuple[Claims, ...]) -> float:
    """The smallest p value, Bonferroni over the attack's own statistics."""
    counts = [(c.members.sum(), c.members.size, c.holdout.sum(), c.holdout.size) for c in claims]
    return min(fisher_greater(*(int(n) for n in four)) for four in counts) * len(claims)


def mixed(frames: Frames, kept: float, seed: int = 3) -> pd.DataFrame:
    """Each row keeps that share of a member's cells; the others come from an independent patient."""
    rng = np.random.default_rng(seed)
    members, fresh = frames[0], clinic.draw(rng, SIZE)
    keeps = rng.random(members.shape) < kept
    return pd.DataFrame({n: np.where(keeps[:, j], members[n], fresh[n]) for j, n in enumerate(fresh.columns)})


ATTACKS: dict[str, tuple[Callable[[Evidence], tuple[Claims, ...]], float]] = {
    "shared_cells": (agreement.share, 0.2),
    "two_way_tables": (tracing.trace, 1.0),
    "classifier": (classifier.classify, 1.0),
    "singling_out": (singling_out.single_out, 0.5),
    "linkability": (linkability.link, 0.7),
    "attribute": (attribute.infer, 0.8),
    "identity": (identity.disclose, 0.9),
}
"""Each attack with the share of a member's cells in a row from which it finds the leak by itself."""


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_finds_its_leak_by_itself_and_nothing_in_a_clean_table(
    frames: Frames, clean: Evidence, name: str
) -> None:
    """A clean table yields p below 0.01 with probability at most 0.01; seeds are fixed."""
    attack, kept = ATTACKS[name]
    assert p_value(attack(clean)) > 0.01
    assert p_value(attack(evidence(frames, mixed(frames, kept)))) < 1e-4


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_sees_apostrophes_dates_gaps_and_unseen_levels(frames: Frames, name: str) -> None:
    """A verbatim copy is found, whatever the columns hold."""

    def odd(frame: pd.DataFrame, level: str) -> pd.DataFrame:
        ward = np.where(frame["sex"] == "F", "Crohn's", 'Alzheimer\'s "ward"').astype(object)
        ward[:5] = level
        late = frame["admitted"].where(frame.index % 9 != 0)
        return frame.assign(ward=ward, admitted=late, grade=frame["grade"].where(frame.index % 4 != 0, None))

    members, holdout, reference, _ = (odd(f, level) for f, level in zip(frames, "abcd", strict=True))
    found = evidence((members, holdout, reference, members), members)
    assert p_value(ATTACKS[name][0](found)) < 1e-4


def test_a_population_rule_helps_to_guess_and_is_no_disclosure() -> None:
    """A column that follows from another is guessed for everyone; members lose nothing by it.

    The best guess without the table is right for half. False alarms: 0.01; seed fixed.
    """
    rng = np.random.default_rng(5)
    tables = [clinic.draw(rng, 600) for _ in range(4)]
    ruled = tuple(t.assign(died=np.where(t["sex"] == "F", "1", "0").astype(object)) for t in tables)
    (claims,) = attribute.infer(evidence(ruled, ruled[3]))
    assert claims.statistic == "secret_died"
    assert claims.holdout.mean() > claims.baseline_rate + 0.2
    assert p_value((claims,)) > 0.01


def test_sets_of_unequal_size_are_compared_in_groups_of_equal_size() -> None:
    """Four times as many members as holdout: without equal groups a member would be alone less often, or a
    correction would invent a risk. In 5 clean tables no two rates differ by 4.5
    standard errors; false alarms: 0.0001 in all. Seeds are fixed."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        tables = tuple(clinic.draw(rng, size) for size in (800, 200, 200, 800))
        found = evidence(tables, tables[3])
        for attack in (singling_out.single_out, identity.disclose):
            for claims in attack(found):
                # Twice, for both sides: neither set may be favoured by its size.
                rates = claims.members.mean(), claims.holdout.mean()
                spread = np.sqrt(max(rates[1], 0.02) * (1 / 800 + 1 / 200))
                assert abs(rates[0] - rates[1]) < 4.5 * spread


def test_the_rule_of_identity_disclosure_fires_on_a_copy_and_not_on_a_clean_table(
    frames: Frames, clean: Evidence
) -> None:
    """False alarms: 0.02 of the level, 0.00033. Seeds are fixed."""
    level = clinic.RULES.alpha / clinic.RULES.max_attempts
    assert identity.above_limit(clean, level=level) == ()
    assert identity.figures(clean)["identity_risk_limit"] == 0.09
    secrets = ("ward", "grade", "bmi")
    schema = replace(
        clinic.SCHEMA,
        columns=tuple(replace(c, target=c.name in secrets) for c in clinic.SCHEMA if c.name != "died"),
    )
    members, holdout, reference, fresh = (frame[list(schema.names)] for frame in frames)

    def rules(synthetic: pd.DataFrame) -> tuple[str, ...]:
        sets = {"members": members, "holdout": holdout, "reference": reference}
        real = {name: clinic.people(frame, schema) for name, frame in sets.items()}
        found = gather(**real, synthetic=clinic.made(synthetic, schema), seed=0)
        return identity.above_limit(found, level=level)

    assert rules(fresh) == ()
    (rule,) = rules(members)
    assert "above 0.09" in rule


def test_eight_releases_give_away_what_one_hides(frames: Frames) -> None:
    """Each holds 0.37 of every member's cells, drawn afresh. Seeds are fixed."""
    first, *others = (mixed(frames, 0.37, seed) for seed in range(1, 9))
    together = evidence(frames, first, tuple(others))
    assert p_value(membership.density_ratio(together)[:2]) > 0.01
    assert p_value(releases.combine(together)) < 1e-4


def test_one_release_has_no_attack_of_several(clean: Evidence) -> None:
    assert releases.combine(clean) == ()


def test_several_independent_releases_are_spared(frames: Frames) -> None:
    """False alarms: 0.01; seeds are fixed."""
    rng = np.random.default_rng(8)
    together = evidence(frames, frames[3], (clinic.draw(rng, SIZE), clinic.draw(rng, SIZE)))
    assert p_value(releases.combine(together)) > 0.01


def trained_on(table: PatientTable, *, noise: float) -> Model:
    """A Med-VAE fitted to the table's exact two-way tables, or to ones with that much noise in each cell."""
    encoding = fit_encoding(table.schema)
    settings = {"codes": 120, "fit_steps": 100}
    generator = new_generator("medvae", table.schema, settings, seed=0)
    assert isinstance(generator, MedVae)
    states = encoding.encode(table)
    hot = np.concatenate([np.eye(n)[states[:, j]] for j, n in enumerate(encoding.layout.states)], axis=1)
    counts = hot.T @ hot + np.random.default_rng(0).normal(0.0, noise, size=(hot.shape[1],) * 2)
    generator.set_tables((counts + counts.T) / 2)
    generator.fit(sites=1.0, pair_noise=max(noise, 0.01), single_noise=max(noise, 0.01))
    return Model(
        schema=table.schema,
        generator=generator,
        spend=None,
        encoder_provenance=EncoderProvenance.TRAINED,
        study="s",
        study_digest="0" * 64,
        site="north",
    )


@pytest.mark.parametrize(("noise", "is_found"), [(0.0, True), (60.0, False)])
def test_the_weights_of_an_overfitted_model_give_members_away_and_noisy_ones_do_not(
    noise: float, is_found: bool
) -> None:
    """120 patients and no noise against noise of 60 patients a cell. False alarms: 0.01; seeds are fixed."""
    rng = np.random.default_rng(4)
    members, holdout, reference, fresh = (clinic.draw(rng, size) for size in (120, 400, 400, 400))
    report = run_audit(
        members=clinic.people(members),
        holdout=clinic.people(holdout),
        reference=clinic.people(reference),
        synthetic=clinic.made(fresh),
        model=trained_on(clinic.people(members), noise=noise),
        rules=clinic.RULES,
        policy_digest="0" * 64,
    )
    shown = [attack for attack in report.attacks if attack.name.startswith(white_box.NAME)]
    assert len(shown) == 6
    assert not any(attack.decides for attack in shown)
    assert (min(attack.p_adjusted for attack in shown) < 0.01) == is_found
    assert report.verdict is not Verdict.FAIL, "the table itself is independent of the members"


def test_an_earlier_release_is_named_by_its_digest(frames: Frames) -> None:
    members, holdout, reference, fresh = frames
    before: SyntheticTable = clinic.made(clinic.draw(np.random.default_rng(1), 200))
    report = run_audit(
        members=clinic.people(members),
        holdout=clinic.people(holdout),
        reference=clinic.people(reference),
        synthetic=clinic.made(fresh),
        earlier=[before],
        rules=clinic.RULES,
        policy_digest="0" * 64,
    )
    assert report.earlier == (before.digest,)
    assert type(report).from_json(report.to_json()).digest == report.digest
    assert any(attack.name == releases.MEAN for attack in report.attacks)
