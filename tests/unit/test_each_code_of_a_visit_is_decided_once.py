"""The loss of a record's codes, and its gradients, are those of the definition, worked out code by code."""

import math

import numpy as np
import pytest
import torch
from memory_by_hand import states_before
from record_ward import SMALL, encoding_of, records_of, tiny_schema
from torch.nn import functional

from synthkit.generators.eva import Eva
from synthkit.generators.eva_network import SIZES
from synthkit.generators.sequence_base import batch_of
from synthkit.generators.sequence_layers import MEMORY, NEVER, RECENCY, SHARES

CODES = 36
"""Two types of 18 codes: a full visit has more of a type than are told apart."""

SETTINGS = {**SMALL, "channels": 6, "hidden": 5, "latent": 2, "most_codes": 40, "dated": 0}
ALL = list(range(CODES))


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def octave(value, states):
    return min(states - 1, math.ceil(math.log2(value)))


def state_of_memory(visits, code):
    """As `memory_states` documents it, from the visits before."""
    had = [place for place, visit in enumerate(visits) if code in visit]
    if not had:
        return octave(len(visits) + 1, NEVER)
    share = len(had) / len(visits)
    level = sum(share > bound for bound in (0.15, 0.35, 0.6, 0.85))
    return NEVER + octave(len(visits) - had[-1], RECENCY) * SHARES + level


def log_odds(generator, context, sofar, visits):
    """Of each code, given the visit's context, the codes it has so far and the visits before it."""
    types = generator.layout.types
    hidden = generator.to_hidden(context) + generator.beside.weight[list(sofar)].sum(dim=0)
    for kind in range(1 + max(types)):
        count = sum(types[code] == kind for code in sofar)
        hidden = hidden + generator.size_in.weight[kind * SIZES + min(count, SIZES - 1)]
    logits = generator.out(torch.cat([functional.gelu(hidden), hidden]))
    if generator.memory:
        states = [state_of_memory(visits, code) for code in range(CODES)]
        logits = (
            logits
            + generator.memory_of_type.weight[
                [types[code] * MEMORY + state for code, state in enumerate(states)], 0
            ]
        )
        if generator.memory == 2:
            logits = (
                logits
                + generator.memory_of_code.weight[
                    [code * MEMORY + state for code, state in enumerate(states)], 0
                ]
            )
    return logits


def by_definition(generator, contexts, visits):
    """Minus log probability of one patient's codes: a coin for each code of each visit, in order."""
    misfit = torch.zeros(())
    for place, visit in enumerate(visits):
        sofar = []
        logits = log_odds(generator, contexts[place], sofar, visits[:place])
        if not generator.layout.may_be_empty:
            misfit = misfit + torch.log(1.0 - torch.sigmoid(-logits).prod())
        for code in range(CODES):
            misfit = misfit - functional.logsigmoid(logits[code] if code in visit else -logits[code])
            if code in visit:
                sofar.append(code)
                logits = log_odds(generator, contexts[place], sofar, visits[:place])
    return misfit


def random_records(rng, *, missing):
    """Few and many visits; codes that come back; the longest visit there can be, and empty ones."""
    patients = [[[0]], [ALL, [], ALL[1:]] if missing else [ALL, [35], ALL[1:]], [[3]] * 20]
    for _ in range(5):
        own = rng.choice(CODES, size=rng.integers(1, 9), replace=False)
        visits = []
        for _ in range(int(rng.integers(1, 8))):
            some = {*own[rng.random(own.size) < 0.6], *np.flatnonzero(rng.random(CODES) < rng.random() * 0.4)}
            visits.append(sorted(int(code) for code in some) or ([] if missing else [int(own[0])]))
        patients.append(visits)
    return patients


def built(memory, *, missing, seed):
    schema = tiny_schema(CODES, missing=missing)
    patients = random_records(np.random.default_rng(seed), missing=missing)
    records = records_of(patients, schema)
    settings = {**SETTINGS, "memory": memory}
    encoding = encoding_of(records, settings)
    torch.manual_seed(seed)
    generator = Eva(encoding.layout, settings)
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return (
        generator,
        batch_of(encoding.in_order(records), encoding.layout, np.arange(len(patients))),
        patients,
    )


@pytest.mark.parametrize("memory", [0, 1, 2])
@pytest.mark.parametrize("missing", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_codes_misfit_and_its_gradients_are_those_of_the_definition(memory, missing, seed):
    generator, batch, patients = built(memory, missing=missing, seed=seed)
    assert generator.layout.may_be_empty is missing
    width = generator.to_hidden.in_features
    contexts = torch.randn(*batch.is_visit.shape, width, generator=torch.Generator().manual_seed(seed))
    contexts.requires_grad_()
    found = generator._codes_misfit(batch, contexts)
    expected = torch.stack(
        [by_definition(generator, contexts[row], visits) for row, visits in enumerate(patients)]
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    leaves = [contexts, *generator.parameters()]
    weights = torch.randn(len(patients), generator=torch.Generator().manual_seed(9))
    one, other = (
        torch.autograd.grad(misfit @ weights, leaves, allow_unused=True) for misfit in (found, expected)
    )
    met = [(a, b) for a, b in zip(one, other, strict=True) if b is not None]
    assert len(met) == 6 + 1 + memory  # both of `to_hidden` and `out`, `beside`, `size_in`; the contexts
    for a, b in met:
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


def test_states_of_memory_are_as_documented():
    _, batch, patients = built(2, missing=True, seed=4)
    found = states_before(batch.present.float())
    for row, visits in enumerate(patients):
        for place in range(len(visits)):
            expected = [state_of_memory(visits[:place], code) for code in range(CODES)]
            assert found[row, place].tolist() == expected
