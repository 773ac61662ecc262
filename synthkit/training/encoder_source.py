"""Where a frozen encoder comes from, and the plan that goes with it: public, random, or trained with DP.

Knows model folders, public figures and the asset's ledger. Refuses to know rows. What "public" means (no
patient of this asset taught the encoder) no program can check: a person vouches for it. Refused is what
contradicts it on its face: a model that this ledger paid for, and one without privacy made at this very site
or under this study's name.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from synthkit.data.encoding import fit_encoding
from synthkit.domain.privacy import DpSgdEvent, PrivacyEvent
from synthkit.domain.schema import Schema
from synthkit.domain.study import TrainingPlan
from synthkit.errors import InputError
from synthkit.federation.messages import Weights, digest_weights
from synthkit.generators.medvae_sgd import MedVaeSgd
from synthkit.privacy.ledger import Ledger
from synthkit.training.artefact import Model, load_model, read_folder
from synthkit.training.freeze import encoder_of
from synthkit.training.planning import Effort, encoder_noise_for, plan_for


@dataclass(frozen=True, kw_only=True)
class EncoderSource:
    """What is frozen: `kind` as in a plan. `weights` and `hyperparameters` are a public encoder's;
    `epsilon` is what an encoder trained with DP may cost on its own.
    """

    kind: str = "trained"
    weights: Weights | None = None
    hyperparameters: dict[str, float] = field(default_factory=dict)
    epsilon: float | None = None

    def freeze_in(self, plan: TrainingPlan) -> TrainingPlan:
        """The plan that freezes this encoder: its digest, and the architecture that it fits."""
        return replace(
            plan,
            encoder=self.kind,
            encoder_digest=digest_weights(self.weights) if self.weights else "",
            hyperparameters={**plan.hyperparameters, **self.hyperparameters},
        )


def read_public_encoder(
    folder: Path, schema: Schema, *, site: str, study: str, ledger: Ledger | None
) -> EncoderSource:
    """The encoder of a model that a person declares public for these patients.

    Args:
        folder: A model folder of kind medvae-sgd, its schema of the same layout.
        schema: That of the patients' table.
        site: Where the training takes place.
        study: The training's name.
        ledger: The asset's, if there is one yet.

    Raises:
        InputError: Not such a folder; another layout; or its own header says that these patients taught it.
    """
    where = f"model {folder.name}"
    header, _ = read_folder(folder)
    if "mode" in header or header.get("generator") != MedVaeSgd.kind:
        raise InputError("holds no encoder to freeze", where=where, fix="name a model of kind medvae-sgd")
    model = load_model(folder)
    if schema.to_buy():
        raise InputError(
            f"column {schema.to_buy()[0]} is still to be bought, so no public encoder fits it yet",
            where="the schema",
            fix="complete it with `schema buy` first, or --encoder random",
        )
    if model.encoding.layout != fit_encoding(schema).layout:
        raise InputError(
            "its columns and states are not the table's", where=where, fix="train it under the same schema"
        )
    _check_foreign(model, site=site, study=study, ledger=ledger, where=where)
    # Averaging over sites turns -0.0 into 0.0, and a digest tells them apart.
    weights = {name: array + 0.0 for name, array in encoder_of(model.generator).items()}
    return EncoderSource(kind="public", weights=weights, hyperparameters=model.generator.hyperparameters)


def _check_foreign(model: Model, *, site: str, study: str, ledger: Ledger | None, where: str) -> None:
    if ledger is not None and ledger.history(model.study_digest):
        raise InputError(
            "this ledger paid for it: these patients taught it",
            where=where,
            fix="use one of other patients, or --encoder dp:EPSILON",
        )
    is_unsound = not model.is_private or not model.encoder_provenance.allows_claim
    if is_unsound and (model.site == site or model.study == study):
        raise InputError(
            "it was trained without privacy, by its own header at this site or in this study",
            where=where,
            fix="use one of other patients; if it is of simulated ones, train it under another --site",
        )


def plan_with_encoder(
    source: EncoderSource,
    generator: str,
    effort: Effort,
    *,
    target_epsilon: float,
    delta: float,
    history: Sequence[PrivacyEvent] = (),
) -> TrainingPlan:
    """The usual plan, and what it says of its encoder; all of it together costs at most `target_epsilon`.

    Raises:
        InputError: No noise reaches the target, or the encoder leaves nothing for the decoder.
    """
    steps, noise, before = 0, 0.0, tuple(history)
    if source.epsilon is not None:
        _check_share(source.epsilon, target_epsilon)
        steps = effort.rounds * effort.local_steps
        noise = encoder_noise_for(effort, target_epsilon=source.epsilon, delta=delta)
        first = DpSgdEvent(noise_multiplier=noise, sample_rate=effort.sample_rate, steps=steps)
        before = (*before, first)
    plan = plan_for(generator, effort, target_epsilon=target_epsilon, delta=delta, history=before)
    if source.epsilon is not None:
        return replace(plan, encoder=source.kind, encoder_steps=steps, encoder_noise_multiplier=noise)
    return source.freeze_in(plan)


def _check_share(epsilon: float, target_epsilon: float) -> None:
    if not 0 < epsilon < target_epsilon:
        raise InputError(
            f"the encoder's epsilon {epsilon:g} leaves nothing of {target_epsilon:g} for the decoder",
            where="the plan's encoder",
            fix="give it less than the whole",
        )
