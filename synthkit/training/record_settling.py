"""Settling: a generator's biases, and odds of pairs, are moved until its records say what was bought.

Knows a generator, the sum that it started from (noised, but without privacy), and records that the generator
draws. Refuses to know a patient: no record is an argument, so nothing here costs budget. Rules: what is
drawn is counted as patients were, caps included, so that what the caps bend is bent on both sides; steps
shorten, for drawn records are a sample; nothing moves but the biases and the pairs that the sum speaks of.

Steps, noised ones above all, leave lengths, repetition and codes a visit off, each by little at a visit;
visit by visit the errors add up. The sum holds the very figures: after the steps they hold still.

Source: moments of a model matched to released ones, as in Boltzmann learning (Ackley, Hinton and Sejnowski,
Cognitive Science 1985, equation 5), here one bias, or one pair's odds, for each statistic.
"""

import numpy as np
import torch

from synthkit.domain.sequence_layout import RecordStates
from synthkit.generators.sequence_base import SequenceGenerator

ROUNDS, PAIR_ROUNDS = 6, 14
"""Corrections, without pairs and with them, which are moved by less at a time; on simulated patients the last
ones of biases move figures by less than two draws differ."""

FEWEST_VISITS, MOST_VISITS, MOST_CELLS = 300, 20_000, 20_000_000
"""Visits that are drawn for a correction: two for each patient of the site's public size, within these, and
by the length of the code list no more than so many cells."""

RECORDS_AT_ONCE = 2_500
"""Records drawn at a time, at most."""

FIRST_STEP = 0.8
"""Share of a difference that the first correction takes back; the nth takes this by (n + 1) / 2."""


def visits_for(generator: SequenceGenerator, declared_size: int) -> int:
    """How many visits a site of this public size draws for a correction: few patients tell little."""
    return int(
        np.clip(min(2 * declared_size, MOST_CELLS // generator.layout.codes), FEWEST_VISITS, MOST_VISITS)
    )


def settle(
    generator: SequenceGenerator,
    total: np.ndarray,
    *,
    noise: float,
    rng: torch.Generator,
    rounds: int | None = None,
    visits: int = MOST_VISITS,
) -> None:
    """Correct what was bought, in place; post-processing.

    Args:
        generator: Trained; on the processor that draws.
        total: The sum of `statistics` that it started from, float64 (k,), as bought.
        noise: Standard deviation of the noise of each number.
        rng: Of the records that are drawn.
        rounds: How many corrections; None: as many as settle what was bought.
        visits: How many visits are drawn for each, at least.
    """
    generator.eval()
    if rounds is None:
        rounds = PAIR_ROUNDS if generator.has_pairs else ROUNDS
    for done in range(rounds):
        drawn = _drawn(generator, visits, rng)
        generator.correct_shares(total, drawn, noise=noise, step=2.0 * FIRST_STEP / (done + 2.0))


@torch.no_grad()
def _drawn(generator: SequenceGenerator, visits: int, rng: torch.Generator) -> list[RecordStates]:
    """Records, drawn until there are so many visits."""
    parts: list[RecordStates] = []
    some = max(1, min(RECORDS_AT_ONCE, visits // 8))
    while sum(part.gap_days.size for part in parts) < visits:
        parts.append(generator.sample(some, rng=rng)[0])
    return parts
