"""A frozen encoder stays what the plan says, its cost is in the plan, and the model says what it was."""

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_ward import SMALL, make_plan, ward_model, ward_states, ward_table

from synthkit.domain.documents import policy_from_toml
from synthkit.domain.layout import PatientStates
from synthkit.domain.policy_check import check_study_against_policy
from synthkit.domain.privacy import Budget, DpSgdEvent, EncoderProvenance, GaussianEvent
from synthkit.domain.study import Study, TrainingPlan
from synthkit.errors import BudgetExceededError, InputError, PolicyError
from synthkit.federation.messages import digest_weights
from synthkit.generators.registry import build
from synthkit.privacy.accounting import admission_epsilon, spend_of
from synthkit.privacy.ledger import Ledger
from synthkit.training.artefact import HEADER, load_model
from synthkit.training.encoder_source import EncoderSource, plan_with_encoder
from synthkit.training.freeze import encoder_digest, encoder_of, freeze, place_encoder
from synthkit.training.loop import LoopState, close, train
from synthkit.training.planning import Effort
from synthkit.training.single_site import Job, train_privately, train_unsafe

JOB = Job(study="ward", site="north", declared_size=100, min_patients=50, seed=4)
EFFORT = Effort(rounds=1, local_steps=4, sample_rate=0.3, learning_rate=0.01)
POLICIES = Path(__file__).parents[2] / "policies"
QUOTA = Budget(epsilon=9, delta=1e-5)
PUBLIC = ward_model(seed=8)


def plan_of(kind: str, **changes) -> TrainingPlan:
    extra = {
        "public": {"encoder_digest": encoder_digest(PUBLIC)},
        "dp": {"encoder_steps": 3, "encoder_noise_multiplier": 2.0},
    }
    return make_plan(encoder=kind, noise_multiplier=3.0, **extra.get(kind, {}), **changes)


def new_ledger(tmp_path, epsilon: float = 9) -> Ledger:
    budget = Budget(epsilon=epsilon, delta=1e-5)
    return Ledger.create(tmp_path / "ledger", asset="ward", site="north", budget=budget)


def make_model(tmp_path, kind: str, **changes):
    plan, ledger = plan_of(kind, **changes), new_ledger(tmp_path)
    encoder = encoder_of(PUBLIC) if kind == "public" else None
    settings = {"ledger": ledger, "quota": QUOTA, "folder": tmp_path / "model", "encoder": encoder}
    return train_privately(ward_table(120), plan, JOB, **settings), plan, ledger


@pytest.mark.parametrize("kind", ["public", "random", "dp"])
def test_the_loop_and_the_closing_release_leave_a_frozen_encoder_as_it_was(kind):
    """To the byte; the decoder moves in every coordinate, and nothing of the encoder enters the clipping."""
    generator, plan = ward_model(), plan_of(kind)
    place_encoder(generator, plan, encoder_of(PUBLIC) if kind == "public" else None)
    freeze(generator, plan)
    before, states = generator.get_weights(), PatientStates.one_row_each(ward_states(60))
    train(generator, states, plan, steps=4, declared_size=60, state=LoopState())
    close(generator, states, plan)
    after = generator.get_weights()
    kept = {name for name in after if before[name].tobytes() == after[name].tobytes()}
    assert kept == set(encoder_of(generator))
    assert {name.split(".")[0] for name in kept} == {"encoder", "projection"}
    assert all((before[n] != after[n]).mean() > 0.99 for n in after if n.startswith("decoder"))


def test_nothing_is_frozen_by_default():
    generator = ward_model()
    place_encoder(generator, make_plan())
    freeze(generator, make_plan())
    assert encoder_digest(generator) == encoder_digest(ward_model())
    assert {n for n, p in generator.named_parameters() if not p.requires_grad} == {
        "projection",
        "prior_mean",
        "prior_moment",
    }


def test_random_features_are_the_same_for_everybody_and_hold_nothing_learnt():
    digests = set()
    for seed in (0, 1):
        generator = ward_model(seed=seed)
        generator.projection.data.mul_(2.0)
        place_encoder(generator, plan_of("random"))
        digests.add(encoder_digest(generator))
        encoder = encoder_of(generator)
        assert not any(array.any() for name, array in encoder.items() if name != "projection")
    assert len(digests) == 1
    other = build("medvae-sgd", generator.layout, SMALL | {"projection_seed": 2})
    place_encoder(other, plan_of("random"))
    assert encoder_digest(other) not in digests


