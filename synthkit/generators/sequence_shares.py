"""One-way shares of records: what is bought once, so that a generator of records starts near them.

Knows record states and the sum of their vectors, noised or not. Refuses to draw noise. Rules: a patient's
vector has norm at most 1 whatever the record; where noise drowns a share, a public floor stands in.
"""

from dataclasses import dataclass

import numpy as np
import torch

from synthkit.domain.sequence_layout import RecordStates, SequenceLayout

CODE_NORM = 2.0
"""A patient's shares of visits with each code enter with a norm of at most this: four codes in every visit
reach it, more are scaled down."""

FLOOR_STDS = 0.5
"""A share is not believed to be less than this many standard deviations of its noise."""

FIRST_CODES = 3.0
"""Codes a visit before anything is known: a public guess that the first biases start from."""

BELIEF_STDS = 2.0
"""A code's share of this many standard deviations of its noise is believed by half."""

LEAST_PATIENTS = 0.5
"""Nor less than this many patients' share."""


def share_statistics(states: RecordStates, layout: SequenceLayout) -> torch.Tensor:
    """One vector a patient, float64 (patients, k): 1, static states, leaves, codes; of norm at most 1.

    Leaves and codes are shares of the patient's own visits.
    """
    patients, lengths = len(states), np.diff(states.patient_starts)
    owner = np.repeat(np.arange(patients), lengths)
    weight = 1.0 / lengths[owner]
    entry_visit = np.repeat(np.arange(owner.size), np.diff(states.visit_starts))
    codes = np.zeros((patients, layout.codes))
    np.add.at(codes, (owner[entry_visit], states.codes), weight[entry_visit])
    norms = np.linalg.norm(codes, axis=1, keepdims=True)
    codes /= np.maximum(norms, CODE_NORM)
    leave = np.append(layout.calendar.kind_of(states.gap_days)[1:], 0)
    leave[states.patient_starts[1:] - 1] = layout.end
    leaves = np.zeros((patients, layout.end + 1))
    np.add.at(leaves, (owner, leave), weight)
    hot = np.zeros((patients, layout.statics.width))
    hot[np.arange(patients)[:, None], states.statics + np.array(layout.statics.offsets)] = 1.0
    vectors = np.concatenate([np.ones((patients, 1)), hot, leaves, codes], axis=1)
    return torch.from_numpy(vectors / _scale(layout))


def _scale(layout: SequenceLayout) -> float:
    """One block of norm at most 1 each: presence, static columns, leaves, codes; and room for rounding."""
    return float(np.sqrt(3 + len(layout.statics.states)) * (1 + 1e-9))


@dataclass(frozen=True, kw_only=True, eq=False)
class Shares:
    """Read off a sum of `share_statistics`, as the logarithms that biases are; all float32."""

    code_log_odds: np.ndarray
    leave_logs: np.ndarray
    static_logs: tuple[np.ndarray, ...]

    @classmethod
    def read(cls, total: np.ndarray, layout: SequenceLayout, *, noise: float) -> "Shares":
        """Post-processing of a sum, float64 (k,), with noise of this standard deviation.

        Code shares are a lower bound: records of very many codes were scaled down.
        """
        counts, std = total * _scale(layout), noise * _scale(layout)
        floor = max(LEAST_PATIENTS, FLOOR_STDS * std)
        patients = max(counts[0], 4 * floor)
        static_end = 1 + layout.statics.width
        leave_end = static_end + layout.end + 1
        least = LEAST_PATIENTS / patients
        shares, spread = (CODE_NORM * value / patients for value in (counts[leave_end:], std))
        codes = _code_shares(shares, spread, least=least)
        blocks = np.split(counts[1:static_end], layout.statics.offsets[1:])
        return cls(
            code_log_odds=np.log(codes / (1.0 - codes)).astype(np.float32),
            leave_logs=_logs(counts[static_end:leave_end], floor),
            static_logs=tuple(_logs(block, floor) for block in blocks),
        )


def _code_shares(shares: np.ndarray, std: float, *, least: float) -> np.ndarray:
    """Shares of visits, drawn to a floor the more the less they stand out from their noise."""
    least = min(max(least, FLOOR_STDS * std), FIRST_CODES / shares.size, 0.5)
    weight = shares**2 / (shares**2 + (BELIEF_STDS * std) ** 2 + 1e-30)
    return np.clip(least + weight * (shares - least), least, 0.95)


def _logs(counts: np.ndarray, floor: float) -> np.ndarray:
    kept = np.maximum(counts, floor)
    return np.asarray(np.log(kept / kept.sum()), dtype=np.float32)
