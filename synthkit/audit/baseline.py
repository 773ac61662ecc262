"""The blind baseline: can members be told from the holdout *without* the synthetic table?

Attacker: holds nothing but the two sets' own records. If this classifier succeeds, the split was not
random (another year, another ward, another extract), and every later "leak" could be that difference; so
the audit is INVALID. Knows encoded rows; refuses to see the synthetic table.

Two tests, each exact under a random split and each given half of the level. Linear: the share of the
labels' variance explained by all columns, against random permutations of the labels. Trees: boosted on one
half of the patients, ranks compared on the other. (Scores pooled over cross-validation folds are *not*
independent, and reject random splits many times too often.) One row per patient; large sets subsampled.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import train_test_split

from synthkit.audit.distance import MAX_ONE_HOT, MISSING_NUMBER, Rows, encode
from synthkit.audit.statistics import auc
from synthkit.data.table import PatientTable

MAX_PATIENTS = 3000
LEVEL = 0.001
PERMUTATIONS, BATCH = 4999, 250
ENOUGH = 25
"""Permutations beating the observed value after which more would not bring p below the level."""


@dataclass(frozen=True, kw_only=True)
class BlindBaseline:
    """`auc` of the trees on patients they did not see; `p_value` two-sided, over both tests."""

    auc: float
    p_value: float

    @property
    def is_at_chance(self) -> bool:
        """Whether the split may have been random. Rejects a random one once in a thousand."""
        return bool(self.p_value >= LEVEL)


def blind_baseline(members: PatientTable, holdout: PatientTable, *, seed: int) -> BlindBaseline:
    """Try to tell the two sets apart by themselves."""
    rng = np.random.default_rng(seed)
    chosen = [_one_row_per_patient(table, rng) for table in (members, holdout)]
    rows = encode(members.schema, [table.frame for table in chosen])
    labels = np.repeat([1, 0], [len(part) for part in rows])
    codes = np.concatenate([part.codes for part in rows])
    joint = Rows(
        numbers=np.concatenate([part.numbers for part in rows]),
        codes=codes,
        keys=np.concatenate([part.keys for part in rows]),
        levels=rows[0].levels,
    )
    linear = _linear_p_value(_indicators(joint), labels, rng)
    area, trees = _tree_test(np.hstack((joint.numbers, codes)), labels, seed)
    return BlindBaseline(auc=area, p_value=min(1.0, 2.0 * min(linear, trees)))


def _one_row_per_patient(table: PatientTable, rng: np.random.Generator) -> PatientTable:
    """At most MAX_PATIENTS patients, each by their first row."""
    first = np.unique(table.patients, return_index=True)[1]
    return table.take(rng.permutation(first)[:MAX_PATIENTS])


def _indicators(rows: Rows) -> np.ndarray:
    """Numbers, their missing flags, and one indicator per level of the narrow columns."""
    is_missing = rows.numbers == MISSING_NUMBER
    present = np.maximum((~is_missing).sum(axis=0), 1)
    middle = np.where(is_missing, 0.0, rows.numbers).sum(axis=0) / present
    centred = np.where(is_missing, 0.0, rows.numbers - middle)
    spread = np.sqrt((centred**2).sum(axis=0) / present)
    scaled = centred / np.where(spread > 0, spread, 1.0)
    narrow = np.flatnonzero(rows.levels <= MAX_ONE_HOT)
    one_hot = [rows.codes[:, [j]] == np.arange(-1, rows.levels[j] - 1) for j in narrow]
    return np.hstack((scaled, is_missing, *one_hot)).astype(np.float64)


def _linear_p_value(features: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> float:
    """Permutation p value of the variance of the labels that the features explain.

    Source: stopping early, Besag and Clifford 1991, Biometrika 78:301.
    """
    left, sizes, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    basis = left[:, sizes > 1e-8 * sizes[0]].T.astype(np.float32)
    centred = (labels - labels.mean()).astype(np.float32)
    observed = float(np.sum((basis @ centred) ** 2))
    beaten = 0
    for start in range(0, PERMUTATIONS, BATCH):
        count = min(BATCH, PERMUTATIONS - start)
        shuffled = rng.permuted(np.tile(centred, (count, 1)), axis=1)
        beaten += int(np.sum(np.sum((basis @ shuffled.T) ** 2, axis=0) >= observed * (1 - 1e-6)))
        if beaten >= ENOUGH:
            return beaten / (start + count)
    return (1 + beaten) / (1 + PERMUTATIONS)


def _tree_test(features: np.ndarray, labels: np.ndarray, seed: int) -> tuple[float, float]:
    """Area under the curve and two-sided rank-sum p value on the half the trees did not see."""
    model = HistGradientBoostingClassifier(
        max_iter=30, max_leaf_nodes=8, min_samples_leaf=10, early_stopping=False, random_state=seed
    )
    train, test, train_labels, test_labels = train_test_split(
        features, labels, test_size=0.5, stratify=labels, random_state=seed
    )
    scores = model.fit(train, train_labels).decision_function(test)
    groups = scores[test_labels == 1], scores[test_labels == 0]
    p_value = float(stats.mannwhitneyu(*groups, alternative="two-sided", method="asymptotic").pvalue)
    # All scores equal: no rank differs, scipy says NaN, and nothing was told apart.
    return auc(*groups), 1.0 if np.isnan(p_value) else p_value
