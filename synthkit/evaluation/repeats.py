"""Train on synthetic, test on real, several times: how far could the scores be off by chance?

Knows examples, patients and seeds. Refuses to vary the synthetic table: its interval covers the
classifier and the choice of test patients, not another training of the generator. Rules: patients are
resampled whole, with all their rows; the real and the synthetic score of a replicate share classifier
seed and patients, so that their ratio is of like and like.
"""

from functools import partial

import numpy as np

from synthkit.domain.utility import Estimate, Repeats, ScoreEstimate
from synthkit.evaluation.utility import Examples, auc, predictions, truth

RESAMPLES = 200
"""Bootstraps of the test patients per classifier."""

SHARE = 0.8
"""Of the training rows for each tree. With all rows the fixed classifier is the same for every seed."""


def repeated(
    real: Examples,
    synthetic: Examples,
    *,
    test: Examples,
    patients: np.ndarray,
    target: int,
    columns: tuple[int, ...],
    seed: int,
    count: int,
) -> Repeats:
    """Score `count` classifiers on real and on synthetic rows, each on RESAMPLES bootstraps of patients.

    Args:
        real: Real rows to train on.
        synthetic: Synthetic rows to train on.
        test: Real rows to test on.
        patients: int64, shape (test rows,): equal for rows of one patient.
        target: Position of the target among the examples' answers.
        columns: Positions of the feature columns.
        seed: Seeds the classifiers and the bootstraps.
        count: Classifiers per training set.

    Returns:
        Means over the classifiers on all test rows, and percentile intervals over all replicates.

    Raises:
        InputError: No row to test on has an answer.

    Source: percentile bootstrap, Efron and Tibshirani 1993, section 13.3.
    """
    yes = truth(test, target)
    asked = ~np.isnan(test.answers[:, target])
    _, person = np.unique(patients[asked], return_inverse=True)
    whole, replicates = [], []
    for number in range(count):
        rng = np.random.default_rng((seed, 5, number))
        fit = partial(predictions, test=test, target=target, columns=columns, seed=seed + number, share=SHARE)
        sides = [fit(rows) for rows in (real, synthetic)]
        weights = [_weights(person, rng) for _ in range(RESAMPLES)]
        whole.append([_plain(yes, scores) for scores in sides])
        replicates.append([resampled(yes, scores, weights) for scores in sides])
    points = np.array(whole).mean(axis=0)
    values = np.concatenate(replicates, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio, ratios = points[1] / points[0], values[1] / values[0]
    return Repeats(
        count=count,
        real=_score(points[0], values[0]),
        synthetic=_score(points[1], values[1]),
        ratio=_score(ratio, ratios),
    )


def _weights(person: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How often each row is in a bootstrap of patients: int64, shape (rows,)."""
    patients = int(person.max()) + 1
    return np.asarray(np.bincount(rng.integers(patients, size=patients), minlength=patients)[person])


def _plain(yes: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Accuracy and AUC on all rows; AUC is NaN where all answers are one."""
    area = auc(yes, scores) if yes.any() and not yes.all() else np.nan
    return float(np.mean((scores > 0.5) == yes)), area


def resampled(yes: np.ndarray, scores: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """Accuracy and AUC of weighted rows: float64, shape (len(weights), 2).

    Args:
        yes: bool, shape (rows,).
        scores: float, shape (rows,).
        weights: Each of shape (rows,): how often a row counts, not all 0.

    Returns:
        AUC counts ties half; it is NaN where only one class has weight.
    """
    order = np.argsort(scores, kind="stable")
    ranked, right = yes[order], ((scores > 0.5) == yes)[order]
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)
    result = np.empty((len(weights), 2))
    for row, weight in enumerate(weights):
        sorted_weight = weight[order].astype(float)
        positives = np.add.reduceat(sorted_weight * ranked, starts)
        negatives = np.add.reduceat(sorted_weight * ~ranked, starts)
        pairs = positives.sum() * negatives.sum()
        won = (positives * (np.cumsum(negatives) - negatives / 2)).sum()
        result[row] = (sorted_weight @ right) / sorted_weight.sum(), won / pairs if pairs else np.nan
    return result


def _score(point: np.ndarray, values: np.ndarray) -> ScoreEstimate:
    """`point` has shape (2,), `values` (replicates, 2): accuracy and AUC."""
    return ScoreEstimate(
        accuracy=_estimate(float(point[0]), values[:, 0]), auc=_estimate(float(point[1]), values[:, 1])
    )


def _estimate(point: float, values: np.ndarray) -> Estimate | None:
    finite = values[np.isfinite(values)]
    if not np.isfinite(point) or not finite.size:
        return None
    lower, upper = np.quantile(finite, (0.025, 0.975))
    return Estimate(mean=point, lower=float(lower), upper=float(upper))
