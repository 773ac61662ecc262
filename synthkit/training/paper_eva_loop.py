"""How EVA as published is trained, and how well it explains records: words, batches, epochs.

Knows words, conditions and the network. Refuses to know where words come from or what becomes of the model:
see `synthkit.training.paper_eva`. Nothing here is private, whatever noise its chain draws.

Adam on all weights comes first and is the chain's burn-in: it may start anywhere, and Adam's squared
gradients start its preconditioner. The last epochs are Algorithm 1's: on each batch a Langevin step of theta
and H, then an Adam step of what infers, given what was drawn. The weights at the end of each are a sample.
"""

from dataclasses import dataclass

import numpy as np
import torch

from synthkit.data.visit_vocabulary import PUBLISHED_SIZE
from synthkit.generators.eva_paper import PaperEva, PaperSizes, WordBatch
from synthkit.training.langevin import SMOOTHING, PreconditionedLangevin
from synthkit.training.loop import Progress
from synthkit.training.paper import batches, check_ranges

CHAIN_RATE = 0.1
"""A Langevin step's length as a share of the learning rate."""

Sample = dict[str, torch.Tensor]
"""Theta and H, by name."""

CHUNK, VIEWS = 256, 4
"""Patients at once in a bound, and latent draws over which it is averaged."""


@dataclass(frozen=True, kw_only=True)
class EvaSettings:
    """How to train; see `paper_eva` for which are published.

    `posterior` is how many samples of theta and H to keep, each of one of the last epochs and none of the
    first; 0: a point estimate.
    """

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 0.001
    words: int = PUBLISHED_SIZE
    most_visits: int = 200
    channels: int = 96
    latent: int = 32
    layers: int = 4
    posterior: int = 5

    def __post_init__(self) -> None:
        ranges = {"epochs": (1.0, 100_000.0), "batch_size": (2.0, 1_000_000.0), "learning_rate": (1e-9, 10.0)}
        ranges |= {"words": (1.0, 1_000_000.0), "most_visits": (1.0, 1000.0), "channels": (2.0, 4096.0)}
        ranges |= {"posterior": (0.0, 1000.0)}
        check_ranges(self, {**ranges, "latent": (1.0, 1024.0), "layers": (1.0, 12.0)})

    @property
    def samples(self) -> int:
        """How many samples there are, short trainings' included."""
        return min(self.posterior, self.epochs - 1)


def with_background(rows: np.ndarray) -> np.ndarray:
    """Conditions and, last, whether the patient has none of them."""
    return np.column_stack([rows, (rows == 0).all(axis=1)])


class WordRecords:
    """Patients as words.

    Args:
        words: int64 (visits,).
        patient_starts: int64 (patients + 1,): where each patient's visits begin.
        rows: int64 (patients, conditions without background); no column: nothing is conditioned on.
    """

    def __init__(self, words: np.ndarray, patient_starts: np.ndarray, rows: np.ndarray) -> None:
        self._words, self._starts = words, patient_starts
        has = with_background(rows) if rows.shape[1] else np.zeros((len(rows), 0))
        self._has = torch.from_numpy(has.astype(np.float32))

    def __len__(self) -> int:
        return int(self._starts.size - 1)

    def batch(self, patients: np.ndarray, end: int) -> WordBatch:
        """Some of them; the end's word after each one's last."""
        begins, lengths = self._starts[patients], np.diff(self._starts)[patients]
        grid = np.full((patients.size, int(lengths.max()) + 1), end, dtype=np.int64)
        place = np.arange(grid.shape[1])
        is_visit = place < lengths[:, None]
        grid[is_visit] = self._words[(begins[:, None] + place)[is_visit]]
        return WordBatch(
            words=torch.from_numpy(grid), lengths=torch.from_numpy(lengths), conditions=self._has[patients]
        )


