"""EVA: a latent per patient, transposed and causal convolutions, codes of a visit decoded one by one.

Knows a `SequenceLayout`. Beyond the paper: a visit's codes are decoded in the vocabulary's order, each code
given the visit's context and the codes before it in this visit, so that no vocabulary of visits is needed
and every set of codes has an exact probability; each code's memory of earlier visits enters its odds
directly; time to the next visit, the end of the record and static columns are generated with it.

    z ~ N(0, I);  statics one after the other | z;  for each visit t:
      context_t = causal convolutions of (upsampled z, statics, time, visits before t)
      P(code v | codes u < v) = sigmoid(out(context_t, codes u < v) + memory(v) + bought pairs (u, v))
      P(gap to the next visit, or end | context_t, visit t)

Refuses to know privacy or files. Rules: as in `sequence_base`. Hyperparameters make the paper's rivals of
it: `recurrent` puts an LSTM in the convolutions' place, `latent` 0 leaves the latent out, `layers` 0 the
look at earlier visits, `memory` 0 the memory.

Source: Biswal et al., "EVA: Generating longitudinal electronic health records using conditional variational
autoencoders", 2020, section 2.1 and equation 3; ordered Bernoulli chain: Larochelle and Murray, NADE, 2011.
"""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from synthkit.domain.calendar import CLOCK
from synthkit.domain.sequence_layout import RecordStates, SequenceLayout
from synthkit.generators.eva_dropout import ALL, Kept, kept_of
from synthkit.generators.eva_latent import Inferred, standard_draw
from synthkit.generators.eva_settings import DEFAULTS, RANGES
from synthkit.generators.sequence_base import Bound, RecordBatch, SequenceGenerator
from synthkit.generators.sequence_biases import correct_biases, correct_pairs, set_biases
from synthkit.generators.sequence_cells import Cells, cells_in, chained, counted_so_far, decided, remembered
from synthkit.generators.sequence_counts import Counts, count_sum
from synthkit.generators.sequence_layers import (
    MEMORY,
    NEVER,
    BothWays,
    CausalStack,
    Lookup,
    RecurrentStack,
    Upsampler,
)
from synthkit.generators.sequence_pairs import pair_cells
from synthkit.generators.sequence_shares import FIRST_CODES, Shares, share_statistics
from synthkit.generators.settings import checked_settings

SIZES = 16
"""Codes of one type that a visit has so far are told apart up to one less than this."""


