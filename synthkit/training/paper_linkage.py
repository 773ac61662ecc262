"""How many made rows lead back to the patient they were made from.

Knows patients' rows and rows made from them. The attacker holds the made rows and a table of patients, and
does not know which cells were kept. A cell in which a made row agrees with a patient counts the more, the
rarer its value is among the made rows (minus the logarithm of its share); for each made row the patient
with the highest sum is named, if there is only one. No model and no skill is needed; a real attacker can do
better.
"""

import numpy as np

CHUNK = 250
"""Made rows that are compared with all patients at once: bounds memory."""


def linked_rows(patients: np.ndarray, made: np.ndarray, sources: np.ndarray) -> float:
    """The share of rows that lead back to their patient.

    Args:
        patients: Values of the training patients, shape (patients, columns); an empty cell is NaN and
            agrees with nothing.
        made: Values of the made rows, shape (rows, columns), every cell present.
        sources: The patient each row was made from, int64, shape (rows,).
    """
    weights = np.column_stack([_rarity(made[:, column]) for column in range(made.shape[1])])
    chunks = np.split(np.arange(len(made)), range(CHUNK, len(made), CHUNK))
    linked = [_linked(patients, made[rows], weights[rows], sources[rows]) for rows in chunks]
    return float(np.concatenate(linked).mean())


def _rarity(values: np.ndarray) -> np.ndarray:
    """Minus the logarithm of each value's share, float64, shape (rows,)."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    rarity: np.ndarray = -np.log(counts[places] / len(values))
    return rarity


def _linked(patients: np.ndarray, made: np.ndarray, weights: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Whether the source alone has the highest sum: bool, shape (rows,)."""
    sums = np.zeros((len(made), len(patients)))
    for column in range(made.shape[1]):
        sums += weights[:, [column]] * (made[:, [column]] == patients[:, column])
    is_alone = (sums == sums.max(axis=1, keepdims=True)).sum(axis=1) == 1
    linked: np.ndarray = is_alone & (sums.argmax(axis=1) == sources)
    return linked
