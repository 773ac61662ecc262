"""Membership from the weights: does the model explain this person better than it explains others?

Attacker: holds the generator's weights (a receiving site, the coordinator, whoever is given the model),
the full record of a target and a sample of the population (the reference). Success: names members more
often than people of the holdout, by the model's log likelihood of the record (or the bound it was trained
on). Common records are likely under any model, so a second score takes off what the reference alone makes
one expect: the record's likelihood under independent columns, and how lonely it is among people.

A table that leaves does not bring its weights along, so these figures stand in the report for comparison
and do not move the verdict on the table. Thresholds are the reference's top 1 %, 10 % and 50 %. Source:
Yeom et al., CSF 2018 (loss), and Carlini et al., S&P 2022 (calibration by difficulty, here without shadow
models). Knows weights and evidence; refuses to know verdicts.
"""

from typing import Protocol

import numpy as np

from synthkit.audit.claims import RATES, Claims, Scores
from synthkit.audit.evidence import Evidence, RealRows
from synthkit.data.encoding import Encoding
from synthkit.data.table import PatientTable
from synthkit.domain.schema import Schema

NAME = "white-box membership by likelihood"
CALIBRATED = f"{NAME}, calibrated"


class Likelihood(Protocol):
    """What is asked of a generator; see `synthkit.generators.base.Generator`."""

    def log_likelihood(self, states: np.ndarray) -> np.ndarray | None:
        """Of each row, or None."""


class Weights(Protocol):
    """A trained model, as `synthkit.training.artefact` reads it."""

    @property
    def schema(self) -> Schema:
        """Its columns."""

    @property
    def encoding(self) -> Encoding:
        """How it sees rows."""

    @property
    def generator(self) -> Likelihood:
        """The weights."""


def explain(model: Weights, tables: dict[str, PatientTable], evidence: Evidence) -> tuple[Claims, ...]:
    """Claims by both scores at every rate; nothing where the generator knows no likelihood.

    Args:
        model: The weights under attack.
        tables: `members`, `holdout` and `reference`, as the evidence was gathered from them.
        evidence: Their exposures and bins.
    """
    names = ("members", "holdout", "reference")
    fits = [_log_likelihood(model.generator, model.encoding, tables[name]) for name in names]
    if any(fit is None for fit in fits):
        return ()
    real = evidence.real
    parts = (real.members, real.holdout, real.reference)
    plain = [np.asarray(fit) for fit in fits]
    expected = [_difficulty(part, real.reference) for part in parts]
    slopes = np.linalg.lstsq(expected[2], plain[2], rcond=None)[0]
    calibrated = [fit - design @ slopes for fit, design in zip(plain, expected, strict=True)]
    scores = {NAME: _scores(plain, evidence), CALIBRATED: _scores(calibrated, evidence)}
    return tuple(score.claims_at(rate, name=name) for name, score in scores.items() for rate in RATES)


def _log_likelihood(generator: Likelihood, encoding: Encoding, table: PatientTable) -> np.ndarray | None:
    states = encoding.encode(table)
    # A level outside the schema has no state of its own.
    return generator.log_likelihood(np.minimum(states, np.array(encoding.layout.states) - 1))


def _difficulty(part: RealRows, reference: RealRows) -> np.ndarray:
    """(rows, 3): a constant, the log likelihood under independent columns, and the loneliness."""
    total = np.zeros(len(part.bins))
    for j in range(part.bins.shape[1]):
        top = max(int(part.bins[:, j].max()), int(reference.bins[:, j].max())) + 1
        counts = np.bincount(reference.bins[:, j], minlength=top) + 0.5
        total += np.log(counts / counts.sum())[part.bins[:, j]]
    return np.stack((np.ones(len(total)), total, np.log(part.loneliness)), axis=1)


def _scores(rows: list[np.ndarray], evidence: Evidence) -> Scores:
    real = evidence.real
    return Scores(
        members=real.members.people.largest(rows[0]),
        holdout=real.holdout.people.largest(rows[1]),
        reference=real.reference.people.largest(rows[2]),
        member_ties=evidence.members.tie,
        holdout_ties=evidence.holdout.tie,
        reference_ties=evidence.reference.tie,
    )
