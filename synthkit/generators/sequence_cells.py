"""Which step of a batch decides which code of a visit, and what earlier visits say of it.

Knows a `RecordBatch` and tensors. Refuses to know what a layer makes of them. A visit's codes are decided in
ascending order: a step decides the codes after the last one up to its own, the last step all that remain. So
each code of a visit is decided once, and what is worked out elementwise is worked out for visits times
codes, not for steps times codes. Rules: rows are visits of real patients, never padding, patient after
patient; what meets a trained layer keeps the patients in front, one row each, so that gradients can be
measured patient by patient.
"""

from dataclasses import dataclass

import torch
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from synthkit.generators.sequence_base import RecordBatch
from synthkit.generators.sequence_layers import by_step, memory_states, never_states


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Cells:
    """Visits and the steps that decide their codes, as positions in the flattened grids of a batch.

    Attributes:
        visits: int64 (visits,): each visit's position in (batch, visits).
        owners: int64 (visits,): its patient.
        places: int64 (visits,): how many visits the patient had before.
        first: int64 (visits,): position in (batch, steps) of the step it begins with.
        deciding: int64 (visits, codes): position in (batch, steps, codes) of the step that decides a code.
        row_of: int64 (batch, steps): which of the visits a step belongs to; any in padding.
    """

    visits: torch.Tensor
    owners: torch.Tensor
    places: torch.Tensor
    first: torch.Tensor
    deciding: torch.Tensor
    row_of: torch.Tensor


def cells_in(batch: RecordBatch, codes: int) -> Cells:
    """The visits of a batch, with `codes` codes to decide at each."""
    visits = batch.is_visit.flatten().nonzero().squeeze(1)
    steps = batch.is_step.flatten().nonzero().squeeze(1)
    last = batch.last.flatten()[steps]
    decides = batch.tokens.flatten()[steps].clamp(max=codes - 1) - last
    deciding = torch.repeat_interleave(steps, decides).view(-1, codes) * codes
    begins = (batch.last < 0) & (batch.is_step > 0)
    most = batch.is_visit.shape[1]
    return Cells(
        visits=visits,
        owners=visits // most,
        places=visits % most,
        first=steps[last < 0],
        deciding=deciding + torch.arange(codes, device=steps.device),
        row_of=begins.flatten().cumsum(dim=0).view_as(batch.last) - 1,
    )


def decided(logits: torch.Tensor, cells: Cells) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits where a code is decided, and those of each visit's first step, both (visits, codes).

    Args:
        logits: (batch, steps, codes).
        cells: The batch's.
    """
    found: tuple[torch.Tensor, torch.Tensor] = _Decided.apply(  # type: ignore[no-untyped-call]
        logits, cells.deciding, cells.first
    )
    return found


class _Decided(torch.autograd.Function):
    """Both at once, for each would by itself fill a gradient of all steps times codes."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, logits: torch.Tensor, deciding: torch.Tensor, first: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(deciding, first)
        ctx.shape = logits.shape  # type: ignore[attr-defined]
        at_deciding = logits.flatten().index_select(0, deciding.flatten()).view_as(deciding)
        return at_deciding, logits.flatten(0, 1).index_select(0, first)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        deciding, first = ctx.saved_tensors  # type: ignore[attr-defined]
        whole = gradients[0].new_zeros(ctx.shape)  # type: ignore[attr-defined]
        whole.view(-1).scatter_(0, deciding.flatten(), gradients[0].flatten())
        whole.view(-1, whole.shape[2]).index_add_(0, first, gradients[1])
        return whole, None, None


def chained(starts: torch.Tensor, marks: torch.Tensor, cells: Cells) -> torch.Tensor:
    """What is known at each step: its visit's start and the marks of the visit's steps before it.

    Args:
        starts: (visits, k).
        marks: (batch, steps, k).
        cells: The batch's.

    Returns:
        (batch, steps, k).
    """
    before = functional.pad(marks, (0, 0, 1, 0))[:, :-1].cumsum(dim=1)
    own = starts - before.flatten(0, 1).index_select(0, cells.first)
    return before + own.index_select(0, cells.row_of.flatten()).view_as(before)


