"""Posterior samples of a record model's weights: in its folder, and in what is drawn from it.

Knows named arrays and a generator. Refuses to know how the samples came about. Rules: a sample holds theta
and H alone, never the inference networks, which nothing is drawn from; each patient is drawn from one
sample, chosen by the caller's source of chance; the generator leaves with the weights that it came with.

Source: Biswal et al., EVA, 2020, section 2.1 and equation 4 (generation under the posterior of theta).
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from synthkit.domain.layout import StateWeights
from synthkit.domain.sequence_layout import RecordStates
from synthkit.generators.eva_drawing import pooled
from synthkit.generators.sequence_base import SequenceGenerator
from synthkit.training.weight_trail import PosteriorSample

PREFIX = "posterior/"
"""Before the number and the name of a sample's array."""


def packed(weights: Mapping[str, np.ndarray], samples: Sequence[PosteriorSample]) -> dict[str, np.ndarray]:
    """A generator's arrays and its samples' side by side."""
    arrays = dict(weights)
    for number, sample in enumerate(samples):
        arrays |= {f"{PREFIX}{number}/{name}": value for name, value in sample.weights.items()}
    return arrays


def unpacked(
    arrays: Mapping[str, np.ndarray], steps: Sequence[int], generator: SequenceGenerator
) -> tuple[dict[str, np.ndarray], tuple[PosteriorSample, ...]]:
    """Inverse of `packed`, for a generator of the same architecture.

    Raises:
        ValueError: Not as many samples as steps, or their names or shapes are not the generator's.
    """
    own = {name: p.shape for name, p in generator.named_parameters() if not generator.is_local(name)}
    found: list[dict[str, np.ndarray]] = [{} for _ in steps]
    for name in arrays:
        if name.startswith(PREFIX):
            number, parameter = name.removeprefix(PREFIX).split("/", 1)
            found[_place(number, len(found))][parameter] = arrays[name]
    for weights in found:
        if {name: w.shape for name, w in weights.items()} != own:
            raise ValueError("a posterior sample does not fit this generator's architecture")
    plain = {name: w for name, w in arrays.items() if not name.startswith(PREFIX)}
    pairs = zip(steps, found, strict=True)
    return plain, tuple(PosteriorSample(step=int(step), weights=weights) for step, weights in pairs)


def _place(number: str, count: int) -> int:
    if not number.isdecimal() or int(number) >= count:
        raise ValueError("a posterior sample that the header does not name")
    return int(number)


def in_turn(
    generator: SequenceGenerator, samples: Sequence[PosteriorSample], count: int, rng: torch.Generator
) -> Iterator[np.ndarray]:
    """The patients of each sample, ascending int64, while the generator has its weights.

    Without any sample, all patients at once, with the weights as they are.
    """
    if not samples:
        yield np.arange(count)
        return
    choice = torch.randint(len(samples), (count,), generator=rng).numpy()
    own = generator.get_weights()
    try:
        for number in np.unique(choice):
            generator.set_weights({**own, **samples[number].weights})
            yield np.flatnonzero(choice == number)
    finally:
        generator.set_weights(own)


def draw_patients(
    generator: SequenceGenerator,
    samples: Sequence[PosteriorSample],
    count: int,
    *,
    rng: torch.Generator,
    where: StateWeights | None = None,
    lengths: np.ndarray | None = None,
    history: RecordStates | None = None,
) -> tuple[RecordStates, float]:
    """`SequenceGenerator.sample`, each patient from one sample; without any, from the weights as they are."""
    parts, rows, reliable = [], [], 0.0
    for some in in_turn(generator, samples, count, rng):
        states, share = generator.sample(
            some.size,
            rng=rng,
            where=where,
            lengths=None if lengths is None else lengths[some],
            history=None if history is None else history.take(some),
        )
        parts.append(states)
        rows.append(some)
        reliable += share * some.size / count
    return in_order(parts, rows), reliable


def in_order(parts: list[RecordStates], rows: Sequence[np.ndarray]) -> RecordStates:
    """Patients that were drawn part by part, in the order of their numbers."""
    return pooled(parts).take(np.argsort(np.concatenate(rows)))
