"""Cases and controls: can a condition be told from the codes, after training on generated patients?

Knows who carries which codes and who has the condition. Refuses to tune: one logistic regression for
every training set. Rules: every training set is tested on the same real patients and has as many patients
as the smallest; the condition's own codes are no feature; the intervals cover the choice of training and
test patients, not another training of the generator.

Source: EVA (Biswal et al. 2020), section 5.3, which trains an LSTM; here a linear model of the codes
carried, for it needs no stopping rule and takes a second.
"""

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from synthkit.domain.sequence_utility import Transfer
from synthkit.domain.utility import Estimate
from synthkit.evaluation.condition_codes import Matter
from synthkit.evaluation.record_conditions import RecordCondition
from synthkit.evaluation.repeats import resampled
from synthkit.evaluation.resampling import draws, pooled
from synthkit.evaluation.utility import auc

MOST_TRAINED, MOST_TESTED = 4000, 5000
STRENGTH, ITERATIONS, TOLERANCE = 0.1, 100, 1e-3
Scores = list[tuple[float, np.ndarray]]
"""Of each repeat: the AUC on all test patients, and on each draw of them."""


def condition_auc(
    condition: RecordCondition,
    *,
    trained: Matter,
    test: Matter,
    synthetic: Matter,
    floor: Matter,
    seed: int,
    repeats: int,
) -> Transfer | None:
    """AUC on real test patients after training on each kind of records; None where one answer is missing."""
    sets = {"real": trained, "synthetic": synthetic, "floor": floor}
    examples = {name: _examples(matter, condition) for name, matter in sets.items()}
    features, yes = _examples(test, condition)
    if not all(_has_both(answers) for _, answers in (*examples.values(), (features, yes))):
        return None
    order = np.random.default_rng((seed, 21)).permutation(yes.size)[:MOST_TESTED]
    features, yes = features[order], yes[order]
    size = min(MOST_TRAINED, *(answers.size for _, answers in examples.values()))
    found: dict[str, Scores] = {name: [] for name in sets}
    for repeat in range(repeats):
        weights = list(draws(yes.size, np.random.default_rng((seed, 22, repeat))))
        for name, (rows, answers) in examples.items():
            chosen = np.random.default_rng((seed, 23, repeat)).permutation(answers.size)[:size]
            scores = _scores(rows[chosen], answers[chosen], features)
            found[name].append((auc(yes, scores), resampled(yes, scores, weights)[:, 1]))
    return Transfer(
        real=_one(found["real"]),
        synthetic=_one(found["synthetic"]),
        floor=_one(found["floor"]),
        ratio=_ratio(found["synthetic"], found["real"]),
        floor_ratio=_ratio(found["floor"], found["real"]),
    )


def _examples(matter: Matter, condition: RecordCondition) -> tuple[sparse.csr_array, np.ndarray]:
    """Codes carried, without the condition's own, and whether each patient has it."""
    answers = condition.answers(matter.records)
    known = np.flatnonzero(~np.isnan(answers))
    columns = np.ones(matter.carried.shape[1])
    columns[list(condition.codes)] = 0.0
    rows = sparse.csr_array(matter.carried[known] * columns[None, :])
    return rows, answers[known] == 1


def _has_both(answers: np.ndarray) -> bool:
    return bool(answers.any()) and not answers.all()


def _scores(rows: sparse.csr_array, answers: np.ndarray, test: sparse.csr_array) -> np.ndarray:
    """How likely each test patient has the condition, up to a rising function; constant from one class."""
    if not _has_both(answers):
        return np.zeros(test.shape[0])
    model = LogisticRegression(C=STRENGTH, max_iter=ITERATIONS, tol=TOLERANCE)
    return np.asarray(model.fit(sparse.csr_matrix(rows), answers).decision_function(sparse.csr_matrix(test)))


def _one(found: Scores) -> Estimate | None:
    return pooled([point for point, _ in found], [values for _, values in found])


def _ratio(top: Scores, bottom: Scores) -> Estimate | None:
    pairs = list(zip(top, bottom, strict=True))
    points = [one[0] / other[0] for one, other in pairs]
    return pooled(points, [one[1] / other[1] for one, other in pairs])
