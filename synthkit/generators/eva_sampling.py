"""Who is drawn: latents and static columns of patients, under conditions, in pairs, or from histories.

Knows the trained layers, and `eva_drawing`, which draws a patient's visits. Refuses to know how they are
trained. Rules: every draw takes the caller's source of chance; the same source gives the same records on any
number of cores.
"""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch

from synthkit.domain.layout import StateWeights
from synthkit.domain.sequence_layout import RecordStates
from synthkit.generators.eva_drawing import draw_visits, pooled
from synthkit.generators.eva_network import EvaNetwork
from synthkit.generators.sequence_base import batch_of

Drawn = TypeVar("Drawn")

CELLS, LEAST, SHARES = 2**20, 256, 4
"""Patients times codes drawn at once, at most; patients, at least; and into how many chunks where that lets.

Large chunks are fast, for the last, long records of a chunk are drawn almost alone; several use all cores.
"""

CANDIDATES = 20
"""Starts per kept start under conditions."""


def draw_records(
    eva: EvaNetwork,
    count: int,
    *,
    rng: torch.Generator,
    where: StateWeights | None,
    lengths: np.ndarray | None,
    history: RecordStates | None,
) -> tuple[RecordStates, float]:
    """See `SequenceGenerator.sample`. Chunks are drawn side by side, each from a source of its own."""
    if lengths is not None and (lengths.shape != (count,) or lengths.min(initial=1) < 1):
        raise ValueError("one length of at least 1 for each record")
    if history is not None and len(history) != count:
        raise ValueError("one history for each record")

    @torch.no_grad()
    def drawn(chunk: np.ndarray, source: torch.Generator) -> tuple[RecordStates, float]:
        wanted = None if lengths is None else lengths[chunk]
        past = None if history is None else history.take(chunk)
        if past is not None:
            states = batch_of(past, eva.layout, np.arange(chunk.size))
            noise = torch.randn(chunk.size, eva.noise_size, generator=source)
            latent, statics, share = eva.infer_latent(states, noise).latent, states.statics, 1.0
        else:
            before, statics, share = _starts(eva, chunk.size, source, where or {})
            latent = eva.latent_after_statics(before, statics, source)
        return draw_visits(eva, latent, statics, rng=source, lengths=wanted, history=past), share

    parts, reliable = zip(*in_chunks(drawn, count, eva.layout.codes, rng), strict=True)
    return pooled(list(parts)), float(np.mean(reliable))


def draw_pairs(
    eva: EvaNetwork, count: int, *, rng: torch.Generator, where: StateWeights, instead: StateWeights
) -> tuple[RecordStates, RecordStates, float]:
    """Records, and the same patients' under other conditions: equal latent noise, other static states.

    Static columns outside `instead` stay as they were, and so does the first day. Both records of a pair
    are drawn from equal sources of chance, which part ways with the first draw that comes out otherwise.

    Args:
        eva: What draws.
        count: Of pairs.
        rng: Of every draw.
        where: What the first of each pair meets: allowed shares of static states, by column.
        instead: What the second meets.

    Returns:
        First and second records in the same order, and how reliable the conditional draw is, in (0, 1].
    """

    @torch.no_grad()
    def drawn(chunk: np.ndarray, source: torch.Generator) -> tuple[RecordStates, RecordStates, float]:
        before, statics, share = _starts(eva, chunk.size, source, where)
        others = _with_columns_redrawn(eva, before, statics, source, instead)
        seed = int(torch.randint(2**62, (1,), generator=source))
        records = []
        for some in (statics, others):
            same = torch.Generator().manual_seed(seed)
            latent = eva.latent_after_statics(before, some, same)
            records.append(draw_visits(eva, latent, some, rng=same))
        return records[0], records[1], share

    first, second, shares = zip(*in_chunks(drawn, count, eva.layout.codes, rng), strict=True)
    return pooled(list(first)), pooled(list(second)), float(np.mean(shares))


def in_chunks(
    draw: Callable[[np.ndarray, torch.Generator], Drawn], count: int, codes: int, rng: torch.Generator
) -> list[Drawn]:
    """What `draw` makes of each chunk of patients, in order; on all cores, with the same result on any.

    One thread a chunk: their tensors are too small to be worth splitting, and a sum that is split
    differently on other machines could round differently.
    """
    size = max(LEAST, min(CELLS // codes, -(-count // SHARES)))
    starts = range(0, max(1, count), size)
    seeds = torch.randint(2**62, (len(starts),), generator=rng).tolist()
    cores = torch.get_num_threads()

    def one(start: int, seed: int) -> Drawn:
        torch.set_num_threads(1)
        chunk = np.arange(start, min(start + size, count))
        return draw(chunk, torch.Generator().manual_seed(seed))

    try:
        with ThreadPoolExecutor(max_workers=min(cores, len(starts))) as threads:
            return list(threads.map(one, starts, seeds))
    finally:
        torch.set_num_threads(cores)


def _starts(
    eva: EvaNetwork, count: int, rng: torch.Generator, where: StateWeights
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """What latents are made of, static states, and the share of effective draws among them.

    Under conditions a start counts with the allowed mass met on its way (importance resampling).
    """
    size = count * CANDIDATES if where else count
    before = eva.latent_before_statics(size, rng)
    statics = torch.zeros(size, len(eva.layout.statics.states), dtype=torch.int64)
    met = _draw_columns(eva, before, statics, rng, where=where, columns=range(statics.shape[1]))
    if not where:
        return before, statics, 1.0
    weights = torch.softmax(met, dim=0)
    kept = torch.multinomial(weights, count, replacement=True, generator=rng)
    effective = float(1.0 / weights.square().sum())
    return before[kept], statics[kept], max(1e-12, min(1.0, effective / count))


def _with_columns_redrawn(
    eva: EvaNetwork, before: torch.Tensor, statics: torch.Tensor, rng: torch.Generator, where: StateWeights
) -> torch.Tensor:
    """The same static states, but for the columns of `where`: those are drawn again, within it."""
    others = statics.clone()
    _draw_columns(eva, before, others, rng, where=where, columns=where)
    return others


def _draw_columns(
    eva: EvaNetwork,
    before: torch.Tensor,
    statics: torch.Tensor,
    rng: torch.Generator,
    *,
    where: StateWeights,
    columns: Collection[int],
) -> torch.Tensor:
    """Draw the named columns of `statics` in place, each given those before it.

    Returns:
        Log of the allowed mass that each patient met on the way, float64 (patients,).
    """
    rows = torch.arange(len(statics))
    met = torch.zeros(len(statics), dtype=torch.float64)
    hot = torch.zeros(len(statics), eva.layout.statics.width)
    for column, (head, offset) in enumerate(zip(eva.heads(), eva.layout.statics.offsets, strict=True)):
        if column in columns:
            mass = torch.softmax(head(eva.static_inputs(hot, offset, before)).double(), dim=1)
            if column in where:
                allowed = torch.from_numpy(where[column]).to(mass)
                met += (mass * allowed).sum(dim=1).clamp(min=1e-300).log()
                # A mass below the smallest float must not let a state through that is not allowed.
                mass = mass * allowed + 1e-300 * allowed
            statics[:, column] = torch.multinomial(mass, 1, generator=rng).squeeze(1)
        hot[rows, offset + statics[:, column]] = 1.0
    return met
