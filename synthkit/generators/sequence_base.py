"""What every generator of records answers to, and the batch of whole patients it is trained on.

Knows a `SequenceLayout` and tensors. Refuses to know privacy, files, hospitals or what a code means. Rules:
the first dimension of whatever meets a trained layer is the patients', no layer mixes patients, and a
patient's loss is the same in whatever company and padding: that is what per-patient clipping rests on.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from synthkit.domain.layout import StateWeights
from synthkit.domain.sequence_layout import RecordStates, SequenceLayout


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RecordBatch:
    """Whole patients, padded to the longest. `steps` are codes and ends of visits, in order.

    Attributes:
        tokens: int64 (batch, steps): the code, or the number of codes at a visit's end.
        last: int64 (batch, steps): the code before in the same visit; -1 if none.
        visit: int64 (batch, steps): place of the step's visit.
        begin: int64 (batch, steps): the step with which that visit begins.
        is_step: float32 (batch, steps): 0 in padding.
        is_visit: float32 (batch, visits): 0 in padding.
        entry: int64 (batch, visits): 0 at the first visit, else 1 + kind of the gap before.
        leave: int64 (batch, visits): kind of the gap to the next visit, or the layout's `end`.
        clock: float32 (batch, visits, CLOCK).
        present: float32 (batch, visits, codes): 1 where the visit has the code.
        statics: int64 (batch, columns).
    """

    tokens: torch.Tensor
    last: torch.Tensor
    visit: torch.Tensor
    begin: torch.Tensor
    is_step: torch.Tensor
    is_visit: torch.Tensor
    entry: torch.Tensor
    leave: torch.Tensor
    clock: torch.Tensor
    present: torch.Tensor
    statics: torch.Tensor

    def __len__(self) -> int:
        return len(self.statics)

    def to(self, device: torch.device) -> "RecordBatch":
        """The same on another device."""
        return RecordBatch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def batch_of(states: RecordStates, layout: SequenceLayout, patients: np.ndarray) -> RecordBatch:
    """The given patients (positions) as a batch."""
    some = states.take(patients)
    counts, lengths = np.diff(some.visit_starts), np.diff(some.patient_starts)
    owner = np.repeat(np.arange(len(some)), lengths)  # (visits,)
    place = np.arange(owner.size) - some.patient_starts[owner]  # (visits,)
    sizes = counts + 1
    ends = np.cumsum(sizes)
    first_step = np.concatenate([[0], ends])[some.patient_starts[:-1]]  # of each patient
    begin = ends - sizes - first_step[owner]  # (visits,): within the patient
    step_visit = np.repeat(np.arange(owner.size), sizes)
    column = np.arange(step_visit.size) - first_step[owner[step_visit]]
    row = owner[step_visit]
    tokens = np.full(step_visit.size, layout.codes)
    is_code = column - begin[step_visit] < counts[step_visit]
    tokens[is_code] = some.codes
    last = np.where(column > begin[step_visit], np.concatenate([[-1], tokens[:-1]]), -1)
    shape = (len(some), int(column.max(initial=0)) + 1)
    code_visit = np.repeat(np.arange(owner.size), counts)
    present = np.zeros((len(some), int(lengths.max(initial=1)), layout.codes), dtype=np.float32)
    present[owner[code_visit], place[code_visit], some.codes] = 1.0

    def by_step(values: np.ndarray, padding: float, kind: type) -> torch.Tensor:
        grid: np.ndarray = np.full(shape, padding, dtype=kind)
        grid[row, column] = values
        return torch.from_numpy(grid)

    def by_visit(values: np.ndarray) -> torch.Tensor:
        grid = np.zeros((*present.shape[:2], *values.shape[1:]), dtype=values.dtype)
        grid[owner, place] = values
        return torch.from_numpy(grid)

    entry, leave, clock = _times(some, layout, owner, place)
    return RecordBatch(
        tokens=by_step(tokens, layout.codes, np.int64),
        last=by_step(last, -1, np.int64),
        visit=by_step(place[step_visit], 0, np.int64),
        begin=by_step(begin[step_visit], 0, np.int64),
        is_step=by_step(np.ones(row.size), 0.0, np.float32),
        is_visit=by_visit(np.ones(owner.size, dtype=np.float32)),
        entry=by_visit(entry),
        leave=by_visit(leave),
        clock=by_visit(clock),
        present=torch.from_numpy(present),
        statics=torch.from_numpy(some.statics),
    )


def _times(
    some: RecordStates, layout: SequenceLayout, owner: np.ndarray, place: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each visit: how it was come to, how it is left, and its clock."""
    calendar = layout.calendar
    kinds = calendar.kind_of(some.gap_days)
    total = np.cumsum(some.gap_days)
    elapsed = total - total[some.patient_starts[:-1]][owner]
    clock = calendar.clock(place, some.first_days[owner] + elapsed, elapsed, some.gap_days)
    leave = np.append(kinds[1:], 0)
    leave[some.patient_starts[1:] - 1] = layout.end
    return np.where(place > 0, kinds + 1, 0), leave, clock


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Parts of a bound on patients' log-likelihood, in nats; each float, shape (batch,).

    `codes`: minus log probability of all codes, `leaves`: of gaps and ends, `statics`: of the static
    columns, `kl`: divergence of the latent's posterior from its prior, `drawn`: the same at the latent that
    was drawn, the log of posterior over prior density, whose mean `kl` is.
    """

    codes: torch.Tensor
    leaves: torch.Tensor
    statics: torch.Tensor
    kl: torch.Tensor
    drawn: torch.Tensor

    @property
    def misfit(self) -> torch.Tensor:
        """Minus the log probability given the latent."""
        return self.codes + self.leaves + self.statics

    @property
    def kl_share(self) -> float:
        """The divergence's share of the whole bound: near 0, the latent is not used."""
        return float(self.kl.sum() / (self.misfit + self.kl).sum())


