"""Watching private steps while the real loop takes them.

Knows the loop, a generator, simulated patients, and how to stand between the loop and the step: what the
step asks about whom, and what it hands to the optimiser. Refuses to know how a step clips, samples or
adds noise, and to switch any of it off: the step under watch is the one that trains. Only the losses
that it is given may be the watcher's own (see `Lens`).

Rule: everything is read at the optimiser's step, because that is where a gradient has been released.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from synthkit.domain.layout import Layout, PatientStates
from synthkit.domain.study import TrainingPlan
from synthkit.errors import InputError
from synthkit.generators.base import SteppedGenerator
from synthkit.privacy.dpsgd import LossPerPatient, Step, StepSettings
from synthkit.training.loop import LoopState, StepKind, train

COORDINATES = 1024
"""About how many coordinates of each released gradient are kept, spread over all parameters."""

CANARY_NORM = 100.0
"""Norm of a canary's gradient before clipping, in units of C."""

LOUD_QUARTERS = (1, 2, 4)
"""Quarters of the patients that are canaries, taking turns over the steps; all others are silent."""

CANARY_ROWS = (1, 2, 8)
"""Rows of a canary, taking turns once all quarters had theirs: what is clipped has to be their mean. A
step may measure few and many rows in different ways."""

Lens = Callable[[int, np.ndarray, LossPerPatient], torch.Tensor]
"""What the step sees: from (number of the step, patients asked about, the loop's losses) to losses."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What one run of the loop showed.

    A release is one step of the optimiser. Released gradients are multiplied by the public normaliser
    and divided by the claimed C: a clipped sum in units of C, with its noise.
    """

    settings: StepSettings
    """What the loop handed to the step."""
    normaliser: float
    told: int
    """Steps that the loop was told to take."""
    patients: int
    """Patients there were."""
    counted: np.ndarray
    """Patients that the step was told of, int64, shape (calls,)."""
    drawn: np.ndarray
    """How often each patient's loss was asked for, uint8, shape (calls, patients)."""
    releases: np.ndarray
    """Releases within each call, int64, shape (calls,)."""
    coordinates: np.ndarray
    """Kept coordinates, float32, shape (releases, kept)."""
    squares: np.ndarray
    """Squared norm of each parameter's part, float64, shape (releases, parameters)."""
    sizes: np.ndarray
    """Coordinates of each parameter, int64, shape (parameters,)."""
    is_fresh: bool
    """Whether the first step met the weights that were given and an optimiser without a past."""
    strays: int
    """How often weights had moved by anything but a release."""

    @property
    def batch_sizes(self) -> np.ndarray:
        """Patients asked about at each call, int64, shape (calls,)."""
        sizes: np.ndarray = self.drawn.sum(axis=1, dtype=np.int64)
        return sizes

    @property
    def loud(self) -> np.ndarray:
        """Canaries asked about at each call, under the lens of `Canaries`, int64, shape (calls,)."""
        calls, patients = self.drawn.shape
        is_loud = np.stack([is_canary(np.arange(patients), call) for call in range(calls)])
        counts: np.ndarray = (self.drawn * is_loud).sum(axis=1, dtype=np.int64)
        return counts


def simulated_patients(layout: Layout, patients: int, seed: int, *, most_rows: int = 1) -> PatientStates:
    """Patients of one row up to `most_rows`, every state equally likely: nobody's data."""
    rng = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(rng.integers(1, most_rows + 1, patients))])
    columns = [rng.integers(0, states, starts[-1]) for states in layout.states]
    return PatientStates(states=np.column_stack(columns).astype(np.int64), starts=starts)


def silent(step: int, chunk: np.ndarray, losses: LossPerPatient) -> torch.Tensor:
    """The loop's own losses times zero: each coordinate's gradient is zero, and what is left is noise."""
    del step
    return losses(chunk) * 0.0


class Company:
    """A lens: the loop's own losses, and how far one patient's reaches into what the layers made of others.

    `reach` is the largest such gradient, as a share of the largest one of the patient's own.
    """

    def __init__(self, generator: SteppedGenerator) -> None:
        self.reach = 0.0
        self._outputs: list[torch.Tensor] = []
        for layer in generator.modules():
            if any(p.requires_grad for p in layer.parameters(recurse=False)):
                layer.register_forward_hook(self._note)

    def _note(self, layer: nn.Module, inputs: Any, output: torch.Tensor) -> None:  # noqa: ANN401
        del layer, inputs
        self._outputs.append(output)

    def __call__(self, step: int, chunk: np.ndarray, losses: LossPerPatient) -> torch.Tensor:
        """See `Lens`."""
        del step
        self._outputs = []
        found = losses(chunk)
        if len(found) > 1:
            gradients = torch.autograd.grad(found[0], self._outputs, retain_graph=True, allow_unused=True)
            touched = [gradient.abs() for gradient in gradients if gradient is not None]
            own = max((float(gradient[0].max()) for gradient in touched), default=0.0)
            others = max((float(gradient[1:].max()) for gradient in touched), default=0.0)
            self.reach = max(self.reach, others / max(own, 1e-30))
        return found


