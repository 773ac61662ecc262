"""Train on synthetic, test on real: does a model learnt from synthetic rows work on real patients?

Knows feature matrices and yes-or-no answers. Refuses to tune: one fixed classifier for every training
set, so that a difference in score is a difference between the rows. Rules: every training set is
tested on the same real rows; a training set with one class only gives the constant's accuracy and an
AUC of 0.5, not an error. Each model is trained by one thread, and two models at a time: threads that
share one model wait for each other at every tree level, which is slow on a busy machine.

Source: train-on-synthetic-test-on-real (TSTR), Esteban, Hyland and Rätsch 2017, section 4.1.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xgboost

from synthkit.domain.schema import Schema
from synthkit.domain.utility import Score
from synthkit.errors import InputError
from synthkit.evaluation.states import Levels, to_levels
from synthkit.evaluation.targets import Target

TREES, DEPTH = 100, 6


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """A table ready to learn from.

    `features` is float32, shape (rows, columns), columns in the schema's order: numbers as they are,
    categories as the position in their list, missing NaN. `answers` is float64, shape (rows, targets),
    1, 0 or NaN.
    """

    features: np.ndarray
    answers: np.ndarray


def examples_of(frame: pd.DataFrame, schema: Schema, levels: Levels, targets: tuple[Target, ...]) -> Examples:
    """Encode a frame once for all targets."""
    features = np.empty((len(frame), len(schema)), dtype=np.float32)
    for position, column in enumerate(schema):
        if column.is_numeric:
            features[:, position] = frame[column.name].to_numpy(dtype=float)
        else:
            codes = to_levels(frame[column.name], levels[column.name])
            features[:, position] = np.where(codes < 0, np.nan, codes)
    answers = [target.answers(frame) for target in targets]
    return Examples(features=features, answers=np.stack(answers, axis=1))


def train_and_test(
    train: Examples, *, test: Examples, target: int, columns: tuple[int, ...], seed: int
) -> Score:
    """Train the fixed classifier on one table and score it on another.

    Args:
        train: The rows to learn from; rows whose answer is missing are left out.
        test: The real rows to score on, likewise.
        target: Position of the target among the examples' answers.
        columns: Positions of the feature columns that may be used.
        seed: The classifier's seed.

    Raises:
        InputError: No row to test on has an answer.
    """
    yes = truth(test, target)
    scores = predictions(train, test=test, target=target, columns=columns, seed=seed)
    return Score(accuracy=float(np.mean((scores > 0.5) == yes)), auc=auc(yes, scores))


def truth(test: Examples, target: int) -> np.ndarray:
    """The real answers: bool, shape (test rows whose answer is not missing,).

    Raises:
        InputError: No row to test on has an answer.
    """
    answers = test.answers[:, target]
    asked = ~np.isnan(answers)
    if not asked.any():
        raise InputError("the target is missing in every real row to test on", fix="choose another target")
    return np.asarray(answers[asked] == 1)


def predictions(
    train: Examples,
    *,
    test: Examples,
    target: int,
    columns: tuple[int, ...],
    seed: int,
    share: float = 1.0,
) -> np.ndarray:
    """How likely each test row is a yes: float, shape (test rows whose answer is not missing,).

    A training set with one class only predicts that class, one without answers predicts no. `share` is
    that of the training rows which each tree sees: below 1 the seed decides which; at 1 it decides nothing.
    """
    answers, asked = train.answers[:, target], ~np.isnan(test.answers[:, target])
    known = ~np.isnan(answers)
    yes = answers[known] == 1
    if yes.all() or not yes.any():
        return np.full(int(asked.sum()), float(yes.size > 0 and yes.all()))
    chosen = list(columns)
    rows = xgboost.QuantileDMatrix(train.features[known][:, chosen], label=yes, nthread=1)
    settings = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_depth": DEPTH,
        "nthread": 1,
        "seed": seed,
        "subsample": share,
    }
    model = xgboost.train(settings, rows, num_boost_round=TREES)
    return np.asarray(model.inplace_predict(test.features[asked][:, chosen]))


def auc(yes: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a yes scores above a no, ties counting half.

    Args:
        yes: bool, shape (n,).
        scores: float, shape (n,).

    Returns:
        Within [0, 1]; 0.5 where only one class is there.
    """
    positives = int(yes.sum())
    negatives = yes.size - positives
    if positives == 0 or negatives == 0:
        return 0.5
    _, place, ties = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(ties) - (ties - 1) / 2
    rank_sum = float(ranks[place][yes].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)