class SequenceGenerator(nn.Module, ABC):
    """A trainable model of one patient's record."""

    kind: ClassVar[str]
    """Its name in studies, policies and artefacts."""

    def __init__(self, layout: SequenceLayout) -> None:
        super().__init__()
        self.layout = layout
        self.drops = False
        """Whether training losses leave out some of a patient: a training without privacy says so."""

    @property
    @abstractmethod
    def hyperparameters(self) -> dict[str, float]:
        """All hyperparameters, defaults filled in; enough to build the same architecture again."""

    @property
    @abstractmethod
    def noise_size(self) -> int:
        """How many standard normal variates a patient's loss takes."""

    @property
    @abstractmethod
    def has_latent(self) -> bool:
        """Whether a patient has a latent at all."""

    @property
    @abstractmethod
    def has_pairs(self) -> bool:
        """Whether pairs of codes are bought with the shares."""

    @abstractmethod
    def is_local(self, name: str) -> bool:
        """Whether the parameter of that name infers latents (phi) rather than makes records (theta, H)."""

    @abstractmethod
    def bound(self, batch: RecordBatch, *, noise: torch.Tensor) -> Bound:
        """The evidence bound's parts.

        Args:
            batch: Whole patients.
            noise: Standard normal, float32 (batch, noise_size).
        """

    @abstractmethod
    def statics_misfit(self, batch: RecordBatch, *, noise: torch.Tensor) -> torch.Tensor:
        """Minus log probability of the static columns, float32 (batch,), the latent drawn from its prior."""

    @abstractmethod
    def loss_per_patient(self, batch: RecordBatch, *, progress: float, noise: torch.Tensor) -> torch.Tensor:
        """What training makes small, float32 (batch,); `progress` in [0, 1] anneals."""

    @abstractmethod
    def statistics(self, states: RecordStates) -> torch.Tensor:
        """Shares that the first biases are set from: one vector a patient, float64, of norm at most 1."""

    @abstractmethod
    def set_shares(self, total: np.ndarray, *, noise: float) -> None:
        """Set the first biases from the (noised) sum of `statistics`; `noise`: its standard deviation."""

    @abstractmethod
    def correct_shares(
        self, total: np.ndarray, drawn: Sequence[RecordStates], *, noise: float, step: float
    ) -> None:
        """Move biases by `step` times what `total`, with its noise, says beyond own records; pairs, too."""

    @abstractmethod
    def sample(
        self,
        count: int,
        *,
        rng: torch.Generator,
        where: StateWeights | None = None,
        lengths: np.ndarray | None = None,
        history: RecordStates | None = None,
    ) -> tuple[RecordStates, float]:
        """Draw records.

        Args:
            count: How many.
            rng: Of every random draw.
            where: Allowed shares of static states, by column.
            lengths: Each record's number of visits, int64 (count,); None: as the model ends them.
            history: Records to continue, `count` of them: each drawn one begins with its own, static
                columns included. Excludes `where`.

        Returns:
            The records, and how reliable the conditional draw is, in (0, 1].
        """

    def get_weights(self) -> dict[str, np.ndarray]:
        """All parameters by name, float32 copies."""
        return {
            name: p.detach().cpu().numpy().astype(np.float32).copy() for name, p in self.named_parameters()
        }

    def set_weights(self, weights: dict[str, np.ndarray]) -> None:
        """Replace all parameters.

        Raises:
            ValueError: Names or shapes differ from this architecture's.
        """
        own = dict(self.named_parameters())
        if set(own) != set(weights) or any(own[n].shape != weights[n].shape for n in own):
            raise ValueError("weights do not fit this generator's architecture")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(weights[name])))