@pytest.mark.parametrize("spoil", ["encoder.0.bias", "projection"])
@pytest.mark.parametrize("kind", ["public", "random"])
def test_another_encoder_than_the_plans_is_never_frozen(kind, spoil):
    plan, generator = plan_of(kind), ward_model()
    place_encoder(generator, plan, encoder_of(PUBLIC))
    array = generator.get_parameter(spoil).data.view(-1)
    array[0] = float(np.nextafter(np.float32(array[0]), np.float32(9)))
    with pytest.raises(InputError, match="not those that the plan freezes"):
        freeze(generator, plan)
    with pytest.raises(InputError, match="not those that the plan freezes"):
        place_encoder(ward_model(), plan_of("public"), encoder_of(ward_model(seed=1)))


def test_a_public_encoder_has_to_be_there_and_to_fit():
    with pytest.raises(InputError, match="missing"):
        place_encoder(ward_model(), plan_of("public"))
    with pytest.raises(InputError, match="architecture"):
        place_encoder(ward_model(), plan_of("public"), encoder_of(ward_model(SMALL | {"latent": 3})))


def test_a_generator_without_an_encoder_freezes_none():
    tables = build("medvae", ward_model().layout)
    assert encoder_digest(tables) == ""
    for act in (place_encoder, freeze):
        with pytest.raises(InputError, match="no encoder"):
            act(tables, plan_of("random"))


BAD = {
    "unknown": {"encoder": "non_dp"},
    "public without digest": {"encoder": "public"},
    "digest of none": {"encoder_digest": "d" * 64},
    "digest of random": {"encoder": "random", "encoder_digest": "d" * 64},
    "dp for free": {"encoder": "dp"},
    "dp without noise": {"encoder": "dp", "encoder_steps": 3},
    "dp without steps": {"encoder": "dp", "encoder_noise_multiplier": 1.0},
    "a charge for none": {"encoder_steps": 3, "encoder_noise_multiplier": 1.0},
    "no steps": {"encoder": "random", "rounds": 0, "local_steps": 0},
}


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD)
def test_a_plan_that_contradicts_itself_cannot_exist(changes):
    with pytest.raises(InputError):
        make_plan(**changes)


def test_older_studies_keep_their_digest_and_newer_ones_round_trip():
    """The default adds no key; every word about an encoder changes the digest that is signed and charged."""
    digests = set()
    for plan in (make_plan(), plan_of("random"), plan_of("public"), plan_of("dp")):
        study = JOB.as_study(ward_table(1), plan)
        document = json.loads(json.dumps(study.to_json()))
        assert Study.from_json(document) == study
        assert any(key.startswith("encoder") for key in document["plan"]) == (plan.encoder != "trained")
        digests.add(study.digest)
    assert len(digests) == 4
    other = replace(plan_of("public"), encoder_digest="d" * 64)
    assert JOB.as_study(ward_table(1), other).digest not in digests


@pytest.mark.parametrize("kind", ["public", "random", "dp"])
def test_the_model_says_what_was_frozen(kind, tmp_path):
    model, plan, _ = make_model(tmp_path, kind)
    expected = EncoderProvenance.DP if kind == "dp" else EncoderProvenance.PUBLIC
    header = json.loads((tmp_path / "model" / HEADER).read_text())
    assert (model.encoder_provenance, header["encoder_provenance"]) == (expected, expected.value)
    assert header["encoder_digest"] == digest_weights(encoder_of(load_model(tmp_path / "model").generator))
    if kind == "public":
        assert header["encoder_digest"] == plan.encoder_digest == encoder_digest(PUBLIC)
    (tmp_path / "model" / HEADER).write_text(json.dumps({**header, "encoder_digest": "d" * 64}))
    with pytest.raises(InputError, match="malformed"):
        load_model(tmp_path / "model")


def test_the_study_in_the_ledger_names_the_public_encoder(tmp_path):
    model, plan, ledger = make_model(tmp_path, "public")
    study = JOB.as_study(ward_table(1), plan)
    assert model.study_digest == study.digest
    assert ledger.history(study.digest) == plan.total_events()
    other = JOB.as_study(ward_table(1), replace(plan, encoder_digest="d" * 64))
    assert ledger.history(other.digest) == ()


