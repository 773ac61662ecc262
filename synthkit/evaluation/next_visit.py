"""Which codes will the next visit have? A small LSTM, trained on one set of records, asked about another.

Knows visits as sets of code numbers, and the days between them. Refuses to tune and to read static
columns: one fixed network and one stopping rule for every training set, so that a difference in recall is
a difference between the records. Rules: training stops by patients of the training set itself, never by
those it is tested on; of a long record the first `MOST_VISITS` visits count, on either side; the same seed
gives the same network from the same records.

Source: EVA (Biswal et al. 2020), section 5.2, and Doctor AI (Choi et al. 2016) for top-k recall: true
positives among the k codes named over the codes of the visit, averaged over visits.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from synthkit.data.sequences import Sequences, ranges, starts_of
from synthkit.errors import InputError

TOPS = (20, 30)
"""How many codes are named."""

MOST_VISITS = 30
WIDTH = 64
BATCH_VISITS = 600
STEPS, CHECK, PATIENCE, BETTER = 1200, 60, 2, 0.002
"""At most so many steps; the loss on patients kept apart is looked at every `CHECK`, and training ends
after `PATIENCE` looks that are not better by `BETTER` nats a code than the best before."""

KEPT_APART, MOST_APART = 0.1, 500
LEARNING_RATE = 4e-3
GAP_SCALE = 6.0
"""About log(1 + days) of a year: gaps enter as numbers near 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Histories:
    """Patients with at least two visits, each cut to its first visits.

    `codes` int64 (entries,), `visit_starts` (visits + 1,), `patient_starts` (patients + 1,), `gaps`
    float32 (visits,) scaled days since the visit before, `size` the number of codes there are.
    """

    codes: np.ndarray
    visit_starts: np.ndarray
    patient_starts: np.ndarray
    gaps: np.ndarray
    size: int

    def __len__(self) -> int:
        return self.patient_starts.size - 1

    def take(self, patients: np.ndarray) -> "Histories":
        """The given patients (positions), in that order."""
        visits = ranges(self.patient_starts[patients], self.patient_starts[patients + 1])
        entries = ranges(self.visit_starts[visits], self.visit_starts[visits + 1])
        return Histories(
            codes=self.codes[entries],
            visit_starts=starts_of(np.diff(self.visit_starts)[visits]),
            patient_starts=starts_of(np.diff(self.patient_starts)[patients]),
            gaps=self.gaps[visits],
            size=self.size,
        )


def histories_of(records: Sequences, *, with_gaps: bool) -> Histories:
    """What of records can be learnt from or tested on; may be nobody.

    Args:
        records: Any records.
        with_gaps: Whether days between visits count; only where both sides have them.
    """
    kept = records.take(records.visits_per_patient > 1).first_visits(MOST_VISITS)
    gaps = np.zeros(kept.visit_count) if kept.gaps is None or not with_gaps else np.log1p(kept.gaps)
    return Histories(
        codes=kept.codes.astype(np.int64),
        visit_starts=kept.visit_starts,
        patient_starts=kept.patient_starts,
        gaps=(gaps / GAP_SCALE).astype(np.float32),
        size=len(kept.schema.code.categories),
    )


