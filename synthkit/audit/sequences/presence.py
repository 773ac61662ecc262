"""Presence by exact match of records: does somebody's whole record of visits stand in the release?

Attacker: holds the release and a target's whole record; no model, no sample of the population. Success:
finds the record for members more often than for people the generator never saw. What "the record" is has
five readings, all attacked: the multiset of visits, whatever their order (EVA's form, the one that bounds a
PASS); the visits in their order; the bag of codes without their visits; the set of codes; and, where visits
have times, the gaps between the visits alone, for a generator may copy these and no code. Gaps are compared
as the public calendar's kinds, on both sides: a day more or less hides no copy.

Records of one common visit match by chance in any release; so the match is counted again among patients
with 1, 2, 3 or 4, and five or more visits, among the rarest patients, and among those whose record no
reference patient has: whom a release made of strangers would hardly match. A leak of one record in a hundred
drowns in the chance matches of the short ones and shows among the long ones. It is counted once more for each
level of the binary static columns, a list that the schema fixes before any row is read: a generator that is
told a condition may know that condition's few patients by heart, and nobody else's.

Source: EVA (Biswal et al. 2021), presence disclosure; the control group as in Giomi et al., PoPETs 2023.
Knows evidence; refuses to know verdicts.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from synthkit.audit.claims import Claims
from synthkit.audit.sequences.evidence import Figures, SequenceEvidence
from synthkit.audit.sequences.records import Records
from synthkit.audit.steps import MIN_PATIENTS

NAME = "exact record match"
MULTISET = "visits"
FEW_GAPS = 5
"""With fewer visits, their gaps match by chance and are not claimed."""

Mask = Callable[[Figures], np.ndarray]


def exact_match(evidence: SequenceEvidence) -> tuple[Claims, ...]:
    """All readings of an exact match, and the multiset of visits by strata."""
    multiset = _claims(evidence, MULTISET, _multiset, bounds=True)
    by_chance = found(evidence.reference.records, evidence.synthetic, _multiset, 1)
    others = [
        _claims(evidence, "visits_in_order", lambda part: part.ordered),
        _claims(evidence, "code_bag", lambda part: part.code_bag),
        _claims(evidence, "code_set", lambda part: part.code_set),
    ]
    if evidence.synthetic.gaps is not None:
        others.append(_claims(evidence, "gaps", _gaps, least=FEW_GAPS))
    return (multiset, *by_strata(multiset, by_chance, evidence), *others)


def found(part: Records, release: Records, key: Callable[[Records], np.ndarray], least: int) -> np.ndarray:
    """Whose key is one of the release's, with at least so many visits: bool (patients,)."""
    known = key(release)[release.visit_counts >= least]
    return np.asarray(np.isin(key(part), known) & (part.visit_counts >= least))


def by_strata(claims: Claims, by_chance: np.ndarray, evidence: SequenceEvidence) -> tuple[Claims, ...]:
    """The same claims among patients of some visits, and among the rare; strata without people are left out.

    By number of visits with codes, by rarity of codes as the reference sets it, by whether anybody of the
    reference has the same visits, the chance of a match without any leak, and by level of each binary static
    column. A level that some set has too few patients of is left out as well.

    Args:
        claims: About all patients.
        by_chance: bool (reference patients,), whom the same rule claims: the strata's baselines.
        evidence: The measured sets.
    """
    threshold = evidence.rare_threshold
    strata: dict[str, Mask] = {
        "1 visit": lambda part: part.records.visit_counts == 1,
        "2 visits": lambda part: part.records.visit_counts == 2,
        "3 to 4 visits": lambda part: (part.records.visit_counts >= 3) & (part.records.visit_counts <= 4),
        "5 or more visits": lambda part: part.records.visit_counts >= 5,
        "rare": lambda part: part.code_rarity > threshold,
        "unshared": lambda part: part.likeness_to_people < 1.0,
    }
    masks = {name: [mask(part) for part in evidence.real] for name, mask in strata.items()}
    masks |= _levels(evidence)
    return tuple(
        replace(
            claims.within(members, holdout, stratum=name),
            baseline_rate=float(np.mean(by_chance[reference])),
        )
        for name, (members, holdout, reference) in masks.items()
        if members.any() and holdout.any() and reference.any()
    )


def _levels(evidence: SequenceEvidence) -> dict[str, list[np.ndarray]]:
    """Who has each level, set by set, of the levels that all three sets have enough patients of."""
    levels = {name: [part.levels[name] for part in evidence.real] for name in evidence.reference.levels}
    return {
        name: masks
        for name, masks in levels.items()
        if min(int(mask.sum()) for mask in masks) >= MIN_PATIENTS
    }


def _claims(
    evidence: SequenceEvidence,
    statistic: str,
    key: Callable[[Records], np.ndarray],
    *,
    least: int = 1,
    bounds: bool = False,
) -> Claims:
    members, holdout, reference = (
        found(part.records, evidence.synthetic, key, least) for part in evidence.real
    )
    return Claims(
        name=NAME,
        statistic=statistic,
        members=members,
        holdout=holdout,
        baseline_rate=float(reference.mean()),
        bounds=bounds,
    )


def _multiset(part: Records) -> np.ndarray:
    return part.multiset


def _gaps(part: Records) -> np.ndarray:
    if part.gaps is None:
        raise ValueError("some records have times and others have none")
    return part.gaps
