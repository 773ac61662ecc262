"""The noise of a step: sigma * C in every coordinate, fresh each time, out of every seed's reach."""

import multiprocessing
import random

import numpy as np
import pytest
import torch
from dpsgd_bench import Bench

from synthkit.privacy import rng

EMPTY = np.zeros(0, dtype=np.int64)
SIGMA, CLIP = 1.7, 0.6


def draws(bench, count, sample=EMPTY, loss=None):
    return np.stack([bench.released(sample, loss) for _ in range(count)])


@pytest.fixture(scope="module")
def noise():
    """2,500 releases of an empty Poisson sample: noise and nothing else."""
    return draws(Bench(noise_multiplier=SIGMA, clip=CLIP), 2500)


def test_every_block_of_coordinates_gets_sigma_times_c(noise):
    """The smallest block has 8 coordinates: 20,000 draws, standard error 0.5 %, so 3 % is six of them.

    False alarm, over about 20 blocks: below 1e-7.
    """
    start = 0
    for size in Bench().blocks():
        block = noise[:, start : start + size]
        start += size
        assert block.size >= 20_000
        assert abs(block.std() / (SIGMA * CLIP) - 1) < 0.03
        assert abs(block.mean()) < 6 * SIGMA * CLIP / np.sqrt(block.size)
    assert start == noise.shape[1]


def test_each_single_coordinate_is_noised(noise):
    """Per coordinate, 2,500 draws: standard error of the std 1.4 %; 12 % is over eight of them.

    False alarm over all coordinates: below 1e-12.
    """
    assert np.abs(noise.std(axis=0) / (SIGMA * CLIP) - 1).max() < 0.12


def test_noise_is_normal(noise):
    """Moments of several million draws, bounds of at least six standard errors: false alarm below 1e-8."""
    unit = noise.ravel() / (SIGMA * CLIP)
    size = unit.size
    assert abs((unit**3).mean()) < 6 * np.sqrt(15 / size)
    assert abs((unit**4).mean() - 3) < 6 * np.sqrt(96 / size)
    assert abs((np.abs(unit) > 4).mean() - 6.334e-5) < 6 * np.sqrt(6.334e-5 / size)
    assert np.abs(unit).max() < 8.6


def test_noise_of_zero_gradients_has_the_same_width():
    """Patients whose gradient is zero: 100 releases, the whole vector, six standard errors.

    False alarm: below 2e-9.
    """
    bench = Bench(noise_multiplier=SIGMA, clip=CLIP)
    released = draws(bench, 100, bench.everyone, lambda sample: bench.loss(sample) * 0.0)
    assert abs(released.std() / (SIGMA * CLIP) - 1) < 6 / np.sqrt(2 * released.size)


def test_steps_and_coordinates_are_independent(noise):
    """Correlations at lag 1 over steps, over coordinates, and between the halves that one Box-Muller
    pair feeds. Bounds of six standard errors: false alarm below 1e-8 in all.
    """
    unit = noise / (SIGMA * CLIP)
    limit = 6 / np.sqrt(unit.size / 2)
    assert abs((unit[1:] * unit[:-1]).mean()) < limit
    assert abs((unit[:, 1:] * unit[:, :-1]).mean()) < limit
    plain = rng.normal(400_000, std=1.0)
    first, second = plain[:200_000], plain[200_000:]
    assert abs((first * second).mean()) < 6 / np.sqrt(200_000)
    assert abs(((first**2 - 1) * (second**2 - 1)).mean()) < 6 * 2 / np.sqrt(200_000)


def test_noise_is_added_once_however_many_chunks_there_are():
    """Five physical batches of zero gradients, against sqrt(5) times the noise if it came per batch.

    Six standard errors; false alarm below 2e-9.
    """
    bench = Bench(40, noise_multiplier=SIGMA, clip=CLIP, physical_batch=8)
    released = draws(bench, 50, bench.everyone, lambda sample: bench.loss(sample) * 0.0)
    assert abs(released.std() / (SIGMA * CLIP) - 1) < 6 / np.sqrt(2 * released.size)


def seed_everything():
    random.seed(11)
    np.random.seed(11)
    torch.manual_seed(11)


def test_no_seed_reaches_noise_or_sampling():
    """Equal by chance: two draws of 53 bits, a hundred times over. False alarm below 1e-1000."""
    seen = []
    for _ in range(2):
        seed_everything()
        bench = Bench(40)
        seed_everything()
        seen.append((bench.released(EMPTY), rng.poisson_sample(400, sample_rate=0.5), rng.uniform(100)))
    assert not np.any(seen[0][0] == seen[1][0])
    assert not np.array_equal(seen[0][1], seen[1][1])
    assert not np.any(seen[0][2] == seen[1][2])


def release_in_child(queue):
    seed_everything()
    queue.put((Bench(5).released(EMPTY)[:200], rng.poisson_sample(400, sample_rate=0.5)))


def test_two_processes_that_share_every_state_share_no_noise():
    """Children forked from one parent have equal copies of all its state, and the same seeds are set."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=release_in_child, args=(queue,)) for _ in range(2)]
    for child in children:
        child.start()
    (one, first), (other, second) = (queue.get(timeout=60) for _ in children)
    for child in children:
        child.join(60)
    assert not np.any(one == other)
    assert not np.array_equal(first, second)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.45  # six standard errors of 200 draws
