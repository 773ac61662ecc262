"""Records drawn from an EVA, visit by visit, all patients of a chunk together.

Knows the trained layers. Refuses to know how they are trained. Rules: every draw takes the caller's source
of chance; a record ends at the layout's cap at the latest; a patient whose record has ended leaves the
chunk, so that long records do not hold up short ones; what is drawn starts from noise, or from a history
that was handed in.
"""

from dataclasses import dataclass, field

import numpy as np
import torch

from synthkit.domain.layout import StateWeights
from synthkit.domain.sequence_layout import RecordStates
from synthkit.generators.eva_network import EvaNetwork
from synthkit.generators.sequence_base import RecordBatch, batch_of
from synthkit.generators.sequence_layers import memory_states

CHUNK = 1024
"""Patients drawn at once."""

CANDIDATES = 20
"""Starts per kept start under conditions."""


@torch.no_grad()
def draw_records(
    eva: EvaNetwork,
    count: int,
    *,
    rng: torch.Generator,
    where: StateWeights | None,
    lengths: np.ndarray | None,
    history: RecordStates | None,
) -> tuple[RecordStates, float]:
    """See `SequenceGenerator.sample`."""
    if lengths is not None and (lengths.shape != (count,) or lengths.min(initial=1) < 1):
        raise ValueError("one length of at least 1 for each record")
    if history is not None and len(history) != count:
        raise ValueError("one history for each record")
    parts, reliable = [], []
    for start in range(0, count, CHUNK):
        chunk = np.arange(start, min(start + CHUNK, count))
        wanted = None if lengths is None else lengths[chunk]
        past = None if history is None else history.take(chunk)
        latent, statics, share = _starts(eva, chunk.size, rng, where or {}, past)
        parts.append(_Drawing(eva, latent, statics, rng, lengths=wanted, history=past).run())
        reliable.append(share)
    return _pooled(parts), float(np.mean(reliable)) if reliable else 1.0


