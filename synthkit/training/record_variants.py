"""Records of one patient in several ways: continued from a history, or under other conditions.

Knows a model of records. Refuses to train, and to let anything leave: a continued history is as private as
the patients it is of, and no audit judges pairs. Rules: the same seed gives the same records from the same
model; a history comes out as it went in; conditions on static columns are honoured exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from synthkit.data.continued import ContinuedSequences
from synthkit.data.sequence_encoding import SequenceEncoding
from synthkit.data.sequences import PatientSequences, SyntheticSequences
from synthkit.domain.conditions import Condition
from synthkit.errors import InputError, SchemaError
from synthkit.generators.eva import Eva
from synthkit.training.posterior import draw_patients, in_order, in_turn
from synthkit.training.sequence_artefact import SequenceModel


@dataclass(frozen=True, kw_only=True)
class RecordPairs:
    """Patient i of both is one patient: the same latent noise, and the same static columns but for those
    that `counterfactual`'s conditions name. `reliability` in (0, 1] is that of the first ones' draw.
    """

    factual: SyntheticSequences
    counterfactual: SyntheticSequences
    reliability: float


def continue_records(
    model: SequenceModel, history: PatientSequences | SyntheticSequences, *, seed: int
) -> ContinuedSequences:
    """Records that begin with the given ones and go on as the model draws; in the same order.

    Args:
        model: What draws.
        history: Beginnings, within the model's caps.
        seed: Of every draw.

    Raises:
        SchemaError: The records have another code list, or times of another kind, than the model's.
        InputError: The model cannot continue records.
    """
    encoding = model.encoding
    _check_history(encoding, history)
    past = encoding.in_order(history)
    rng = torch.Generator().manual_seed(seed)
    states, _ = draw_patients(_eva(model), model.samples, len(past), rng=rng, history=past)
    return ContinuedSequences.join(history, encoding.decode(states, np.random.default_rng(seed)))


def pairs_of_records(
    model: SequenceModel,
    count: int,
    *,
    seed: int,
    conditions: Sequence[Condition],
    instead: Sequence[Condition],
) -> RecordPairs:
    """Patients who meet `conditions`, and the same ones as if they met `instead`.

    Args:
        model: What draws.
        count: How many pairs.
        seed: Of every draw.
        conditions: What the first of each pair meets; may be none.
        instead: What the second meets.

    Raises:
        InputError: `count` is below 1, `instead` says nothing, or the model cannot draw pairs.
        ConditionError: No value satisfies the conditions.
        SchemaError: A condition names the code column.

    Source: Biswal et al., "EVA", 2020, section 2.2: a latent made of conditions.
    """
    if count < 1:
        raise InputError("the number of patients must be at least 1", where="option -n")
    if not instead:
        raise InputError("says no condition", where="option --instead", fix='for example "sex = F"')
    encoding = model.encoding
    eva, rng = _eva(model), torch.Generator().manual_seed(seed)
    where, other = encoding.restrict(conditions), encoding.restrict(instead)
    drawn, rows = [], []
    for some in in_turn(eva, model.samples, count, rng):
        drawn.append(eva.sample_pairs(some.size, rng=rng, where=where, instead=other))
        rows.append(some)
    first = in_order([pair[0] for pair in drawn], rows)
    second = in_order([pair[1] for pair in drawn], rows)
    reliability = sum(pair[2] * some.size for pair, some in zip(drawn, rows, strict=True)) / count
    factual = encoding.decode(first, np.random.default_rng(seed), conditions)
    twins = encoding.decode(second, np.random.default_rng(seed), instead)
    named = {condition.column for condition in instead}
    kept = {name: factual.statics[name] for name in factual.statics.columns if name not in named}
    # Equal states are not enough: a value is drawn within its state.
    twins = replace(twins, statics=twins.statics.assign(**kept))
    return RecordPairs(factual=factual, counterfactual=twins, reliability=reliability)


def _eva(model: SequenceModel) -> Eva:
    if not isinstance(model.generator, Eva):
        raise InputError(f"a model {model.generator.kind} only draws new records", where="the model")
    return model.generator


def _check_history(encoding: SequenceEncoding, history: PatientSequences | SyntheticSequences) -> None:
    if history.schema.code.categories != encoding.schema.code.categories:
        raise SchemaError("the records have another code list", fix="read them by the model's schema")
    calendar = encoding.layout.calendar
    if calendar.is_timed and calendar.is_dated is not history.is_dated:
        wanted = "dates" if calendar.is_dated else "whole days"
        raise SchemaError(f"the model was trained on {wanted}", where="the time column", fix=f"give {wanted}")
