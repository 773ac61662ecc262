"""Records drawn from an EVA, visit by visit, all patients of a chunk together.

Knows the trained layers. Refuses to know how they are trained, and where latents and static columns come
from. Rules: every draw takes the caller's source of chance; a record ends at the layout's cap at the
latest; a patient whose record has ended leaves the chunk, so that long records do not hold up short ones;
what is drawn starts from noise, or from a history that was handed in.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional

from synthkit.domain.sequence_layout import RecordStates
from synthkit.generators.eva_network import SIZES, EvaNetwork
from synthkit.generators.sequence_base import RecordBatch, batch_of
from synthkit.generators.sequence_layers import MEMORY, memory_states, never_states


def draw_visits(
    eva: EvaNetwork,
    latent: torch.Tensor,
    statics: torch.Tensor,
    *,
    rng: torch.Generator,
    lengths: np.ndarray | None = None,
    history: RecordStates | None = None,
) -> RecordStates:
    """The visits of patients whose latents, (patients, latent), and static states are given.

    Args:
        eva: What draws.
        latent: float32 (patients, latent).
        statics: int64 (patients, columns).
        rng: Of every draw.
        lengths: As `SequenceGenerator.sample` takes them.
        history: Likewise.
    """
    return _Drawing(eva, latent, statics, rng, lengths=lengths, history=history).run()


def pooled(parts: list[RecordStates]) -> RecordStates:
    """The patients of all parts, one part after the other."""

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    def starts(name: str) -> np.ndarray:
        counts = np.concatenate([np.diff(getattr(part, name)) for part in parts])
        return np.concatenate([[0], np.cumsum(counts)])

    return RecordStates(
        codes=joined("codes"),
        visit_starts=starts("visit_starts"),
        patient_starts=starts("patient_starts"),
        statics=joined("statics"),
        gap_days=joined("gap_days"),
        first_days=joined("first_days"),
    )


@dataclass(kw_only=True)
class _People:
    """Patients whose record goes on, one row each."""

    numbers: torch.Tensor
    hot: torch.Tensor
    past: list[torch.Tensor]
    before: torch.Tensor
    total: torch.Tensor
    last: torch.Tensor
    count: torch.Tensor
    day: torch.Tensor
    elapsed: torch.Tensor
    gap: torch.Tensor
    entry: torch.Tensor
    follow: torch.Tensor

    def kept(self, rows: torch.Tensor) -> "_People":
        """Some of them."""
        moved = {name: value.index_select(0, rows) for name, value in vars(self).items() if name != "past"}
        return _People(**moved, past=[one.index_select(0, rows) for one in self.past])


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Tables:
    """What codes' log odds are made of, as sums of rows rather than layers.

    `weight`, (2 * hidden, codes): of the output layer. `start`, (hidden,): what having no code yet adds to
    the hidden layer; `beside`, (codes, hidden): what a code adds; `gains`, (types * SIZES, hidden): what one
    more of its type adds. `odds`, (codes, MEMORY): bias and memory in each state of it. `together`, (codes,
    codes): what a code adds to the log odds of each later one, or nothing.
    """

    weight: torch.Tensor
    start: torch.Tensor
    beside: torch.Tensor
    gains: torch.Tensor
    odds: torch.Tensor
    together: torch.Tensor | None


def _tables_of(eva: EvaNetwork) -> _Tables:
    sizes = eva.size_in.weight.view(-1, SIZES, eva.size_in.embedding_dim)
    numbers, states = torch.arange(eva.layout.codes)[:, None], torch.arange(MEMORY)
    odds = eva.out.bias[:, None].expand(-1, MEMORY)
    return _Tables(
        weight=eva.out.weight.T,
        start=sizes[:, 0].sum(dim=0),
        beside=eva.beside.weight,
        gains=functional.pad(sizes.diff(dim=1), (0, 0, 0, 1)).flatten(0, 1),
        odds=odds + eva.memory_odds(states, numbers) if eva.memory else odds,
        together=eva.together if eva.has_pairs else None,
    )


@dataclass(kw_only=True)
class _Record:
    """Codes and gaps as they were drawn, in any order of patients."""

    owners: list[np.ndarray] = field(default_factory=list)
    gaps: list[np.ndarray] = field(default_factory=list)
    code_owners: list[np.ndarray] = field(default_factory=list)
    code_places: list[np.ndarray] = field(default_factory=list)
    codes: list[np.ndarray] = field(default_factory=list)


class _Drawing:
    """One chunk's draw."""

    def __init__(
        self,
        eva: EvaNetwork,
        latent: torch.Tensor,
        statics: torch.Tensor,
        rng: torch.Generator,
        *,
        lengths: np.ndarray | None,
        history: RecordStates | None,
    ) -> None:
        self.eva, self.rng, self.statics, self.history = eva, rng, statics, history
        self.record, self.tables = _Record(), _tables_of(eva)
        count, most = len(statics), eva.layout.most_visits
        self.lengths = None if lengths is None else torch.from_numpy(np.minimum(lengths, most))
        self.given: RecordBatch | None = None
        self.given_visits = torch.zeros(count, dtype=torch.int64)
        if history is not None:
            self.given = batch_of(history, eva.layout, np.arange(count))
            self.given_visits = torch.from_numpy(np.diff(history.patient_starts))
        calendar = eva.layout.calendar
        uniform = torch.rand(count, generator=rng, dtype=torch.float64).numpy()
        self.first_days = calendar.first_day_of(statics[:, -1].numpy(), uniform)
        if history is not None:
            self.first_days = history.first_days
        self.latent, self.up = latent, torch.zeros(0)
        self.people = _newcomers(eva, statics, self.first_days)

    def run(self) -> RecordStates:
        """All visits of all patients."""
        people = self.people
        for place in range(self.eva.layout.most_visits):
            people = self._visit(people, place)
            if not people.numbers.numel():
                break
        return _assembled(self.record, self.statics, self.first_days)

    def _visit(self, people: _People, place: int) -> _People:
        """One visit of everyone, and who comes to the next."""
        eva = self.eva
        clock = eva.layout.calendar.clock(
            np.full(people.numbers.numel(), place),
            (people.day + people.elapsed).numpy(),
            people.elapsed.numpy(),
            people.gap.numpy(),
        )
        context, people.past = eva.context_step(
            clock=torch.from_numpy(clock),
            entry=people.entry,
            hot=people.hot,
            up=self._up(people, place),
            before=people.before,
            mean=people.total / max(place, 1),
            past=people.past,
        )
        rows, codes = self._codes(people, context, place)
        present = torch.zeros(len(context), eva.layout.codes)
        present[rows, codes] = 1.0
        vector = eva.visit_in(present)
        self._note(people, rows, codes, place)
        logits = eva.leave_logits(context, vector)
        leave = self._leave(people, logits, place)
        days = self._days(people, leave, place)
        stays = leave != eva.layout.end
        people.total = people.total + vector
        people.before = vector
        if eva.has_pairs:
            people.follow = present @ eva.follow
        people.last[rows, codes] = place
        people.count[rows, codes] += 1
        people.elapsed, people.gap, people.entry = people.elapsed + days, days, leave + 1
        return people if bool(stays.all()) else people.kept(stays.nonzero().squeeze(1))

    def _up(self, people: _People, place: int) -> torch.Tensor:
        """The upsampled latent at this visit, (patients, channels); a span of visits is made at once."""
        if not self.eva.latent:
            return torch.zeros(people.numbers.numel(), self.eva.norm.normalized_shape[0])
        span = self.eva.upsample.span
        if place % span == 0:
            made = self.eva.upsample.block(self.latent[people.numbers], place // span)
            self.up = torch.zeros(span, len(self.latent), made.shape[1])
            self.up[:, people.numbers] = made.permute(2, 0, 1)
        return self.up[place % span][people.numbers]

    def _codes(self, people: _People, context: torch.Tensor, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Row and code of all codes of the visit, int64: drawn one after the other, or as given."""
        is_given = place < self.given_visits[people.numbers]
        going = (~is_given).nonzero().squeeze(1)
        rows, codes = self._drawn_codes(going, context[going], self._odds(people, place)[going])
        if self.given is None or not bool(is_given.any()):
            return rows, codes
        known = is_given.nonzero().squeeze(1)
        some, given = self.given.present[people.numbers[known], place].nonzero(as_tuple=True)
        return torch.cat([rows, known[some]]), torch.cat([codes, given])

    def _drawn_codes(
        self, going: torch.Tensor, context: torch.Tensor, odds: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `_codes`, of the rows `going`; `odds` is what of each code's log odds no other code changes."""
        tables, layout, none = self.tables, self.eva.layout, torch.zeros(0, dtype=torch.int64)
        hidden = self.eva.to_hidden(context) + tables.start
        last = torch.full((going.numel(),), -1)
        sizes = torch.zeros(going.numel(), 1 + max(layout.types), dtype=torch.int64)
        rows, codes = [none], [none]
        for turn in range(layout.most_codes):
            if not going.numel():
                break
            logits = torch.addmm(odds, torch.cat([functional.gelu(hidden), hidden], dim=1), tables.weight)
            at_least_one = not (turn or layout.may_be_empty)
            code = _next_codes(functional.softplus(logits), last, self.rng, at_least_one=at_least_one)
            found = (code < layout.codes).nonzero().squeeze(1)
            last, odds = code[found], odds.index_select(0, found)
            if tables.together is not None:
                odds += tables.together.index_select(0, last)
            going, sizes = going[found], sizes.index_select(0, found)
            kind = self.eva.type_of[last][:, None]
            gained = sizes.gather(1, kind).clamp(max=SIZES - 1) + kind * SIZES
            sizes.scatter_add_(1, kind, torch.ones_like(kind))
            hidden = hidden.index_select(0, found) + tables.beside.index_select(0, last)
            hidden += tables.gains.index_select(0, gained.squeeze(1))
            rows.append(going)
            codes.append(last)
        return torch.cat(rows), torch.cat(codes)

    def _odds(self, people: _People, place: int) -> torch.Tensor:
        """Of each code the bias, what the patient's memory adds and the visit before, (patients, codes).

        Few codes have been seen before: all others' states of memory are the same, and not worked out.
        """
        table, codes = self.tables.odds, self.eva.layout.codes
        now = torch.tensor(place)
        odds = table[:, never_states(now)].expand(people.numbers.numel(), codes).clone()
        if self.eva.memory:
            seen = people.count.flatten().nonzero().squeeze(1)
            last, count = (one.flatten()[seen].long() for one in (people.last, people.count))
            at = seen % codes * MEMORY + memory_states(now, last, count)
            odds.view(-1)[seen] = table.flatten().index_select(0, at)
        return odds + people.follow if self.eva.has_pairs else odds

    def _leave(self, people: _People, logits: torch.Tensor, place: int) -> torch.Tensor:
        """Kind of the gap to the next visit, or the layout's `end`."""
        end = self.eva.layout.end
        if place + 1 >= self.eva.layout.most_visits:
            return torch.full((len(logits),), end)
        goes_on = place + 1 < self.given_visits[people.numbers]
        if self.lengths is not None:
            goes_on = goes_on | (place + 1 < self.lengths[people.numbers])
        mass = torch.softmax(logits, dim=1)
        mass = torch.cat([mass[:, :end] + 1e-12, mass[:, end:] * ~goes_on[:, None]], dim=1)
        leave = torch.multinomial(mass, 1, generator=self.rng).squeeze(1)
        if self.lengths is not None:
            leave = torch.where(goes_on, leave, end)
        return leave

    def _days(self, people: _People, leave: torch.Tensor, place: int) -> torch.Tensor:
        """Days to the next visit; 0 at the end."""
        end, calendar = self.eva.layout.end, self.eva.layout.calendar
        uniform = torch.rand(len(leave), generator=self.rng, dtype=torch.float64).numpy()
        stays = (leave != end).numpy()
        drawn = calendar.days_of(np.where(stays, leave.numpy(), 0), uniform)
        days = torch.from_numpy(np.where(stays, drawn, 0))
        if self.history is not None:
            is_given = place + 1 < self.given_visits[people.numbers]
            visit = self.history.patient_starts[people.numbers.numpy()] + place + 1
            given = torch.from_numpy(self.history.gap_days[np.minimum(visit, len(self.history.gap_days) - 1)])
            days = torch.where(is_given, given, days)
            leave[is_given] = torch.from_numpy(calendar.kind_of(given.numpy()))[is_given]
        return days

    def _note(self, people: _People, rows: torch.Tensor, codes: torch.Tensor, place: int) -> None:
        self.record.owners.append(people.numbers.numpy())
        self.record.gaps.append(people.gap.numpy())
        self.record.codes.append(codes.numpy())
        self.record.code_owners.append(people.numbers[rows].numpy())
        self.record.code_places.append(np.full(codes.numel(), place))


def _next_codes(
    hazards: torch.Tensor, last: torch.Tensor, rng: torch.Generator, *, at_least_one: bool
) -> torch.Tensor:
    """Each row's first code after `last` that is present, int64 (rows,); the number of codes if none is.

    A chain of yes or no ends where the running sum of minus log(no) passes an exponential variate: one
    number a row instead of one a code.

    Args:
        hazards: float32 (rows, codes): minus log of the chance that a code is absent.
        last: int64 (rows,): the code before; -1 if none.
        rng: Of the draw.
        at_least_one: Given that some code is present.
    """
    risk = hazards.cumsum(dim=1, dtype=torch.float64)
    uniform = torch.rand(len(risk), 1, generator=rng, dtype=torch.float64)
    if at_least_one:
        uniform = uniform * -torch.expm1(-risk[:, -1:])
    before = risk.gather(1, last.clamp(min=0)[:, None]) * (last >= 0)[:, None]
    code = torch.searchsorted(risk, before - torch.log1p(-uniform)).squeeze(1)
    # A variate of exactly 0, or rounding at the end, must neither repeat a code nor leave a visit bare.
    return torch.maximum(code, last + 1).clamp(max=risk.shape[1] - int(at_least_one))


def _newcomers(eva: EvaNetwork, statics: torch.Tensor, first_days: np.ndarray) -> _People:
    count, channels = len(statics), eva.norm.normalized_shape[0]
    nothing = torch.zeros(count, dtype=torch.int64)
    return _People(
        numbers=torch.arange(count),
        hot=eva.hot(statics),
        past=eva.stack.start(count),
        before=torch.zeros(count, channels),
        total=torch.zeros(count, channels),
        last=torch.full((count, eva.layout.codes), -1, dtype=torch.int16),
        count=torch.zeros(count, eva.layout.codes, dtype=torch.int16),
        day=torch.from_numpy(first_days),
        elapsed=nothing,
        gap=nothing,
        entry=nothing,
        follow=torch.zeros(count, eva.layout.codes if eva.has_pairs else 0),
    )


def _assembled(record: _Record, statics: torch.Tensor, first_days: np.ndarray) -> RecordStates:
    """Patient after patient, visit after visit."""
    owners = np.concatenate(record.owners)
    places = np.concatenate([np.full(o.size, place) for place, o in enumerate(record.owners)])
    order = np.lexsort((places, owners))
    lengths = np.bincount(owners, minlength=len(statics))
    patient_starts = np.concatenate([[0], np.cumsum(lengths)])
    code_visit = patient_starts[np.concatenate(record.code_owners)] + np.concatenate(record.code_places)
    codes = np.concatenate(record.codes)
    sizes = np.bincount(code_visit, minlength=owners.size)
    return RecordStates(
        codes=codes[np.lexsort((codes, code_visit))],
        visit_starts=np.concatenate([[0], np.cumsum(sizes)]),
        patient_starts=patient_starts,
        statics=statics.numpy(),
        gap_days=np.concatenate(record.gaps)[order],
        first_days=first_days,
    )
