"""A small claim to audit: a schema of a few states, a narrow generator, few steps."""

from small_ward import make_plan

from synthkit.audit.component_runs import Effort
from synthkit.domain.schema import Column, Kind, Schema

SHORT = Effort(
    quiet_steps=100,
    loud_steps=18,
    other_steps=4,
    sparse_steps=40,
    plain_steps=4,
    quiet_batch=96,
    loud_batch=192,
)
"""Enough for every fault of the catalogue; a privacy officer's run is longer."""

CLINIC = Schema(
    name="clinic",
    columns=(
        Column(name="sex", kind=Kind.BINARY, categories=("Female", "Male")),
        Column(name="stage", kind=Kind.ORDINAL, categories=("I", "II", "III"), missing=True),
        Column(name="visits", kind=Kind.INTEGER, minimum=0, maximum=9),
    ),
)
LAYERS = {"hidden_1": 12, "hidden_2": 10, "hidden_3": 8, "latent": 6}


def claimed(**changes):
    """A plan whose every figure differs from 1, so that none can stand for another."""
    fields = {"sample_rate": 0.25, "noise_multiplier": 1.3, "max_grad_norm": 0.7, "learning_rate": 0.02}
    fields["local_steps"] = SHORT.quiet_steps
    return make_plan(hyperparameters=LAYERS, **{**fields, **changes})
