"""Membership from the weights of a model of records: does it explain this person's record unusually well?

Attacker: holds the generator's weights and, with them, the networks that infer a record's latent (a receiving
site, the coordinator, whoever is given the model), a target's whole record and a sample of the population
(the reference). Success: names members more often than people of the holdout, by the bound on the record's
log likelihood.

Long records are unlikely under any model, so a second score takes off what visits, codes, rare codes and
loneliness among people make one expect, fitted on the reference. Records that leave do not bring the weights
along, so these figures stand beside and do not move the verdict. Thresholds are the reference's top 1 %, 10 %
and 50 %.

Source: Yeom et al., CSF 2018 (loss), and Carlini et al., S&P 2022 (calibration by difficulty, here without
shadow models). Knows weights and evidence; refuses to know verdicts.
"""

from typing import Protocol

import numpy as np

from synthkit.audit.claims import RATES, Claims, Scores
from synthkit.audit.sequences.evidence import Figures, SequenceEvidence
from synthkit.data.sequence_encoding import SequenceEncoding
from synthkit.data.sequences import PatientSequences
from synthkit.domain.schema import Schema
from synthkit.generators.sequence_base import SequenceGenerator
from synthkit.training.sequence_likelihood import bound_parts

NAME = "white-box membership by likelihood of records"
VIEWS = {
    NAME: False,
    f"{NAME}, calibrated": True,
}


class Weights(Protocol):
    """A trained model, as `synthkit.training.sequence_artefact` reads it."""

    @property
    def schema(self) -> Schema:
        """Its columns."""

    @property
    def encoding(self) -> SequenceEncoding:
        """How it sees records."""

    @property
    def generator(self) -> SequenceGenerator:
        """The weights."""


def explain(
    model: Weights, sets: dict[str, PatientSequences], evidence: SequenceEvidence
) -> tuple[Claims, ...]:
    """Claims by the bound, plain and calibrated, at every rate.

    Args:
        model: The weights under attack.
        sets: `members`, `holdout` and `reference`, as the evidence was gathered from them.
        evidence: Their figures.
    """
    names = ("members", "holdout", "reference")
    plain = [-bound_parts(model, sets[name]).sum(axis=1) for name in names]
    expected = [_difficulty(sets[name], figures, sets["reference"]) for name, figures in _parts(evidence)]
    slopes = np.linalg.lstsq(expected[2], plain[2], rcond=None)[0]
    calibrated = [fit - design @ slopes for fit, design in zip(plain, expected, strict=True)]
    return tuple(
        _scores(calibrated if is_calibrated else plain, evidence).claims_at(rate, name=name)
        for name, is_calibrated in VIEWS.items()
        for rate in RATES
    )


def _parts(evidence: SequenceEvidence) -> tuple[tuple[str, Figures], ...]:
    return tuple(zip(("members", "holdout", "reference"), evidence.real, strict=True))


def _difficulty(part: PatientSequences, figures: Figures, reference: PatientSequences) -> np.ndarray:
    """(patients, 6): a constant, visits, codes, the codes' surprise, loneliness by visits and by codes."""
    size = len(part.schema.code.categories)
    counts = np.bincount(reference.codes, minlength=size) + 0.5
    surprise = -np.log(counts / counts.sum())
    owners = np.repeat(part.patient_of_visit, part.codes_per_visit)
    people = part.patient_count
    return np.stack(
        (
            np.ones(people),
            part.visits_per_patient.astype(np.float64),
            np.bincount(owners, minlength=people).astype(np.float64),
            np.bincount(owners, weights=surprise[part.codes], minlength=people),
            figures.rarity.astype(np.float64),
            figures.code_rarity.astype(np.float64),
        ),
        axis=1,
    )


def _scores(values: list[np.ndarray], evidence: SequenceEvidence) -> Scores:
    return Scores(
        members=values[0],
        holdout=values[1],
        reference=values[2],
        member_ties=evidence.members.tie,
        holdout_ties=evidence.holdout.tie,
        reference_ties=evidence.reference.tie,
    )