def test_an_encoder_trained_first_is_a_reservation_of_its_own_and_the_spend_is_both(tmp_path):
    model, plan, ledger = make_model(tmp_path, "dp")
    events = ledger.history(model.study_digest)
    first = DpSgdEvent(noise_multiplier=2.0, sample_rate=0.3, steps=3)
    rest = DpSgdEvent(noise_multiplier=3.0, sample_rate=0.3, steps=4)
    assert events == (first, rest, GaussianEvent(noise_multiplier=4.0))
    assert ledger.open_reservations() == ()
    assert [type(e) for e in plan.total_events()] == [DpSgdEvent, GaussianEvent, DpSgdEvent]
    assert model.spend.epsilon == spend_of(plan.total_events(), plan.delta).epsilon
    assert model.spend.epsilon > spend_of(plan.training_events(), plan.delta).epsilon
    learnt = encoder_digest(model.generator)
    assert ledger.find_commit(model.study_digest, 1, digest_weights(ward_model(seed=4).get_weights()))
    assert learnt not in (encoder_digest(ward_model(seed=4)), encoder_digest(PUBLIC))


def test_a_model_that_cannot_be_stored_leaves_both_spent(tmp_path):
    """The encoder's round is committed; the decoder's stays open, and open counts as spent."""
    (tmp_path / "file").touch()
    ledger = new_ledger(tmp_path)
    settings = {"ledger": ledger, "quota": QUOTA, "folder": tmp_path / "file" / "model"}
    with pytest.raises(InputError, match="written"):
        train_privately(ward_table(120), plan_of("dp"), JOB, **settings)
    assert len(ledger.history()) == 3
    assert [held.server_round for held in ledger.open_reservations()] == [2]


def test_an_encoder_and_decoder_that_exceed_the_cap_together_draw_nothing(tmp_path):
    """Either alone would fit."""
    plan = plan_of("dp")
    parts = [admission_epsilon(part, 1e-5) for part in (plan.encoder_events(), plan.training_events())]
    together = admission_epsilon(plan.total_events(), 1e-5)
    assert max(parts) < together
    ledger = new_ledger(tmp_path, epsilon=(max(parts) + together) / 2)
    with pytest.raises(BudgetExceededError):
        train_privately(ward_table(120), plan, JOB, ledger=ledger, quota=QUOTA, folder=tmp_path / "model")
    assert ledger.history() == ()
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("epsilon", [1.0, 3.0])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_planned_encoder_composes_within_the_whole(epsilon, share):
    source = EncoderSource(kind="dp", epsilon=share * epsilon)
    plan = plan_with_encoder(source, "medvae-sgd", EFFORT, target_epsilon=epsilon, delta=1e-5)
    assert admission_epsilon(plan.total_events(), 1e-5) <= epsilon
    assert 0.9 * share * epsilon < admission_epsilon(plan.encoder_events(), 1e-5) <= share * epsilon
    assert plan.encoder_steps == EFFORT.local_steps


@pytest.mark.parametrize("encoder", [3.0, 3.5, 0.0, -1.0, float("nan")])
def test_an_encoder_that_leaves_the_decoder_nothing_is_not_planned(encoder):
    source = EncoderSource(kind="dp", epsilon=encoder)
    with pytest.raises(InputError, match="leaves nothing"):
        plan_with_encoder(source, "medvae-sgd", EFFORT, target_epsilon=3.0, delta=1e-5)


def test_the_policys_noise_floor_holds_for_the_encoders_steps_too():
    policy = policy_from_toml((POLICIES / "single-site.toml").read_text(), "policy")
    plan = make_plan(encoder="dp", encoder_steps=3, encoder_noise_multiplier=0.1)
    study = JOB.as_study(ward_table(1), plan)
    with pytest.raises(PolicyError, match=r"encoder_noise_multiplier 0\.1"):
        check_study_against_policy(study, policy, planned_epsilon=1.0, today=dt.date(2026, 1, 1))


def test_without_privacy_nothing_is_frozen(tmp_path):
    with pytest.raises(InputError, match="private training"):
        train_unsafe(ward_table(120), plan_of("random"), JOB, folder=tmp_path / "model")
