"""A federation that freezes a public encoder: the signed plan says so, and every site keeps to it."""

from dataclasses import replace

import numpy as np
import pytest
from hospital import every_byte, found, initial
from small_ward import ward_model

from synthkit.cli.federation import model_of
from synthkit.domain.privacy import EncoderProvenance
from synthkit.errors import InputError, PolicyError
from synthkit.federation.messages import digest_weights
from synthkit.training.freeze import encoder_digest, encoder_of, place_encoder
from synthkit_client.app import make_app
from synthkit_server.aggregation import weighted_average
from synthkit_server.local_grid import run_local
from synthkit_server.strategy import RoundRules

PUBLIC = ward_model(seed=8)


@pytest.fixture(params=["public", "random"])
def hospital(request, tmp_path):
    site = found(tmp_path)
    digest = encoder_digest(PUBLIC) if request.param == "public" else ""
    site.study = site.with_plan(encoder=request.param, encoder_digest=digest)
    return site.ready()


def start_of(study):
    """Initial weights as the coordinator makes them."""
    generator = ward_model(seed=study.initial_seed)
    encoder = encoder_of(PUBLIC) if study.plan.encoder == "public" else None
    place_encoder(generator, study.plan, encoder)
    return generator.get_weights()


def parts(weights):
    """Bytes of the encoder's arrays, and of all others, by name."""
    names = set(encoder_of(PUBLIC))
    frozen = {name: array.tobytes() for name, array in weights.items() if name in names}
    return frozen, {name: array.tobytes() for name, array in weights.items() if name not in names}


def test_every_reply_leaves_the_encoder_unchanged_byte_for_byte(hospital):
    agent, weights = hospital.agent(), start_of(hospital.study)
    for server_round in range(1, hospital.study.plan.server_rounds + 1):
        request = replace(hospital.request(server_round), weights=weights)
        reply = agent.answer(request)
        (frozen, others), (expected, before) = parts(reply.weights), parts(weights)
        assert frozen == expected
        moved = {name for name in others if others[name] != before[name]}
        is_prior = hospital.study.plan.is_prior_round(server_round)
        assert moved == {n for n in others if n.startswith("prior") == is_prior}
        weights = reply.weights


@pytest.mark.parametrize("spoil", ["encoder.2.weight", "projection"])
def test_a_request_with_another_encoder_is_refused_before_anything_is_spent(hospital, spoil):
    agent, weights = hospital.agent(), start_of(hospital.study)
    array = weights[spoil].copy()
    array.flat[0] = np.nextafter(array.flat[0], np.float32(9))
    for bad in ({**weights, spoil: array}, initial(hospital.study)):
        request = replace(hospital.request(), weights=bad)
        before = every_byte(hospital.path, but=("agent.log",))
        with pytest.raises(InputError, match="not those that the plan freezes"):
            agent.answer(request)
        assert every_byte(hospital.path, but=("agent.log",)) == before
    assert hospital.ledger.history() == ()


def test_the_prior_round_checks_it_too(hospital):
    last = hospital.study.plan.server_rounds
    with pytest.raises(InputError, match="not those that the plan freezes"):
        hospital.agent().answer(replace(hospital.request(last), weights=initial(hospital.study)))


def test_a_whole_federation_ends_in_a_model_of_that_encoder(hospital):
    """Over the wire, with averaged rounds."""
    start = start_of(hospital.study)
    apps = {"north": make_app(hospital.agent())}
    result = run_local(hospital.study, start, apps, rules=RoundRules(min_sites=1, average_last=2))
    model = model_of(hospital.study, result, hospital.ledger.spend(hospital.study.digest))
    assert model.encoder_provenance is EncoderProvenance.PUBLIC
    assert encoder_of(model.generator).keys() == encoder_of(PUBLIC).keys()
    assert encoder_digest(model.generator) == digest_weights({n: start[n] for n in encoder_of(PUBLIC)})
    changed = {**result.weights, "projection": result.weights["projection"] * np.float32(2)}
    with pytest.raises(InputError, match="not those that the plan freezes"):
        model_of(hospital.study, replace(result, weights=changed), model.spend)


@pytest.mark.parametrize("sizes", [[1, 2, 4], [100, 300, 700], [3, 3, 3, 7], [11] * 8])
def test_the_coordinators_average_of_equal_encoders_is_that_encoder(sizes):
    """To the byte, whatever the shares: float64 sums of equal float32 numbers round back to them."""
    rng = np.random.default_rng(1)
    array = (rng.standard_normal(100_000) * 10.0 ** rng.integers(-40, 30, 100_000)).astype(np.float32) + 0.0
    made = weighted_average([{"encoder": array}] * len(sizes), sizes)
    assert made["encoder"].tobytes() == array.tobytes()


def test_an_encoder_trained_with_dp_first_is_not_for_a_federation(tmp_path):
    site = found(tmp_path)
    study = site.with_plan(encoder="dp", encoder_steps=2, encoder_noise_multiplier=3.0)
    site.bring(study)
    with pytest.raises(PolicyError, match=r"study\.encoder"):
        site.approve(study)


def test_a_site_without_such_a_plan_trains_its_encoder(tmp_path):
    """The same coordinator's weights under a plan that freezes nothing: the plan decides, not the weights."""
    site = found(tmp_path).ready()
    weights = ward_model(seed=3).get_weights()
    reply = site.agent().answer(replace(site.request(), weights=weights))
    assert reply.weights["encoder.0.weight"].tobytes() != weights["encoder.0.weight"].tobytes()
