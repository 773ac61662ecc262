"""A round over records of visits at one site: which patients, which generator, which part of the training.

Knows the site's folder and the signed study. Refuses to decide whether a round may be taken: guard, replay
and ledger are the agent's (`synthkit_client.agent`), for records as for tables.
"""

from pathlib import Path

import numpy as np
import safetensors.numpy

from synthkit.data.sequence_encoding import fit_sequence_encoding
from synthkit.domain.sequence_layout import RecordStates
from synthkit.domain.study import Study
from synthkit.errors import InputError, PolicyError, SchemaError
from synthkit.federation.bought_sum import BoughtSum, taken_apart
from synthkit.federation.messages import Weights
from synthkit.generators.sequence_base import SequenceGenerator
from synthkit.training.loop import LoopState
from synthkit.training.record_rounds import buy_record_sum, start_from_sum, sum_width, take_record_steps
from synthkit.training.sequence_artefact import new_sequence_generator
from synthkit_client.site_folder import SiteFolder
from synthkit_client.storage import write_durably


def record_generator(study: Study, weights: Weights, server_round: int) -> SequenceGenerator:
    """The study's generator as a round begins with it: with the coordinator's (finite) weights.

    In the first round of steps it holds instead what the bought sum of all sites says.

    Raises:
        InputError: Weights or sum do not fit the study's architecture, or its round.
    """
    where = "train request"
    alone, bought = taken_apart(weights, where=where)
    generator = _fresh(study)
    try:
        generator.set_weights(alone)
    except ValueError as error:
        raise InputError("the weights do not fit the study's generator", where=where) from error
    if bought.total.size != sum_width(generator):
        raise InputError("the bought sum does not fit the study's generator", where=where)
    _check_noise(study, bought, server_round)
    if study.plan.begins_from_sum(server_round):
        start_from_sum(generator, bought)
    return generator


def _check_noise(study: Study, bought: BoughtSum, server_round: int) -> None:
    """The noise of a sum over one to all sites of the roster, once it was bought; none before.

    Raises:
        InputError: It is another.
    """
    plan, most = study.plan, len(study.roster)
    least = plan.prior_noise_multiplier**2
    expected = (0.0, 0.0) if plan.is_prior_round(server_round) else (0.999 * least, 1.001 * most * least)
    if not expected[0] <= bought.variance <= expected[1]:
        raise InputError("the bought sum's noise is not of this study's round", where="train request")


def record_members(folder: SiteFolder, study: Study, min_patients: int) -> RecordStates:
    """The encoded records to train on.

    Raises:
        PolicyError: Fewer patients than the policy asks for.
        SchemaError: A record does not fit the schema, or times are dates where the study says days, or days
            where it says dates.
    """
    members = folder.read_record_split(study.schema).members
    if members.patient_count < min_patients:
        raise PolicyError(
            f"fewer patients to train on than {min_patients}",
            rule="study.min_patients",
            where=f"site {folder.name}",
            fix="take no part, or join with a larger population",
        )
    hyperparameters = _fresh(study).hyperparameters
    if study.schema.time is not None and members.is_dated is not bool(hyperparameters["dated"]):
        raise SchemaError(
            "the study's times are dates, these are days, or the other way round",
            where=f"{folder.config.table}: column {study.schema.time}",
            fix="export the times as the study says (hyperparameter dated)",
        )
    return fit_sequence_encoding(study.schema, hyperparameters).encode(members)


def take_record_round(
    generator: SequenceGenerator,
    states: RecordStates,
    study: Study,
    server_round: int,
    *,
    asked: Weights,
    declared_size: int,
    memory: Path,
) -> Weights:
    """Buy the sum of shares, or take the round's steps; what the site answers. The budget has been reserved.

    Args:
        generator: As `record_generator` gives it for this round; trained in place.
        states: The members.
        study: As signed.
        server_round: Counted from 1.
        asked: The request's weights, with the sum beside them.
        declared_size: This site's public size.
        memory: Where the optimiser's moments are kept between rounds; they stay at the site.
    """
    _, bought = taken_apart(asked, where="train request")
    if study.plan.is_prior_round(server_round):
        return buy_record_sum(generator, states, study.plan).beside(generator.get_weights())
    after = take_record_steps(
        generator,
        states,
        study.plan,
        steps=study.plan.local_steps,
        declared_size=declared_size,
        state=read_state(memory),
    )
    write_state(memory, after)
    return bought.beside(generator.get_weights())


def read_state(path: Path) -> LoopState:
    """Where this site's training of a study stands; a fresh state when it has not begun."""
    if not path.is_file():
        return LoopState()
    arrays = safetensors.numpy.load_file(path)
    step = int(arrays.pop("step")[0])
    return LoopState(step=step, optimizer=arrays)


def write_state(path: Path, state: LoopState) -> None:
    """Keep it; on disk before this returns."""
    write_durably(path, safetensors.numpy.save({"step": np.array([state.step]), **state.optimizer}))


def _fresh(study: Study) -> SequenceGenerator:
    plan = study.plan
    return new_sequence_generator(plan.generator, study.schema, plan.hyperparameters, seed=study.initial_seed)
