"""What a reply has to satisfy before it counts.

Knows the study, the round and the weights that were sent out. Trusts none of what came back: name,
study, round and base must be the asked-for ones, every number finite, the update within a bound of
sanity, the signature by the key that the signed roster gives for this site. Says nothing about
poisoning: a site that trains honestly on wrong data passes all of this.
"""

import math
import re

import numpy as np

from synthkit.domain.study import Site, TrainingPlan
from synthkit.errors import InputError
from synthkit.federation.bought_sum import TOTAL, VARIANCE, BoughtSum, taken_apart
from synthkit.federation.messages import TrainReply, TrainRequest, Weights, digest_weights
from synthkit.release.signing import check_signature
from synthkit_server.aggregation import update_norm

HEAD = re.compile(r"[0-9a-f]{64}")

SLACK = 10.0
"""Factor between the largest honest update one can write down and the bound of sanity."""

LARGEST_START = 30.0
"""No number that a generator starts from is larger: log odds, and factors of log lifts."""


def sane_update_norm(plan: TrainingPlan, request: TrainRequest) -> float:
    """A generous bound on the Euclidean norm of one round's update.

    An adaptive optimiser moves each of d coordinates by about the learning rate a step; a plain one by
    at most learning_rate * C * (1 + sigma * sqrt(d)) when sums are divided by an expected batch of at
    least one. The prior's round sets means and second moments of bounded codes, at most of the order of
    sqrt(d). The bound covers each with a factor of ten to spare; it stops nonsense, not cunning. Where a
    sum was bought first, the first training round begins with the step from the base to where it says.
    """
    names = set(request.weights) - {TOTAL, VARIANCE}
    dimension = sum(request.weights[name].size for name in names)
    if plan.is_prior_round(request.server_round):
        return SLACK * math.sqrt(dimension) * max(1.0, plan.prior_noise_multiplier)
    per_step = math.sqrt(dimension) * max(1.0, plan.max_grad_norm * (1.0 + plan.noise_multiplier))
    start = LARGEST_START * math.sqrt(dimension) if plan.begins_from_sum(request.server_round) else 0.0
    return SLACK * plan.learning_rate * plan.local_steps * per_step + start


def sane_sum_norm(plan: TrainingPlan, site: Site, width: int) -> float:
    """A generous bound on the Euclidean norm of a site's bought sum of `width` numbers.

    Each patient adds a vector of norm at most 1, and the noise is about `sqrt(width)` of its multiplier.
    """
    return SLACK * (site.declared_size + plan.prior_noise_multiplier * math.sqrt(width))


def check_start(weights: Weights) -> None:
    """Check weights that a study is to start from.

    Raises:
        InputError: No array at all, another dtype than float32, or a number that is not finite.
    """
    if not weights:
        raise InputError("there are no arrays", where="initial weights", fix="write the model's weights")
    for name, array in weights.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise InputError(f"array {name} is not finite float32", where="initial weights")


def check_reply(reply: TrainReply, *, request: TrainRequest, site: Site, max_norm: float) -> None:
    """Check one reply against what was asked of this site.

    Names, shapes and dtype of the arrays were checked when they were decoded (`wire.unpack_reply`).

    Raises:
        InputError: A field is not the asked-for one, a number is not finite, or the update is too large.
        SignatureError: The signature is not by the roster's key for this site.
    """
    if reply.site != site.name:
        raise InputError("names another site than the node it came from")
    if reply.study_digest != request.study_digest:
        raise InputError("answers another study")
    if reply.server_round != request.server_round:
        raise InputError("answers another round")
    if reply.base_digest != digest_weights(request.weights):
        raise InputError("started from other weights")
    if reply.ledger_counter < 1 or not HEAD.fullmatch(reply.ledger_head):
        raise InputError("ledger counter or head is malformed")
    _check_numbers(reply.weights, request.weights, max_norm)
    check_signature(site.public_key, reply.signed_text(), reply.signature, where=f"site {site.name}")


def check_bought(reply: TrainReply, *, request: TrainRequest, plan: TrainingPlan, site: Site) -> None:
    """Check what a reply says was bought, in a study that buys a sum before its steps.

    Its round moves the sum alone: no weight. Every other round leaves the sum as it was asked with.

    Raises:
        InputError: Something moved that does not belong to the round; the sum is malformed or larger than
            this site's patients can make it; or its noise is not the plan's.
    """
    weights, bought = taken_apart(reply.weights, where="train reply")
    base, asked = taken_apart(request.weights, where="train request")
    if not plan.is_prior_round(reply.server_round):
        if not np.array_equal(bought.total, asked.total) or bought.variance != asked.variance:
            raise InputError("the bought sum was changed after its round")
        return
    if any(not np.array_equal(weights[name], base[name]) for name in base):
        raise InputError("the round that buys a sum changed a weight")
    own = BoughtSum.of_noise(bought.total, noise_multiplier=plan.prior_noise_multiplier)
    if bought.variance != own.variance:
        raise InputError("the bought sum's noise is not the plan's")
    bound = sane_sum_norm(plan, site, bought.total.size)
    if not np.linalg.norm(bought.total.astype(np.float64)) <= bound:
        raise InputError("bought sum is larger than the sanity bound")


def _check_numbers(trained: Weights, base: Weights, max_norm: float) -> None:
    if not all(np.isfinite(array).all() for array in trained.values()):
        raise InputError("weights are not finite")
    moved = {name: array for name, array in base.items() if name not in (TOTAL, VARIANCE)}
    if not update_norm(moved, trained) <= max_norm:
        raise InputError("update is larger than the sanity bound")