class EvaNetwork(SequenceGenerator):
    """Everything of EVA but the drawing of records. See the module."""

    type_of: torch.Tensor

    statics_follow_latent: ClassVar[bool] = True
    """Whether static columns are drawn given the latent, rather than the other way round."""

    local_parts: ClassVar[tuple[str, ...]] = ("see", "infer", "reader")
    """What infers a patient's latent: phi; all else are theta and H."""

    defaults: ClassVar[Mapping[str, float]] = DEFAULTS
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = RANGES

    def __init__(self, layout: SequenceLayout, hyperparameters: dict[str, float] | None = None) -> None:
        super().__init__(layout)
        self._settings = checked_settings(self.kind, hyperparameters, self.defaults, self.ranges)
        size = {name: int(value) for name, value in self._settings.items()}
        channels, hidden, latent, codes = size["channels"], size["hidden"], size["latent"], layout.codes
        self.latent, self.memory, self.channels = latent, size["memory"], channels
        given = latent * self.statics_follow_latent
        if latent:
            self.see = nn.Linear(codes + layout.statics.width + 2, 2 * channels)
            self.infer = nn.Linear(2 * channels, 2 * self.inferred)
            self.upsample = Upsampler(latent, channels, layout.most_visits)
            if size["reader"]:
                self.reader = BothWays(channels, channels)
        self.static_heads = nn.ModuleList(
            [
                nn.Linear(max(1, offset + given), states)
                for offset, states in zip(layout.statics.offsets, layout.statics.states, strict=True)
            ]
        )
        self.static_in = nn.Linear(layout.statics.width, channels, bias=False)
        self.time_in = nn.Linear(CLOCK, channels)
        self.entry_in = nn.Embedding(layout.end + 1, channels)
        self.visit_in = nn.Linear(codes, channels, bias=False)
        self.mean_in = nn.Linear(channels, channels)
        recurrent, layers = size["recurrent"], size["layers"]
        self.stack = RecurrentStack(channels, 2 * channels) if recurrent else CausalStack(channels, layers)
        self.looks_back = bool(recurrent or layers)
        self.norm = nn.LayerNorm(channels)
        self.sees_patient, self.sees_latent = bool(size["direct"] & 1), bool(size["direct"] & 2 and latent)
        seen = channels + self.sees_patient * layout.statics.width + self.sees_latent * channels
        self.to_hidden = nn.Linear(seen, hidden)
        self.beside = nn.Embedding(codes + 1, hidden)
        self.size_in = nn.Embedding((1 + max(layout.types)) * SIZES, hidden)
        self.out = nn.Linear(2 * hidden, codes)
        self.leave_context = nn.Linear(seen, hidden)
        self.leave_visit = nn.Linear(channels, hidden, bias=False)
        self.leave = nn.Linear(hidden, layout.end + 1)
        if self.memory:
            self.memory_of_type = Lookup((1 + max(layout.types)) * MEMORY)
        if self.memory == 2:
            self.memory_of_code = Lookup(codes * MEMORY)
        if self.has_pairs:  # moved by what is bought alone: no step of a training meets them
            self.together = nn.Parameter(torch.zeros(codes, codes), requires_grad=False)
            self.follow = nn.Parameter(torch.zeros(codes, codes), requires_grad=False)
        self._start()
        self.register_buffer("type_of", torch.tensor(layout.types), persistent=False)

    @torch.no_grad()
    def _start(self) -> None:
        """First weights: every code about as likely, nothing known of pairs, memory a mild help."""
        codes = self.layout.codes
        share = min(0.5, FIRST_CODES / codes)
        self.out.bias.fill_(math.log(share / (1.0 - share)))
        self.out.weight.mul_(0.3)
        self.beside.weight.normal_(std=0.3 / math.sqrt(FIRST_CODES))
        self.size_in.weight.normal_(std=0.3)
        self.visit_in.weight.normal_(std=1.0 / math.sqrt(FIRST_CODES))
        self.entry_in.weight.normal_(std=0.3)
        self.leave.weight.mul_(0.3)
        for head in self.heads():
            head.weight.mul_(0.1)
            head.bias.zero_()
        if self.memory:
            self.memory_of_type.weight.zero_().view(-1, MEMORY)[:, NEVER:].fill_(1.0)
        if self.memory == 2:
            self.memory_of_code.weight.zero_()

    @property
    def hyperparameters(self) -> dict[str, float]:
        """See `SequenceGenerator`."""
        return dict(self._settings)

    @property
    def noise_size(self) -> int:
        """One variate for each inferred dimension, and while channels are left out, one for each."""
        return max(1, self.inferred * self.has_latent) + self.drops * 2 * self.channels

    @property
    def has_pairs(self) -> bool:
        """Whether pairs of codes are bought with the shares, and have odds of their own."""
        return bool(self._settings["pairs"] and self._settings["pair_odds"] and pair_cells(self.layout))

    @property
    def has_latent(self) -> bool:
        """See `SequenceGenerator`."""
        return self.latent > 0

    def is_local(self, name: str) -> bool:
        """See `SequenceGenerator`."""
        return name.split(".", maxsplit=1)[0] in self.local_parts

    def heads(self) -> list[nn.Linear]:
        """One layer a static column: from the columns before and the latent to its states."""
        return [head for head in self.static_heads if isinstance(head, nn.Linear)]

    # ---- inference ----

    @property
    def inferred(self) -> int:
        """How many latent dimensions are inferred of a patient."""
        return self.latent

    def posterior(self, batch: RecordBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log standard deviation of what is inferred of each patient, float32 (batch, inferred).

        From the record as a bag of codes, and with `reader` from a bidirectional LSTM over its visits.
        """
        visits = batch.is_visit.sum(dim=1, keepdim=True)
        counts = torch.log1p(batch.present.sum(dim=1))
        left = ((batch.leave != self.layout.end).float() * batch.is_visit).sum(dim=1, keepdim=True)
        pace = (batch.clock[:, :, 3] * batch.is_visit).sum(dim=1, keepdim=True) / left.clamp(min=1.0)
        seen = torch.cat([counts, self.hot(batch.statics), torch.log1p(visits), pace], dim=1)
        hidden = self.see(seen)
        if self._settings["reader"]:
            hidden = hidden + self._read(batch)
        mean, log_std = self.infer(functional.gelu(hidden)).chunk(2, dim=1)
        return mean, log_std.clamp(-5.0, 2.0)

    def bound(self, batch: RecordBatch, *, noise: torch.Tensor, kept: Kept = ALL) -> Bound:
        """See `SequenceGenerator`; `kept`: without some channels of each patient."""
        inferred = self.infer_latent(batch, noise)
        context, visits = self._contexts(batch, inferred.latent, kept)
        return Bound(
            codes=self._codes_misfit(batch, context),
            leaves=self._leaves_misfit(batch, context, visits),
            statics=self._statics_misfit(batch.statics, inferred.latent),
            kl=inferred.kl,
            drawn=inferred.drawn,
        )

    def infer_latent(self, batch: RecordBatch, noise: torch.Tensor) -> Inferred:
        """A draw of each patient's latent given the record, and how far its posterior is from the prior."""
        if self.latent:
            return standard_draw(*self.posterior(batch), noise[:, : self.inferred])
        nothing = torch.zeros(len(batch), device=noise.device)
        return Inferred(latent=nothing[:, None][:, :0], kl=nothing, drawn=nothing)

    def _read(self, batch: RecordBatch) -> torch.Tensor:
        """Where the LSTM ends in both directions, (batch, 2 * channels)."""
        lengths = batch.is_visit.sum(dim=1).long()
        found: torch.Tensor = self.reader(self.visit_in(batch.present) + self.time_in(batch.clock), lengths)
        return found

    def loss_per_patient(self, batch: RecordBatch, *, progress: float, noise: torch.Tensor) -> torch.Tensor:
        """See `SequenceGenerator`. The divergence's weight rises over the first half."""
        chance = self._settings["dropout"] * self.drops
        kept = kept_of(noise[:, -2 * self.channels :], chance) if chance else ALL
        parts = self.bound(batch, noise=noise, kept=kept)
        weight = self._settings["kl_weight"] * min(1.0, 0.05 + 1.9 * progress)
        return parts.misfit + weight * parts.kl

    def hot(self, statics: torch.Tensor) -> torch.Tensor:
        """One-hot blocks of the static states, float32 (batch, width)."""
        layout = self.layout.statics
        hot = torch.zeros(len(statics), layout.width, device=statics.device)
        return hot.scatter_(1, statics + torch.tensor(layout.offsets, device=statics.device), 1.0)

    def statics_misfit(self, batch: RecordBatch, *, noise: torch.Tensor) -> torch.Tensor:
        """See `SequenceGenerator`."""
        return self._statics_misfit(batch.statics, noise[:, : self.latent])

    def _statics_misfit(self, statics: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        """Minus log probability of the static columns, each given those before, (batch,)."""
        hot, latent = self.hot(statics), latent if self.statics_follow_latent else latent[:, :0]
        misfit = torch.zeros(len(statics), device=statics.device)
        for column, (head, offset) in enumerate(zip(self.heads(), self.layout.statics.offsets, strict=True)):
            logits = head(self.static_inputs(hot, offset, latent))
            misfit = misfit + functional.cross_entropy(logits, statics[:, column], reduction="none")
        return misfit

    def static_inputs(self, hot: torch.Tensor, offset: int, latent: torch.Tensor) -> torch.Tensor:
        """What a static column is drawn from: the columns before it and the latent; 0 where neither is."""
        known = torch.cat([hot[:, :offset], latent], dim=1)
        return known if known.shape[1] else torch.zeros(len(hot), 1, device=hot.device)

    def _contexts(
        self, batch: RecordBatch, latent: torch.Tensor, kept: Kept = ALL
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What each visit is decoded from, and each visit's own vector, both (batch, visits, channels)."""
        visits, hot = self.visit_in(batch.present) * kept[0], self.hot(batch.statics)[:, None]
        inputs = self.around(batch.clock, batch.entry, hot)
        up = torch.zeros_like(inputs)
        if self.latent:
            up = self.upsample(latent, visits.shape[1]).transpose(1, 2)
            inputs = inputs + up
        if self.looks_back:
            place = torch.arange(visits.shape[1], device=visits.device).clamp(min=1)[:, None]
            before = functional.pad(visits, (0, 0, 1, 0))[:, :-1]
            inputs = inputs + before + self.mean_in(before.cumsum(dim=1) / place)
        hot = hot.expand(-1, visits.shape[1], -1)
        return self._beside(self.norm(self.stack(inputs)) * kept[1], hot, up), visits

    def _beside(self, context: torch.Tensor, hot: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """What a visit is decoded from: its context, and with `direct` the patient as such."""
        return torch.cat([context, *[hot] * self.sees_patient, *[up] * self.sees_latent], dim=-1)

    def around(self, clock: torch.Tensor, entry: torch.Tensor, hot: torch.Tensor) -> torch.Tensor:
        """What is known of visits besides codes: time, the gap before, and the patient."""
        found: torch.Tensor = self.time_in(clock) + self.entry_in(entry) + self.static_in(hot)
        return found

    def _codes_misfit(self, batch: RecordBatch, context: torch.Tensor) -> torch.Tensor:
        """Minus log probability of all codes, (batch,).

        At each step the codes between the last one and the next are decided: the ones passed over, absent,
        and the next one, present.
        """
        cells = cells_in(batch, self.layout.codes)
        hidden = self._hidden(batch, context, cells)
        logits, first = decided(self.code_logits(hidden), cells)
        if self.memory:
            odds = self._remembered_odds(batch, cells)
            logits, first = logits + odds, first + odds
        present = batch.present.flatten(0, 1).index_select(0, cells.visits)
        if self.has_pairs:
            before = functional.pad(batch.present, (0, 0, 1, 0))[:, :-1].flatten(0, 1)
            odds = before.index_select(0, cells.visits) @ self.follow
            logits, first = logits + odds + present @ self.together.triu(1), first + odds
        misfit = functional.softplus(logits * (1.0 - 2.0 * present)).sum(dim=1)
        if not self.layout.may_be_empty:  # given that the visit has a code at all
            hazard = functional.softplus(first).sum(dim=1).clamp(min=1e-6)
            misfit = misfit + torch.log(-torch.expm1(-hazard))
        return misfit.new_zeros(len(batch)).index_add(0, cells.owners, misfit)

    def _hidden(self, batch: RecordBatch, context: torch.Tensor, cells: Cells) -> torch.Tensor:
        """The hidden layer at each step: its visit's context and the codes before, (batch, steps, hidden)."""
        numbers = torch.arange(self.size_in.num_embeddings, device=context.device)
        table = self.size_in(numbers.expand(len(batch), -1)).unflatten(1, (-1, SIZES))
        starts = self.to_hidden(context).flatten(0, 1).index_select(0, cells.visits)
        starts = starts + table[:, :, 0].sum(dim=1).index_select(0, cells.owners)
        gains = functional.pad(table.diff(dim=2), (0, 0, 0, 1)).flatten(0, 2)  # of one code more of a type
        at = counted_so_far(batch, self.type_of, most=SIZES - 1)
        found = gains.index_select(0, at.flatten()).view(*at.shape, -1)
        return chained(starts, self.beside(batch.tokens) + found, cells)

    def _remembered_odds(self, batch: RecordBatch, cells: Cells) -> torch.Tensor:
        """What the memory adds to each code's log odds at each visit, (visits, codes)."""
        memory = remembered(batch, cells, self.layout.codes)
        numbers = torch.arange(self.layout.codes, device=memory.never.device)
        never = self.memory_odds(memory.never[:, None].expand(len(batch), -1, numbers.numel()), numbers)
        seen = self.memory_odds(memory.states, memory.codes).flatten().index_select(0, memory.used)
        odds = never.flatten(0, 1).index_select(0, memory.kind_of)
        return odds.flatten().index_copy(0, memory.cells, seen).view_as(odds)

    def code_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Log odds of each code. The second half is a path without a bend: log odds that add up."""
        logits: torch.Tensor = self.out(torch.cat([functional.gelu(hidden), hidden], dim=-1))
        return logits

    def memory_odds(self, states: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """What the memory adds to the log odds of `codes`, each in its state; both int64 (batch, ...)."""
        odds: torch.Tensor = self.memory_of_type(states + self.type_of[codes] * MEMORY).squeeze(-1)
        if self.memory == 2:
            odds = odds + self.memory_of_code(states + codes * MEMORY).squeeze(-1)
        return odds

    def leave_logits(self, context: torch.Tensor, visits: torch.Tensor) -> torch.Tensor:
        """Logits of the gap to the next visit and, last, of the record's end."""
        hidden = functional.gelu(self.leave_context(context) + self.leave_visit(visits))
        logits: torch.Tensor = self.leave(hidden)
        return logits

    def _leaves_misfit(self, batch: RecordBatch, context: torch.Tensor, visits: torch.Tensor) -> torch.Tensor:
        """Minus log probability of gaps and of the end, (batch,). The cap's end is certain."""
        logits = self.leave_logits(context, visits)
        misfit = functional.cross_entropy(logits.transpose(1, 2), batch.leave, reduction="none")
        is_open = torch.arange(logits.shape[1], device=logits.device) < self.layout.most_visits - 1
        return (misfit * batch.is_visit * is_open).sum(dim=1)

    # ---- what is bought ----

    def statistics(self, states: RecordStates) -> torch.Tensor:
        """See `SequenceGenerator`."""
        return share_statistics(states, self.layout, has_pairs=self.has_pairs)

    def set_shares(self, total: np.ndarray, *, noise: float) -> None:
        """See `SequenceGenerator`."""
        set_biases(self, Shares.read(total, self.layout, noise=noise, has_pairs=self.has_pairs))

    def correct_shares(
        self, total: np.ndarray, drawn: Sequence[RecordStates], *, noise: float, step: float
    ) -> None:
        """See `SequenceGenerator`."""
        own = np.sum([count_sum(part, self.layout, has_pairs=self.has_pairs) for part in drawn], axis=0)
        bought = Counts.read(total, self.layout, noise=noise, has_pairs=self.has_pairs)
        found = Counts.read(own, self.layout, noise=0.0, has_pairs=self.has_pairs)
        correct_biases(self, *Shares.compared(bought, found, self.layout), step=step)
        if self.has_pairs:
            correct_pairs(self, bought, found)

    # ---- drawing ----

    def latent_before_statics(self, count: int, rng: torch.Generator) -> torch.Tensor:
        """What static columns are drawn from, (count, any)."""
        return torch.randn(count, self.latent, generator=rng)

    def latent_after_statics(
        self,
        before: torch.Tensor,
        statics: torch.Tensor,  # noqa: ARG002
        rng: torch.Generator,  # noqa: ARG002
    ) -> torch.Tensor:
        """Each patient's latent, (count, latent), once the static columns are drawn."""
        return before

    def context_step(
        self,
        *,
        clock: torch.Tensor,
        entry: torch.Tensor,
        hot: torch.Tensor,
        up: torch.Tensor,
        before: torch.Tensor,
        mean: torch.Tensor,
        past: list[torch.Tensor],
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """One visit's context, (batch, channels), as the whole record's would be; and what layers remember.

        Args:
            clock: float32 (batch, CLOCK).
            entry: int64 (batch,).
            hot: The static states, float32 (batch, width).
            up: The upsampled latent at this visit, (batch, channels).
            before: The visit before, (batch, channels); 0 at the first.
            mean: Mean of all visits before, likewise.
            past: What the layers remember.
        """
        inputs = self.around(clock, entry, hot) + up
        if self.looks_back:
            inputs = inputs + before + self.mean_in(mean)
        h, past = self.stack.step(inputs, past)
        return self._beside(self.norm(h), hot, up), past