def new_network(settings: EvaSettings, words: int, most_visits: int, columns: int, *, seed: int) -> PaperEva:
    """Fresh; the same seed gives the same weights. `columns`: conditions without background."""
    sizes = PaperSizes(
        words=words,
        most_visits=most_visits,
        conditions=columns + 1 if columns else 0,
        channels=settings.channels,
        latent=settings.latent,
        layers=settings.layers,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PaperEva(sizes).eval()


def fit(
    network: PaperEva, people: WordRecords, settings: EvaSettings, *, seed: int, progress: Progress | None
) -> list[Sample]:
    """All epochs, in place.

    Returns:
        Samples of theta and H, by name; none for a point estimate.
    """
    order, samples = np.random.default_rng(seed), []
    network.train()
    steps = _Steps(network, people, settings, seed=seed)
    for epoch in range(settings.epochs):
        is_chain = epoch >= settings.epochs - settings.samples
        for chosen in batches(len(people), settings.batch_size, order):
            steps.alternate(chosen.numpy()) if is_chain else steps.descend(chosen.numpy())
        if is_chain:
            samples.append({name: p.detach().clone() for name, p in network.shared_parameters().items()})
        if progress is not None:
            progress(epoch + 1, settings.epochs)
    network.eval()
    return samples


class _Steps:
    """Takes steps of the two kinds, on batches of patients."""

    def __init__(self, network: PaperEva, people: WordRecords, settings: EvaSettings, *, seed: int) -> None:
        self._network, self._people, self._rate = network, people, settings.learning_rate
        self._rng = torch.Generator().manual_seed(seed)
        self._shared = list(network.shared_parameters().values())
        self._adam = torch.optim.Adam(network.parameters(), lr=self._rate, betas=(0.9, SMOOTHING), fused=True)
        self._chain: PreconditionedLangevin | None = None

    def descend(self, patients: np.ndarray) -> None:
        """Adam on the bound, with theta's and H's standard normal prior."""
        prior = torch.stack([0.5 * weights.square().sum() for weights in self._shared]).sum()
        self._adam.zero_grad()
        torch.autograd.backward(self._loss(patients) + prior / len(self._people))
        self._adam.step()

    def alternate(self, patients: np.ndarray) -> None:
        """Algorithm 1, lines 4 to 7."""
        self._chain = self._chain or self._start()
        gradients = torch.autograd.grad(self._loss(patients), self._shared)
        self._chain.step(gradients)
        self._adam.zero_grad()
        torch.autograd.backward(self._loss(patients))
        for weights in self._shared:
            weights.grad = None  # the chain's
        self._adam.step()

    def _start(self) -> PreconditionedLangevin:
        """The chain, from where the descent has come to."""
        moments = [self._adam.state[weights] for weights in self._shared]
        return PreconditionedLangevin(
            self._shared,
            patients=len(self._people),
            rate=CHAIN_RATE * self._rate,
            rng=self._rng,
            squares=[one["exp_avg_sq"] / (1.0 - SMOOTHING ** float(one["step"])) for one in moments],
        )

    def _loss(self, patients: np.ndarray) -> torch.Tensor:
        """Minus the mean bound of a batch, with latents drawn anew."""
        batch = self._people.batch(patients, self._network.end)
        noise = torch.randn(len(batch), self._network.noise_size, generator=self._rng)
        return self._network.bound(batch, noise=noise).total.mean()


@torch.no_grad()
def bound_parts(network: PaperEva, people: WordRecords) -> tuple[float, float, float]:
    """Means over patients, in nats, of minus log probability of words and of ends, and of the divergence."""
    rng, parts = torch.Generator().manual_seed(0), np.zeros(3)
    for start in range(0, len(people), CHUNK):
        batch = people.batch(np.arange(start, min(start + CHUNK, len(people))), network.end)
        for _ in range(VIEWS):
            found = network.bound(batch, noise=torch.randn(len(batch), network.noise_size, generator=rng))
            parts += [float(part.double().sum()) for part in (found.visits, found.ends, found.kl)]
    visits, ends, kl = (float(part) for part in parts / (VIEWS * len(people)))
    return visits, ends, kl