def counted_so_far(batch: RecordBatch, type_of: torch.Tensor, *, most: int) -> torch.Tensor:
    """At each step: its patient, its code's type, and how many codes of that type its visit has before it.

    Args:
        batch: Whole patients.
        type_of: int64 (codes,).
        most: What the number is told apart up to.

    Returns:
        int64 (batch, steps): a position in (batch, types, most + 1), flattened; any at a visit's end.
    """
    kinds = int(type_of.max()) + 1
    kind = torch.cat([type_of, type_of.new_zeros(1)])[batch.tokens]
    hits = functional.one_hot(kind, kinds)
    before = hits.cumsum(dim=1) - hits
    since = before - by_step(before, batch.begin)
    count = since.gather(2, kind[:, :, None]).squeeze(2).clamp(max=most)
    patient = torch.arange(len(batch), device=kind.device)[:, None]
    return (patient * kinds + kind) * (most + 1) + count


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Remembered:
    """The codes that a visit's patient has had before, most visits' codes being none of them.

    Attributes:
        codes: int64 (batch, uses): padded to the patient with most of them.
        states: int64 (batch, uses): each one's state of memory.
        used: int64 (n,): which of (batch, uses), flattened, are no padding.
        cells: int64 (n,): which of (visits, codes), flattened, each of those is about.
        never: int64 (kinds,): states of memory of a code that the patient has not had.
        kind_of: int64 (visits,): which of (batch, kinds), flattened, a visit has.
    """

    codes: torch.Tensor
    states: torch.Tensor
    used: torch.Tensor
    cells: torch.Tensor
    never: torch.Tensor
    kind_of: torch.Tensor


def remembered(batch: RecordBatch, cells: Cells, codes: int) -> Remembered:
    """What the memory of each visit of a batch holds."""
    steps = ((batch.is_step > 0) & (batch.tokens < codes)).flatten().nonzero().squeeze(1)
    row, code = cells.row_of.flatten()[steps], batch.tokens.flatten()[steps]
    owner, place = cells.owners[row], cells.places[row]
    pair, order = (owner * codes + code).sort(stable=True)
    owner, place, code = owner[order], place[order], code[order]
    again = pair[1:] == pair[:-1]
    goes_on, is_new = torch.zeros_like(pair, dtype=torch.bool), torch.ones_like(pair, dtype=torch.bool)
    goes_on[:-1], is_new[1:] = again, ~again
    lengths = torch.bincount(cells.owners, minlength=len(batch))
    until = torch.where(goes_on, place.roll(-1), lengths[owner] - 1)
    number = torch.arange(pair.numel(), device=pair.device)
    count = number - torch.where(is_new, number, 0).cummax(dim=0).values + 1

    use = torch.repeat_interleave(number, until - place)
    owner, code = owner[use], code[use]
    now = place[use] + 1 + _within(until - place)
    uses = torch.bincount(owner, minlength=len(batch))
    width = max(1, int(uses.max()))
    used = owner * width + _within(uses)
    grid = torch.zeros(2, len(batch) * width, dtype=torch.int64, device=pair.device)
    grid[0, used], grid[1, used] = code, memory_states(now, place[use], count[use])
    kinds = never_states(cells.places)
    never = torch.arange(1 + int(kinds.max()), device=pair.device)
    starts = lengths.cumsum(dim=0) - lengths
    return Remembered(
        codes=grid[0].view(len(batch), width),
        states=grid[1].view(len(batch), width),
        used=used,
        cells=(starts[owner] + now) * codes + code,
        never=never,
        kind_of=cells.owners * never.numel() + kinds,
    )


def _within(lengths: torch.Tensor) -> torch.Tensor:
    """0, 1, 2 ... of each run of the given lengths, one run after the other."""
    begins = torch.repeat_interleave(lengths.cumsum(dim=0) - lengths, lengths)
    return torch.arange(begins.numel(), device=lengths.device) - begins