def is_canary(patients: np.ndarray, step: int) -> np.ndarray:
    """Who is a canary at a step: one, two or four quarters of the patients, by index."""
    mask: np.ndarray = patients % 4 < LOUD_QUARTERS[step % len(LOUD_QUARTERS)]
    return mask


def canary_rows(step: int) -> int:
    """Rows of each canary at a step."""
    return CANARY_ROWS[step // len(LOUD_QUARTERS) % len(CANARY_ROWS)]


class Canaries:
    """A lens: some patients all have one and the same huge gradient, the others none.

    Clipped one by one, k canaries add up to a vector of norm k C, whatever its direction. A canary's rows
    are copies of one row: no rows add up to more, so a step that measures rows apart shows it.
    """

    def __init__(self, generator: SteppedGenerator, max_grad_norm: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        row = [int(rng.integers(0, states)) for states in generator.layout.states]
        self._view = torch.tensor(row).reshape(1, 1, -1)
        self._noise = torch.from_numpy(rng.standard_normal((1, 1, generator.noise_size), dtype=np.float32))
        self._generator = generator
        norm = CANARY_NORM * max_grad_norm
        self._scales = {rows: norm / self._gradient_norm(rows) for rows in CANARY_ROWS}

    def _gradient_norm(self, rows: int) -> float:
        parameters = [p for p in self._generator.train().parameters() if p.requires_grad]
        gradients = torch.autograd.grad(self._losses(1, rows).sum(), parameters, allow_unused=True)
        return float(np.sqrt(sum(float(g.double().square().sum()) for g in gradients if g is not None)))

    def _losses(self, batch: int, rows: int) -> torch.Tensor:
        return self._generator.loss_per_patient(
            self._view.expand(batch, rows, -1),
            torch.full((batch, rows), 1.0 / rows),
            progress=0.5,
            noise=self._noise.expand(batch, rows, -1),
        )

    def __call__(self, step: int, chunk: np.ndarray, losses: LossPerPatient) -> torch.Tensor:
        """See `Lens`."""
        del losses
        rows = canary_rows(step)
        loud = torch.from_numpy(is_canary(chunk, step).astype(np.float32))
        return self._losses(len(chunk), rows) * loud * self._scales[rows]


def observe(
    generator: SteppedGenerator,
    states: PatientStates,
    plan: TrainingPlan,
    *,
    declared_size: int,
    steps: int,
    step: StepKind,
    lens: Lens,
    physical_batch: int | None = None,
) -> Observation:
    """Let the loop train, on the processor, and watch every step.

    Args:
        generator: Trained in place.
        states: Simulated patients.
        plan: The claim.
        declared_size: The public size that the loop is given.
        steps: Steps that the loop is told to take.
        step: Makes the step under watch.
        lens: Which losses the step sees.
        physical_batch: Patients per forward pass; None leaves it to the loop.

    Raises:
        InputError: The step refuses the generator.
    """
    given = [p.detach().clone() for p in generator.parameters() if p.requires_grad]
    watch = _Watch(len(states), plan.sample_rate * declared_size / plan.max_grad_norm, lens, given)

    def watched(module: nn.Module, settings: StepSettings) -> Step:
        watch.settings = settings
        if physical_batch is not None:
            settings = _with_physical_batch(settings, physical_batch)
        try:
            return watch.around(step(module, settings))
        except RuntimeError as refusal:
            raise InputError(
                "a layer mixes patients or cannot be measured: the step refuses it",
                where=f"generator {generator.kind}",
                fix="train it privately in another form",
            ) from refusal

    train(
        generator,
        states,
        plan,
        steps=steps,
        declared_size=declared_size,
        state=LoopState(),
        privacy=watched,
        device=torch.device("cpu"),
    )
    return watch.observation(told=steps, normaliser=plan.sample_rate * declared_size, generator=generator)


def _with_physical_batch(settings: StepSettings, patients: int) -> StepSettings:
    return StepSettings(**{**vars(settings), "physical_batch": patients})


class _Watch:
    """Stands between the loop and a step, and writes down what passes. One run each."""

    def __init__(self, patients: int, factor: float, lens: Lens, given: Sequence[torch.Tensor]) -> None:
        self.settings: StepSettings | None = None
        self._patients, self._factor, self._lens = patients, factor, lens
        self._weights = _flat(given)
        self._strays = 0
        self._is_fresh = False
        self._counted: list[int] = []
        self._drawn: list[np.ndarray] = []
        self._releases: list[int] = []
        self._coordinates: list[np.ndarray] = []
        self._squares: list[np.ndarray] = []
        self._sizes = np.array([p.numel() for p in given], dtype=np.int64)
        self._chosen = _spread(self._sizes)

    def around(self, inner: Step) -> Step:
        return _WatchedStep(self, inner)

    def begin(self, patients: int, optimizer: torch.optim.Optimizer) -> None:
        """A call of the step begins."""
        if not self._counted:
            optimizer.register_step_pre_hook(self._released)
            optimizer.register_step_post_hook(self._stepped)
        moved = self._has_moved(_trained(optimizer))
        self._strays += moved
        if not self._counted:
            self._is_fresh = not moved and not optimizer.state
        self._counted.append(patients)
        self._drawn.append(np.zeros(max(patients, self._patients), dtype=np.uint8))
        self._releases.append(0)

    def losses(self, losses: LossPerPatient, chunk: np.ndarray) -> torch.Tensor:
        """The step asks about patients."""
        np.add.at(self._drawn[-1], chunk, 1)
        return self._lens(len(self._counted) - 1, chunk, losses)

    def _released(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:  # noqa: ANN401
        del args, kwargs
        released = [torch.zeros_like(p) if p.grad is None else p.grad for p in _trained(optimizer)]
        gradient = _flat(released) * self._factor
        self._coordinates.append(gradient[self._chosen])
        starts = np.cumsum(self._sizes) - self._sizes
        self._squares.append(np.add.reduceat(np.square(gradient, dtype=np.float64), starts))
        self._releases[-1] += 1

    def _stepped(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:  # noqa: ANN401
        del args, kwargs
        self._weights = _flat(_trained(optimizer))

    def _has_moved(self, parameters: Sequence[torch.Tensor]) -> bool:
        return not np.array_equal(self._weights, _flat(parameters))

    def observation(self, *, told: int, normaliser: float, generator: SteppedGenerator) -> Observation:
        """Everything that was seen, once the loop is over."""
        if self.settings is None:
            raise RuntimeError("the loop made no step to watch")
        self._strays += self._has_moved([p for p in generator.parameters() if p.requires_grad])
        width = max((row.size for row in self._drawn), default=self._patients)
        rows = [np.pad(row, (0, width - row.size)) for row in self._drawn]
        return Observation(
            settings=self.settings,
            normaliser=normaliser,
            told=told,
            patients=self._patients,
            counted=np.array(self._counted, dtype=np.int64),
            drawn=np.stack(rows) if rows else np.zeros((0, width), dtype=np.uint8),
            releases=np.array(self._releases, dtype=np.int64),
            coordinates=np.array(self._coordinates, dtype=np.float32).reshape(-1, self._chosen.size),
            squares=np.array(self._squares, dtype=np.float64).reshape(-1, self._sizes.size),
            sizes=self._sizes,
            is_fresh=self._is_fresh,
            strays=self._strays,
        )


class _WatchedStep:
    """The step under watch, as the loop sees it."""

    def __init__(self, watch: _Watch, inner: Step) -> None:
        self._watch, self._inner = watch, inner

    def __call__(
        self, patients: int, loss_per_patient: LossPerPatient, optimizer: torch.optim.Optimizer
    ) -> None:
        self._watch.begin(patients, optimizer)
        self._inner(patients, partial(self._watch.losses, loss_per_patient), optimizer)

    def close(self) -> None:
        self._inner.close()


def _trained(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _flat(tensors: Sequence[torch.Tensor]) -> np.ndarray:
    """All entries in one float32 copy."""
    flat: np.ndarray = torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).numpy()
    return flat


def _spread(sizes: np.ndarray) -> np.ndarray:
    """Evenly spaced coordinates of each parameter among all, int64; about `COORDINATES` in all."""
    share = max(1, COORDINATES // max(1, sizes.size))
    starts = np.cumsum(sizes) - sizes
    parts = [s + np.linspace(0, n - 1, min(n, share)) for s, n in zip(starts, sizes, strict=True)]
    chosen: np.ndarray = np.concatenate(parts).astype(np.int64)
    return chosen
