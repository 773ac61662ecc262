"""EVA and EVA_c as published: a softmax over whole visits. For reproduction; nothing here is private.

Knows words (`synthkit.data.visit_vocabulary` numbers them) and the conditions of each patient. Refuses to be
a `SequenceGenerator`: a word is a patient's visit, so no noise on these weights would make its output
private. Rules: no layer looks ahead or mixes patients; word `unknown` may be read and is never written.

    EVA     z ~ N(0, I)
    EVA_c   z = H (y * sigmoid(w)) + b + e;  w ~ N(0, I), b ~ N(0, GAMMA I), e ~ N(0, TAU I), H ~ N(0, I)
    both    P(x_t | x_<t, z) = softmax(masked dilated convolutions of (deconvolutions of z)_t + x_{t-1})

Source: Biswal et al., EVA, 2020, sections 2.1, 2.2 and 3, equations 3, 5, 7 and 8, and section 7.2. What it
leaves open, and what is done here:
  - How long a record is: the last word of the softmax ends it. The published text takes lengths as given.
  - Sizes were found by random search and are not stated: see `PaperSizes`; kernel 3 and dilations 1, 2, 4
    and 8 are among the ones searched (section 7.2).
  - The visit before enters by addition to the up-sampled latent; a layer is added to what it was given, and
    LayerNorm stands before each.
  - b_n is of the latent's size (equation 5 adds it to H pi; the text says K).
  - The background condition (section 5) is the one that a patient without any other has.
  - Each of z, w and b has a bidirectional LSTM and a perceptron of its own; variances by softplus.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from synthkit.generators.sequence_layers import CausalStack, Upsampler

TAU, GAMMA = 0.1, 0.1
"""Variances of what conditions do not explain: of chance, and of a patient's own bias (section 2.2)."""

LEAST_VARIANCE = 1e-4
"""Added to every inferred variance, so that a product of experts stays finite."""


@dataclass(frozen=True, kw_only=True)
class PaperSizes:
    """Widths of the network. `conditions` counts the background; 0: EVA, else EVA_c."""

    words: int
    most_visits: int
    conditions: int = 0
    channels: int = 96
    latent: int = 32
    layers: int = 4

    def __post_init__(self) -> None:
        if min(self.words, self.most_visits, self.channels, self.latent, self.layers) < 1:
            raise ValueError("a network needs words, visits, channels, a latent and a layer")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class WordBatch:
    """Whole patients, padded to the longest.

    Attributes:
        words: int64 (batch, visits); the end's word stands after the last visit, and in padding.
        lengths: int64 (batch,), at least 1.
        conditions: float32 (batch, conditions), 1 where the patient has it.
    """

    words: torch.Tensor
    lengths: torch.Tensor
    conditions: torch.Tensor

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True, kw_only=True)
class WordBound:
    """Parts of a bound on patients' log-likelihood, in nats; each float, shape (batch,).

    `visits` is minus the log probability of the words, `ends` of where the record ends and where it does
    not, `kl` the divergence of what is inferred from its prior.
    """

    visits: torch.Tensor
    ends: torch.Tensor
    kl: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        """Minus the bound."""
        return self.visits + self.ends + self.kl