def _starts(
    eva: EvaNetwork, count: int, rng: torch.Generator, where: StateWeights, history: RecordStates | None
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Latents, static states, and the share of effective draws among them.

    Under conditions a start counts with the allowed mass met on its way (importance resampling).
    """
    if history is not None:
        batch = batch_of(history, eva.layout, np.arange(count))
        latent, _ = eva.infer_latent(batch, torch.randn(count, eva.noise_size, generator=rng))
        return latent, batch.statics, 1.0
    size = count * CANDIDATES if where else count
    latent = eva.latent_before_statics(size, rng)
    statics = torch.zeros(size, len(eva.layout.statics.states), dtype=torch.int64)
    met = torch.zeros(size, dtype=torch.float64)
    hot = torch.zeros(size, eva.layout.statics.width)
    for column, (head, offset) in enumerate(zip(eva.heads(), eva.layout.statics.offsets, strict=True)):
        mass = torch.softmax(head(eva.static_inputs(hot, offset, latent)).double(), dim=1)
        if column in where:
            allowed = torch.from_numpy(where[column]).to(mass)
            met += (mass * allowed).sum(dim=1).clamp(min=1e-300).log()
            # A mass below the smallest float must not let a state through that is not allowed.
            mass = mass * allowed + 1e-300 * allowed
        statics[:, column] = torch.multinomial(mass, 1, generator=rng).squeeze(1)
        hot[torch.arange(size), offset + statics[:, column]] = 1.0
    if not where:
        return eva.latent_after_statics(latent, statics, rng), statics, 1.0
    weights = torch.softmax(met, dim=0)
    kept = torch.multinomial(weights, count, replacement=True, generator=rng)
    effective = float(1.0 / weights.square().sum())
    latent = eva.latent_after_statics(latent[kept], statics[kept], rng)
    return latent, statics[kept], max(1e-12, min(1.0, effective / count))


@dataclass(kw_only=True)
class _People:
    """Patients whose record goes on, one row each."""

    numbers: torch.Tensor
    hot: torch.Tensor
    up: torch.Tensor
    past: list[torch.Tensor]
    before: torch.Tensor
    total: torch.Tensor
    last: torch.Tensor
    count: torch.Tensor
    day: torch.Tensor
    elapsed: torch.Tensor
    gap: torch.Tensor
    entry: torch.Tensor

    def kept(self, rows: torch.Tensor) -> "_People":
        """Some of them."""
        moved = {name: value[rows] for name, value in vars(self).items() if name != "past"}
        return _People(**moved, past=[one[rows] for one in self.past])


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
        self.record = _Record()
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
        longest = most if self.lengths is None else int(self.lengths.max())
        self.people = _newcomers(eva, latent, statics, self.first_days, max(longest, 1))

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
            up=people.up[:, :, place],
            before=people.before,
            mean=people.total / max(place, 1),
            past=people.past,
        )
        present = self._codes(people, context, place)
        vector = eva.visit_in(present)
        self._note(people, present, place)
        logits = eva.leave_logits(context, vector)
        leave = self._leave(people, logits, place)
        days = self._days(people, leave, place)
        stays = leave != eva.layout.end
        people.total = people.total + vector
        people.before = vector
        people.last = torch.where(present > 0, place, people.last)
        people.count = people.count + present.long()
        people.elapsed, people.gap, people.entry = people.elapsed + days, days, leave + 1
        return people if bool(stays.all()) else people.kept(stays.nonzero().squeeze(1))

    def _codes(self, people: _People, context: torch.Tensor, place: int) -> torch.Tensor:
        """The visit's codes, float32 (patients, codes): drawn one after the other, or as given."""
        eva, layout = self.eva, self.eva.layout
        rows = len(context)
        present = torch.zeros(rows, layout.codes)
        is_given = place < self.given_visits[people.numbers]
        if self.given is not None and bool(is_given.any()):
            present[is_given] = self.given.present[people.numbers[is_given], place]
        memory = torch.zeros(rows, 1)
        if eva.memory:
            memory = eva.memory_odds(memory_states(torch.tensor(place), people.last, people.count))
        hidden = eva.to_hidden(context)
        last = torch.full((rows,), -1)
        sizes = torch.zeros(rows, 1 + max(layout.types), dtype=torch.int64)
        numbers = torch.arange(layout.codes)
        going = (~is_given).nonzero().squeeze(1)
        for turn in range(layout.most_codes):
            if not going.numel():
                break
            seen = hidden[going] + eva.sizes(sizes[going])
            chances = torch.sigmoid(eva.code_logits(seen) + memory[going])
            hits = torch.rand(chances.shape, generator=self.rng) < chances
            hits &= numbers > last[going, None]
            code = hits.to(torch.uint8).argmax(dim=1)
            if turn == 0 and not layout.may_be_empty:
                bare = (~hits.any(dim=1)).nonzero().squeeze(1)
                code[bare] = _first_codes(chances[bare], self.rng)
                hits[bare, code[bare]] = True
            found = hits.any(dim=1).nonzero().squeeze(1)
            going, code = going[found], code[found]
            present[going, code] = 1.0
            last[going] = code
            sizes[going, eva.type_of[code]] += 1
            hidden[going] += eva.beside(code)
        return present

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

    def _note(self, people: _People, present: torch.Tensor, place: int) -> None:
        row, code = present.nonzero(as_tuple=True)
        self.record.owners.append(people.numbers.numpy())
        self.record.gaps.append(people.gap.numpy())
        self.record.codes.append(code.numpy())
        self.record.code_owners.append(people.numbers[row].numpy())
        self.record.code_places.append(np.full(code.numel(), place))


def _first_codes(chances: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """The first code of visits that have one at all, int64 (rows,)."""
    if not len(chances):
        return torch.zeros(0, dtype=torch.int64)
    misses = torch.log1p(-chances.double().clamp(max=1 - 1e-9))
    mass = (chances.double().clamp(min=1e-30).log() + misses.cumsum(dim=1) - misses).softmax(dim=1)
    return torch.multinomial(mass, 1, generator=rng).squeeze(1)


def _newcomers(
    eva: EvaNetwork, latent: torch.Tensor, statics: torch.Tensor, first_days: np.ndarray, longest: int
) -> _People:
    count, channels = len(statics), eva.norm.normalized_shape[0]
    nothing = torch.zeros(count, dtype=torch.int64)
    return _People(
        numbers=torch.arange(count),
        hot=eva.hot(statics),
        up=eva.upsample(latent, longest) if eva.latent else torch.zeros(count, channels, longest),
        past=eva.stack.start(count),
        before=torch.zeros(count, channels),
        total=torch.zeros(count, channels),
        last=torch.full((count, eva.layout.codes), -1),
        count=torch.zeros(count, eva.layout.codes, dtype=torch.int64),
        day=torch.from_numpy(first_days),
        elapsed=nothing,
        gap=nothing,
        entry=nothing,
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


def _pooled(parts: list[RecordStates]) -> RecordStates:
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