def joined(parts: list[Histories]) -> Histories:
    """One set of several, of one code list."""
    return Histories(
        codes=np.concatenate([part.codes for part in parts]),
        visit_starts=starts_of(np.concatenate([np.diff(part.visit_starts) for part in parts])),
        patient_starts=starts_of(np.concatenate([np.diff(part.patient_starts) for part in parts])),
        gaps=np.concatenate([part.gaps for part in parts]),
        size=parts[0].size,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Recalled:
    """Recall by test patient. `sums` float64 (len(TOPS), patients): recalls of their visits added up;
    `visits` float64 (patients,): how many visits with codes were asked about.
    """

    sums: np.ndarray
    visits: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """Mean recall over visits, float64 (len(TOPS),)."""
        found: np.ndarray = self.sums.sum(axis=1) / self.visits.sum()
        return found

    def drawn(self, weights: np.ndarray) -> np.ndarray:
        """The same with each patient counted so often: (len(TOPS), draws) from (draws, patients)."""
        found: np.ndarray = (self.sums @ weights.T) / (weights @ self.visits)
        return found


class Predictor(nn.Module):
    """From all visits so far to a score for each code of the next one."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.codes = nn.EmbeddingBag(size, WIDTH, mode="sum")
        self.gap = nn.Linear(1, WIDTH)
        self.memory = nn.LSTM(WIDTH, WIDTH)
        self.out = nn.Linear(2 * WIDTH, size)
        nn.init.normal_(self.codes.weight, std=0.1)

    def forward(self, batch: Histories) -> tuple[torch.Tensor, np.ndarray]:
        """Scores (steps, codes), and the visit whose codes each row is about, int64 (steps,)."""
        seen = self.codes(torch.from_numpy(batch.codes), torch.from_numpy(batch.visit_starts[:-1]))
        visits = torch.tanh(seen + self.gap(torch.from_numpy(batch.gaps)[:, None]))
        before = [
            torch.arange(first, end - 1)
            for first, end in zip(batch.patient_starts[:-1], batch.patient_starts[1:], strict=True)
        ]
        order = pack_sequence(before, enforce_sorted=False)
        rows = order.data
        inputs = PackedSequence(visits[rows], order.batch_sizes, order.sorted_indices, order.unsorted_indices)
        memory = self.memory(inputs)[0].data
        scores: torch.Tensor = self.out(torch.cat([memory, visits[rows]], dim=1))
        return scores, rows.numpy() + 1


def train(records: Histories, *, seed: int) -> Predictor:
    """Train on these records, and stop by a tenth of their patients that are kept apart.

    Raises:
        InputError: Fewer than two patients have a second visit.
    """
    if len(records) < 2:
        raise InputError("fewer than two patients have a second visit", fix="give more records")
    rng = np.random.default_rng((seed, 11))
    order = rng.permutation(len(records))
    apart = min(MOST_APART, max(1, round(KEPT_APART * len(records))))
    kept, learnt = records.take(order[:apart]), records.take(order[apart:])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Predictor(records.size)
    with torch.no_grad():
        counts = np.bincount(learnt.codes, minlength=records.size) + 0.5
        model.out.bias.copy_(torch.from_numpy(np.log(counts / counts.sum())).float())
    _fit(model, learnt, kept, rng)
    return model.eval()


def _fit(model: Predictor, learnt: Histories, kept: Histories, rng: np.random.Generator) -> None:
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    best, best_loss, worse = _copy(model), _mean_loss(model, kept), 0
    for step, patients in zip(range(1, STEPS + 1), _batches(learnt, rng), strict=False):
        optimiser.zero_grad()
        losses = _losses(model, learnt.take(patients))
        if losses.numel():
            losses.mean().backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
        if step % CHECK:
            continue
        loss = _mean_loss(model, kept)
        worse = 0 if loss < best_loss - BETTER else worse + 1
        if loss < best_loss:
            best, best_loss = _copy(model), loss
        if worse == PATIENCE:
            break
    model.load_state_dict(best)


def _batches(records: Histories, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Patients in random order, about `BATCH_VISITS` visits at a time, without end."""
    lengths = np.diff(records.patient_starts)
    while True:
        order = rng.permutation(len(records))
        group = np.cumsum(lengths[order]) // BATCH_VISITS
        yield from np.split(order, np.flatnonzero(np.diff(group)) + 1)


def _losses(model: Predictor, batch: Histories) -> torch.Tensor:
    """Of each visit with codes: minus the mean log probability of its codes, softmax over all codes."""
    scores, visits = model(batch)
    counts = np.diff(batch.visit_starts)[visits]
    entries = torch.from_numpy(
        batch.codes[ranges(batch.visit_starts[visits], batch.visit_starts[visits + 1])]
    )
    rows = torch.from_numpy(np.repeat(np.arange(visits.size), counts))
    chances = torch.log_softmax(scores, dim=1)[rows, entries]
    sums = torch.zeros(visits.size).index_add_(0, rows, chances)
    coded = torch.from_numpy(np.flatnonzero(counts))
    return -sums[coded] / torch.from_numpy(counts).float()[coded]


@torch.no_grad()
def _mean_loss(model: Predictor, records: Histories) -> float:
    losses = [_losses(model, records.take(patients)) for patients in _in_order(records)]
    found = torch.cat(losses)
    return float(found.mean()) if found.numel() else 0.0


def _in_order(records: Histories) -> list[np.ndarray]:
    group = (records.patient_starts[1:] - 1) // BATCH_VISITS
    return np.split(np.arange(len(records)), np.flatnonzero(np.diff(group)) + 1)


def _copy(model: Predictor) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@torch.no_grad()
def recall(model: Predictor, test: Histories) -> Recalled:
    """How many codes of each next visit are among those the model names.

    Raises:
        InputError: No patient has a second visit with codes.
    """
    sums, visits = np.zeros((len(TOPS), len(test))), np.zeros(len(test))
    for patients in _in_order(test):
        batch = test.take(patients)
        scores, places = model(batch)
        recalls, counts = _recalls(scores, places, batch)
        owners = np.searchsorted(batch.patient_starts, places, side="right") - 1
        coded = counts > 0
        for row, values in enumerate(recalls):
            sums[row, patients] = np.bincount(owners[coded], values[coded], patients.size)
        visits[patients] = np.bincount(owners[coded], minlength=patients.size)
    if not visits.any():
        raise InputError("no patient has a second visit with codes", fix="give more records")
    return Recalled(sums=sums, visits=visits)


def _recalls(scores: torch.Tensor, places: np.ndarray, batch: Histories) -> tuple[np.ndarray, np.ndarray]:
    """Recall of each visit by `TOPS`, (len(TOPS), visits), and its number of codes, (visits,)."""
    counts = np.diff(batch.visit_starts)[places]
    entries = batch.codes[ranges(batch.visit_starts[places], batch.visit_starts[places + 1])]
    rows = np.repeat(np.arange(places.size), counts)
    most = min(max(TOPS), batch.size)
    named = torch.topk(scores, most, dim=1).indices
    ranks = np.full((places.size, batch.size), batch.size, dtype=np.int32)
    np.put_along_axis(ranks, named.numpy(), np.arange(most, dtype=np.int32)[None, :], axis=1)
    found = ranks[rows, entries]
    hits = np.stack([np.bincount(rows[found < top], minlength=places.size) for top in TOPS])
    return hits / np.maximum(counts, 1), counts
