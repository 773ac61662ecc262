"""Train on synthetic, test on real: recall of next visits' codes, and what a small real cohort gains.

Knows real records to train on, others to test on, and generated ones. Refuses to compare unequal sizes:
every training set has as many patients as the smallest one, but for what augmentation adds. Rules: every
network of a repeat is tested on the same draws of the same test patients; a network is trained afresh, on
a fresh choice of patients, for each repeat, so that the intervals cover training and test patients, but not
another training of the generator.

Source: EVA (Biswal et al. 2020), section 5.2.
"""

from collections.abc import Callable, Sequence

import numpy as np

from synthkit.data.sequences import Sequences
from synthkit.domain.sequence_utility import Augmentation, Augmented, NextVisit, Transfer
from synthkit.domain.utility import Estimate
from synthkit.errors import InputError
from synthkit.evaluation.next_visit import TOPS, Histories, Recalled, histories_of, joined, recall, train
from synthkit.evaluation.resampling import draws, pooled
from synthkit.evaluation.sequences import shuffled

MOST_TRAINED, MOST_TESTED = 20_000, 5_000
FACTORS = (1, 10, 100)
"""How many times the cohort's size is added in generated patients."""

Progress = Callable[[str], None]


def has_next_visits(records: Sequences) -> bool:
    """Whether at least two patients have a second visit, and one of these has codes."""
    longer = records.visits_per_patient > 1
    coded = records.codes_per_visit[~records.is_first_visit]
    return int(longer.sum()) > 1 and bool((coded > 0).any())


class NextVisitTask:
    """Real records to train on and to test on, and generated ones, made ready once.

    Args:
        trained: Real records to train on.
        test: Real records of other patients.
        synthetic: Generated records of the same code list.
        seed: Of every choice, network and draw.
        repeats: Networks per training set.
        progress: Told what is being trained.
    """

    def __init__(
        self,
        trained: Sequences,
        test: Sequences,
        synthetic: Sequences,
        *,
        seed: int,
        repeats: int,
        progress: Progress,
    ) -> None:
        timed = all(records.gaps is not None for records in (trained, test, synthetic))
        mixed = shuffled(trained, np.random.default_rng((seed, 12)))
        self._real, self._synthetic, self._floor = (
            histories_of(records, with_gaps=timed) for records in (trained, synthetic, mixed)
        )
        asked = histories_of(test, with_gaps=timed)
        order = np.random.default_rng((seed, 13)).permutation(len(asked))[:MOST_TESTED]
        self._test = asked.take(np.sort(order))
        self._seed, self._repeats, self._progress = seed, repeats, progress

    def transfer(self) -> NextVisit:
        """Recall after training on real, on generated, and on shuffled real records."""
        size = min(MOST_TRAINED, len(self._real), len(self._synthetic))
        sets = {"real": self._real, "synthetic": self._synthetic, "floor": self._floor}
        found: dict[str, list[Recalled]] = {name: [] for name in sets}
        for repeat in range(self._repeats):
            for name, records in sets.items():
                self._progress(f"next visits: {name}, network {repeat + 1} of {self._repeats}")
                found[name].append(self._asked(self._some(records, size, repeat), repeat))
        weights = [self._draws(repeat) for repeat in range(self._repeats)]
        return NextVisit(
            top={top: _transfer(found, weights, row) for row, top in enumerate(TOPS)}, repeats=self._repeats
        )

    def check_cohort(self, cohort: int) -> None:
        """Refuse a cohort that there is not, before anything is trained.

        Raises:
            InputError: There are fewer real patients with a second visit to train on.
        """
        if not 2 <= cohort <= len(self._real):
            raise InputError(
                "the cohort does not fit the real patients with a second visit",
                where="option --augment",
                fix="at least 2, and at most as many as there are to train on",
            )

    def augmentation(self, cohort: int) -> Augmentation:
        """Recall after training on `cohort` real patients, alone and with generated ones beside them.

        Raises:
            InputError: There are fewer real patients with a second visit to train on.
        """
        self.check_cohort(cohort)
        factors = [0, *(factor for factor in FACTORS if factor * cohort <= len(self._synthetic))]
        found: dict[int, list[Recalled]] = {factor: [] for factor in factors}
        for repeat in range(self._repeats):
            small = self._some(self._real, cohort, repeat)
            for factor in factors:
                self._progress(f"augmentation: {factor} times, network {repeat + 1} of {self._repeats}")
                added = [self._some(self._synthetic, factor * cohort, repeat)] if factor else []
                found[factor].append(self._asked(joined([small, *added]), repeat))
        weights = [self._draws(repeat) for repeat in range(self._repeats)]
        steps = tuple(
            Augmented(
                factor=factor,
                recall={top: _one(found[factor], weights, row) for row, top in enumerate(TOPS)},
                gain={top: _gain(found[factor], found[0], weights, row) for row, top in enumerate(TOPS)},
            )
            for factor in factors
        )
        return Augmentation(cohort=cohort, repeats=self._repeats, steps=steps)

    def _some(self, records: Histories, count: int, repeat: int) -> Histories:
        order = np.random.default_rng((self._seed, 14, repeat)).permutation(len(records))
        return records.take(order[:count])

    def _asked(self, records: Histories, repeat: int) -> Recalled:
        return recall(train(records, seed=self._seed + repeat), self._test)

    def _draws(self, repeat: int) -> np.ndarray:
        return draws(len(self._test), np.random.default_rng((self._seed, 15, repeat)))


def _transfer(found: dict[str, list[Recalled]], weights: Sequence[np.ndarray], row: int) -> Transfer:
    return Transfer(
        real=_one(found["real"], weights, row),
        synthetic=_one(found["synthetic"], weights, row),
        floor=_one(found["floor"], weights, row),
        ratio=_ratio(found["synthetic"], found["real"], weights, row),
        floor_ratio=_ratio(found["floor"], found["real"], weights, row),
    )


def _one(found: list[Recalled], weights: Sequence[np.ndarray], row: int) -> Estimate | None:
    values = [one.drawn(weight)[row] for one, weight in zip(found, weights, strict=True)]
    return pooled([float(one.scores[row]) for one in found], values)


def _ratio(
    top: list[Recalled], bottom: list[Recalled], weights: Sequence[np.ndarray], row: int
) -> Estimate | None:
    pairs = list(zip(top, bottom, weights, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        values = [one.drawn(weight)[row] / other.drawn(weight)[row] for one, other, weight in pairs]
        return pooled([float(one.scores[row] / other.scores[row]) for one, other, _ in pairs], values)


def _gain(
    more: list[Recalled], alone: list[Recalled], weights: Sequence[np.ndarray], row: int
) -> Estimate | None:
    pairs = list(zip(more, alone, weights, strict=True))
    values = [one.drawn(weight)[row] - other.drawn(weight)[row] for one, other, weight in pairs]
    return pooled([float(one.scores[row] - other.scores[row]) for one, other, _ in pairs], values)
