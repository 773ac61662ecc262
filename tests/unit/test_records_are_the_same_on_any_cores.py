"""The same source of chance draws the same records, however many cores draw them."""

import numpy as np
import torch
from record_ward import SMALL, encoding_of, simulated

from synthkit.generators.eva import Eva
from synthkit.generators.eva_sampling import LEAST


def test_one_core_and_two_draw_the_same_records():
    encoding = encoding_of(simulated(20))
    torch.manual_seed(0)
    generator = Eva(encoding.layout, SMALL).eval()
    cores = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 1):
            torch.set_num_threads(count)
            states, _ = generator.sample(3 * LEAST, rng=torch.Generator().manual_seed(8))
            found.append(states)
    finally:
        torch.set_num_threads(cores)
    other, _ = generator.sample(3 * LEAST, rng=torch.Generator().manual_seed(9))
    for states in found[1:]:
        for name, value in vars(states).items():
            np.testing.assert_array_equal(value, getattr(found[0], name))
    assert found[0].codes.tolist() != other.codes.tolist()