class Expert(nn.Module):
    """What is inferred of one variable: of the record, and in EVA_c of the conditions, as a product."""

    def __init__(self, sizes: PaperSizes, inferred: int) -> None:
        super().__init__()
        width = sizes.channels
        self.reader = nn.LSTM(width, width // 2 + 1, batch_first=True, bidirectional=True)
        self.of_record = nn.Linear(2 * (width // 2 + 1), 2 * inferred)
        if sizes.conditions:
            self.hidden = nn.Linear(sizes.conditions, width)
            self.of_conditions = nn.Linear(width, 2 * inferred)

    def forward(self, visits: torch.Tensor, batch: WordBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance, each (batch, inferred), from visits' vectors (batch, visits, channels)."""
        packed = nn.utils.rnn.pack_padded_sequence(
            visits, batch.lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        ends = self.reader(packed)[1][0]  # (directions, batch, width)
        mean, raw = self.of_record(torch.cat([ends[0], ends[1]], dim=1)).chunk(2, dim=1)
        variance = functional.softplus(raw) + LEAST_VARIANCE
        if not hasattr(self, "hidden"):
            return mean, variance
        hidden = functional.gelu(self.hidden(batch.conditions))
        second, raw = self.of_conditions(hidden).chunk(2, dim=1)
        other = functional.softplus(raw) + LEAST_VARIANCE
        precision = 1.0 / variance + 1.0 / other
        return (mean / variance + second / other) / precision, 1.0 / precision


class PaperEva(nn.Module):
    """See the module."""

    def __init__(self, sizes: PaperSizes) -> None:
        super().__init__()
        self.sizes = sizes
        channels = sizes.channels
        self.word_in = nn.Embedding(sizes.words + 2, channels)
        self.see = nn.Embedding(sizes.words + 2, channels)
        self.upsample = Upsampler(sizes.latent, channels, sizes.most_visits)
        self.stack = CausalStack(channels, sizes.layers)
        self.norm = nn.LayerNorm(channels)
        self.out = nn.Linear(channels, sizes.words + 2)
        self.experts = nn.ModuleDict({"z": Expert(sizes, sizes.latent)})
        if sizes.conditions:
            self.representations = nn.Linear(sizes.conditions, sizes.latent, bias=False)
            nn.init.normal_(self.representations.weight)
            self.experts["b"] = Expert(sizes, sizes.latent)
            self.experts["w"] = Expert(sizes, sizes.conditions)
        nn.init.normal_(self.word_in.weight, std=0.3)
        nn.init.normal_(self.see.weight, std=0.3)

    @property
    def unknown(self) -> int:
        """The word that stands for none."""
        return self.sizes.words

    @property
    def end(self) -> int:
        """The word after the last visit; before the first visit it stands for nothing."""
        return self.sizes.words + 1

    @property
    def noise_size(self) -> int:
        """Standard normal variates that a patient's bound takes."""
        return (
            self.sizes.latent if not self.sizes.conditions else 2 * self.sizes.latent + self.sizes.conditions
        )

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """Theta and H by name: what has a prior, and what Algorithm 1 samples; not what infers."""
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if name.split(".")[0] not in ("experts", "see")
        }

    # ---- inference ----

    def infer(self, batch: WordBatch, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A draw of each patient's latent, (batch, latent), and the divergence from the prior, (batch,)."""
        visits = self.see(batch.words[:, : int(batch.lengths.max())])
        mean, variance = self.experts["z"](visits, batch)
        latent = mean + variance.sqrt() * noise[:, : self.sizes.latent]
        if not self.sizes.conditions:
            return latent, _divergence(mean, variance, torch.zeros_like(mean), 1.0)
        sizes = [self.sizes.latent, self.sizes.latent, self.sizes.conditions]
        _, for_bias, for_strength = torch.split(noise, sizes, dim=1)
        bias_mean, bias_variance = self.experts["b"](visits, batch)
        strength_mean, strength_variance = self.experts["w"](visits, batch)
        bias = bias_mean + bias_variance.sqrt() * for_bias
        strength = strength_mean + strength_variance.sqrt() * for_strength
        kl = _divergence(mean, variance, self.centre(batch.conditions, bias, strength), TAU)
        kl = kl + _divergence(bias_mean, bias_variance, torch.zeros_like(bias), GAMMA)
        return latent, kl + _divergence(strength_mean, strength_variance, torch.zeros_like(strength), 1.0)

    def centre(self, has: torch.Tensor, bias: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
        """Mean of the latent given conditions, bias and strengths, (batch, latent): equation 5."""
        found: torch.Tensor = self.representations(has * torch.sigmoid(strength)) + bias
        return found

    def bound(self, batch: WordBatch, *, noise: torch.Tensor) -> WordBound:
        """The evidence bound's parts; `noise` is standard normal, (batch, noise_size)."""
        latent, kl = self.infer(batch, noise)
        steps = batch.words.shape[1]
        before = functional.pad(batch.words, (1, 0), value=self.end)[:, :-1]
        context = self._contexts(latent, before, steps)
        place = torch.arange(steps, device=batch.words.device)
        # The end's word counts as long as there is room for another visit; at the cap it is certain.
        is_scored = (place <= batch.lengths[:, None]) & (place < self.sizes.most_visits)
        logs = functional.log_softmax(self.out(context[is_scored]), dim=1)
        targets = batch.words[is_scored]
        chosen = logs.gather(1, targets[:, None]).squeeze(1)
        goes_on = torch.log1p(-logs[:, self.end].exp().clamp(max=1 - 1e-6))
        is_end = targets == self.end
        owners, places = is_scored.nonzero().unbind(1)
        # A record has a first visit: there is no end before it to be missed.
        ends = torch.where(is_end, -chosen, -goes_on) * (places > 0)
        words = torch.where(is_end, torch.zeros_like(chosen), goes_on - chosen)
        empty = torch.zeros(len(batch), dtype=kl.dtype, device=kl.device)
        return WordBound(
            visits=empty.index_add(0, owners, words), ends=empty.index_add(0, owners, ends), kl=kl
        )

    def _contexts(self, latent: torch.Tensor, before: torch.Tensor, steps: int) -> torch.Tensor:
        """What each word is drawn from, (batch, steps, channels)."""
        up = self.upsample(latent, min(steps, self.sizes.most_visits)).transpose(1, 2)
        up = functional.pad(up, (0, 0, 0, steps - up.shape[1]))
        context: torch.Tensor = self.norm(self.stack(up + self.word_in(before)))
        return context

    # ---- drawing ----

    def prior(self, conditions: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """A latent of each patient with these conditions, (batch, latent)."""
        noise = torch.randn(len(conditions), self.noise_size, generator=rng)
        if not self.sizes.conditions:
            return noise
        sizes = [self.sizes.latent, self.sizes.latent, self.sizes.conditions]
        chance, bias, strength = torch.split(noise, sizes, dim=1)
        return self.centre(conditions, math.sqrt(GAMMA) * bias, strength) + math.sqrt(TAU) * chance

    @torch.no_grad()
    def draw(
        self, latent: torch.Tensor, rng: torch.Generator, *, lengths: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """Words of records, one int64 vector (batch,) a visit's place: -1 where the record has ended.

        Args:
            latent: float32 (batch, latent).
            rng: Of every draw.
            lengths: int64 (batch,), at least 1: how long each record is; None: as the network ends it.
        """
        count, most = len(latent), self.sizes.most_visits
        up, alive = self.upsample(latent, most), torch.arange(count)
        past, before = self.stack.start(count), torch.full((count,), self.end)
        found = []
        for place in range(most):
            h, past = self.stack.step(up[:, :, place] + self.word_in(before), past)
            logits = self.out(self.norm(h))
            logits[:, self.unknown] = -torch.inf
            if place == 0 or lengths is not None:
                logits[:, self.end] = -torch.inf
            word = torch.multinomial(torch.softmax(logits, dim=1), 1, generator=rng).squeeze(1)
            stays = word != self.end if lengths is None else lengths[alive] > place
            # Whoever has ended leaves, so that long records do not hold up short ones.
            alive, before, up = alive[stays], word[stays], up[stays]
            past = [one[stays] for one in past]
            if not alive.numel():
                break
            found.append(torch.full((count,), -1).index_copy(0, alive, before))
        return found


def _divergence(
    mean: torch.Tensor, variance: torch.Tensor, prior: torch.Tensor, prior_variance: float
) -> torch.Tensor:
    """Of N(mean, variance) from N(prior, prior_variance), summed over dimensions, (batch,)."""
    spread = (variance + (mean - prior).square()) / prior_variance
    terms: torch.Tensor = spread - 1.0 + math.log(prior_variance) - variance.log()
    return 0.5 * terms.sum(dim=1)
