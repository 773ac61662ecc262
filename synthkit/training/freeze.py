"""Freezing an encoder: which parameters it is, where a frozen one may come from, and that it is that one.

Knows generators and plans. Refuses to know files, rows or the ledger. Rules:
  - what is frozen is the whole map from a patient to a code, random features included
  - a public encoder has the digest that the (signed, reserved) plan names; random features are exactly
    those that everybody computes from the plan; an encoder under "dp" is whatever the charged steps left
  - nothing here learns from patients: an encoder fitted to them without DP moves every patient's code, and
    clipping the decoder's gradients bounds nothing (Med-VAE, section 3, and DP2-VAE claim otherwise; see
    tests/statistical/test_retraining_audit_of_a_frozen_encoder.py)
"""

import copy
from dataclasses import replace

from synthkit.domain.study import TrainingPlan
from synthkit.errors import InputError
from synthkit.federation.messages import Weights, digest_weights
from synthkit.generators.base import Generator
from synthkit.generators.medvae_sgd import MedVaeSgd


def encoder_of(generator: Generator) -> Weights:
    """The encoder's arrays by parameter name; empty if the generator has none."""
    return {name: array for name, array in generator.get_weights().items() if _is_encoder(generator, name)}


def encoder_digest(generator: Generator) -> str:
    """SHA-256 of the encoder's names, shapes and bytes; empty if the generator has none."""
    encoder = encoder_of(generator)
    return digest_weights(encoder) if encoder else ""


def place_encoder(generator: Generator, plan: TrainingPlan, encoder: Weights | None = None) -> None:
    """Put the encoder that the plan freezes into fresh initial weights; nothing for "trained" and "dp".

    Args:
        generator: Changed in place.
        plan: Says which encoder.
        encoder: The public one's arrays, as of `encoder_of`.

    Raises:
        InputError: The generator has no encoder, or the public one is missing or not the plan's.
    """
    check_has_encoder(generator, plan)
    if plan.encoder == "random" and isinstance(generator, MedVaeSgd):
        generator.forget_encoder()
    if plan.encoder == "public":
        if encoder is None:
            raise InputError("the public encoder is missing", where="the plan's encoder", fix="give it")
        own = encoder_of(generator)
        if {name: array.shape for name, array in own.items()} != {n: a.shape for n, a in encoder.items()}:
            raise InputError(
                "the public encoder has another architecture",
                where="the plan's encoder",
                fix="use its hyperparameters",
            )
        generator.set_weights({**generator.get_weights(), **encoder})
    check_encoder(generator, plan)


def freeze(generator: Generator, plan: TrainingPlan) -> None:
    """Keep the encoder out of the training; before the loop builds its step. Nothing for "trained".

    Raises:
        InputError: The generator has no encoder, or it is not the plan's.
    """
    check_has_encoder(generator, plan)
    if plan.encoder == "trained":
        return
    check_encoder(generator, plan)
    for name, parameter in generator.named_parameters():
        if _is_encoder(generator, name):
            parameter.requires_grad = False


def check_encoder(generator: Generator, plan: TrainingPlan) -> None:
    """Refuse weights whose encoder is not the one that the plan freezes.

    Raises:
        InputError: It is another one.
    """
    if plan.encoder in ("public", "random") and encoder_digest(generator) != _expected(generator, plan):
        raise InputError(
            "the encoder's weights are not those that the plan freezes",
            where="the plan's encoder",
            fix="start from the weights that the plan names",
        )


def check_has_encoder(generator: Generator, plan: TrainingPlan) -> None:
    """Refuse a plan that freezes what its generator does not have.

    Raises:
        InputError: The generator has no encoder.
    """
    if plan.encoder != "trained" and not encoder_of(generator):
        raise InputError(
            f"{generator.kind} has no encoder to freeze", where="the plan's encoder", fix="use medvae-sgd"
        )


def encoder_plan(plan: TrainingPlan) -> TrainingPlan:
    """The training that makes the encoder of a plan with encoder "dp": all weights, its own noise."""
    return replace(
        plan,
        rounds=1,
        local_steps=plan.encoder_steps,
        noise_multiplier=plan.encoder_noise_multiplier,
        encoder="trained",
        encoder_steps=0,
        encoder_noise_multiplier=0.0,
    )


def _expected(generator: Generator, plan: TrainingPlan) -> str:
    if plan.encoder == "public":
        return plan.encoder_digest
    if not isinstance(generator, MedVaeSgd):
        raise RuntimeError("no random features are known for this generator")
    features = copy.deepcopy(generator)
    features.forget_encoder()
    return encoder_digest(features)


def _is_encoder(generator: Generator, name: str) -> bool:
    return name.split(".", maxsplit=1)[0] in generator.encoder_parts
