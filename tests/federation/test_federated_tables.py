"""Two real sites, one release each: tables averaged, fitted once at the coordinator, charged once a site."""

from dataclasses import replace

import numpy as np
import pytest
from hospital import FAR, SPLIT, TODAY, as_bytes, found, initial, policy_text
from small_ward import SMALL, WARD, make_plan, ward_table

from synthkit.cli.federation import model_of
from synthkit.data.table import SyntheticTable
from synthkit.domain.privacy import GaussianEvent
from synthkit.domain.study import Site, Study
from synthkit.federation.messages import TrainRequest
from synthkit.privacy.mechanisms import table_noise, tables_statistic
from synthkit.release.signing import TrustedKey, generate_key, read_key, seal_document
from synthkit.training.artefact import load_model, new_generator, save_model
from synthkit.training.synthesis import synthesize
from synthkit_client.agent import SiteAgent
from synthkit_client.app import make_app
from synthkit_client.enrol import OFFICER_KEY, NewSite, bring_study, init_site, officer_name
from synthkit_client.guard import approve_study
from synthkit_server.local_grid import run_local
from synthkit_server.strategy import RoundRules

SIZES = {"north": 1000, "south": 3000}
"""Declared sizes; each site has half as many patients again, of whom 70 % are members."""

PLAN = make_plan(
    generator="medvae",
    rounds=0,
    local_steps=0,
    prior_noise_multiplier=3.0,
    hyperparameters={**SMALL, "codes": 40, "fit_steps": 20},
)


@pytest.fixture
def federation(tmp_path):
    """A study that two founded sites have approved: the study, and each site's folder by name."""
    coordinator = generate_key()
    trusted = TrustedKey(name="coordinator", role="coordinator", public_key=coordinator.public_key_hex)
    folders = {name: founded(tmp_path, name, trusted) for name in SIZES}
    study = Study(
        name="trial",
        purpose="a test",
        schema=WARD,
        plan=PLAN,
        roster=tuple(
            Site(name=name, public_key=folder.key.public_key_hex, declared_size=SIZES[name])
            for name, folder in folders.items()
        ),
        expires=FAR,
    )
    envelope = seal_document(study.to_json(), "study", coordinator, "coordinator")
    for name, folder in folders.items():
        bring_study(folder, envelope)
        officer = read_key(folder.path / OFFICER_KEY)
        approve_study(folder, study, officer_name(name), officer, today=TODAY)
    return study, folders


def founded(root, name, trusted):
    path = root / name
    path.mkdir()
    rows = ward_table(SIZES[name] * 3 // 2, seed=SIZES[name]).frame
    (path / "patients.csv").write_bytes(SyntheticTable(schema=WARD, frame=rows).to_csv_bytes())
    new = NewSite(
        name=name,
        table="patients.csv",
        declared_size=SIZES[name],
        policy_text=policy_text(),
        split=SPLIT,
        split_seed=3,
    )
    return init_site(path, new, coordinator=trusted)


def run(study, folders):
    apps = {name: make_app(SiteAgent.open(folder.path)) for name, folder in folders.items()}
    return run_local(study, initial(study), apps, rules=RoundRules(average_last=3))


def test_two_sites_end_in_a_fitted_model_for_one_charge_each(federation, tmp_path):
    study, folders = federation
    result = run(study, folders)
    assert [(summary.server_round, summary.sites) for summary in result.rounds] == [(1, tuple(SIZES))]
    for folder in folders.values():
        ledger = folder.open_ledger()
        assert ledger.history() == (GaussianEvent(noise_multiplier=3.0),) == PLAN.total_events()
        assert ledger.open_reservations() == ()
        assert ledger.head[0] == 2
    spend = folders["north"].open_ledger().spend(study.digest)
    model = model_of(study, result, spend)
    before, after = initial(study), model.generator.get_weights()
    for name in ("codes", "linear.weight", "perceptron.0.weight", "table_noise"):
        assert not np.array_equal(before[name], after[name]), name
    for name in ("tables", "millions"):
        assert np.array_equal(result.weights[name], after[name]), name
    save_model(model, tmp_path / "model")
    made = synthesize(load_model(tmp_path / "model"), 200, seed=1).table.frame
    assert made.shape == (200, len(WARD))


def test_the_average_is_the_tables_of_all_patients_with_the_noise_that_is_stated(federation):
    """Weighted by declared size, as in `finish`. The std of some 20,000 pairs' cells is known to 0.5 %.

    The number of patients is itself read off the bought tables, to about 1 % at the smaller site, and the
    sites have 5 % more than they declared: 12 % leaves ten standard errors, false alarm below 1e-12.
    """
    study, folders = federation
    result = run(study, folders)
    agents = {name: SiteAgent.open(folder.path) for name, folder in folders.items()}
    members = {name: agent._members(study, 1) for name, agent in agents.items()}
    model = model_of(study, result, folders["north"].open_ledger().spend(study.digest))
    layout = model.generator.layout
    shares = [tables_statistic(members[name], layout) / len(members[name]) for name in SIZES]
    exact = np.average(shares, axis=0, weights=list(SIZES.values()))
    block = np.repeat(np.arange(len(layout.states)), layout.states)
    pairs = np.triu(block[:, None] != block[None, :])
    noise = (result.weights["tables"] - exact)[pairs]
    pair, _ = table_noise(layout, noise_multiplier=3.0)
    of_the_sum = np.sqrt(len(SIZES)) * pair
    assert noise.std() == pytest.approx(of_the_sum / sum(SIZES.values()), rel=0.12)
    stated = float(model.generator.get_weights()["table_noise"][0])
    assert stated == pytest.approx(noise.std(), rel=0.12)


def test_a_federation_that_is_asked_again_gets_the_same_bytes_for_no_charge(federation):
    study, folders = federation
    first = run(study, folders)
    heads = {name: folder.open_ledger().head for name, folder in folders.items()}
    for folder in folders.values():
        (folder.path / "patients.csv").unlink()
    again = run(study, folders)
    assert {name: folder.open_ledger().head for name, folder in folders.items()} == heads
    assert all(np.array_equal(first.weights[name], again.weights[name]) for name in first.weights)
    spend = folders["north"].open_ledger().spend(study.digest)
    one, other = (model_of(study, result, spend).generator.get_weights() for result in (first, again))
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture
def hospital(tmp_path):
    hospital = found(tmp_path)
    hospital.study = replace(hospital.study, plan=PLAN)
    return hospital.ready()


def test_a_site_asked_ten_times_answers_the_same_bytes_for_one_charge(hospital):
    running, request = hospital.agent(), hospital.request()
    replies = [running.answer(request) for _ in range(5)] + [hospital.agent().answer(request)]
    hospital.table.unlink()
    replies += [hospital.agent().answer(request) for _ in range(4)]
    assert len(replies) == 10
    assert len({as_bytes(reply) for reply in replies}) == 1
    assert hospital.ledger.history() == PLAN.total_events()


def test_other_base_weights_are_another_charge_and_other_noise(hospital):
    agent = hospital.agent()
    one, other = (agent.answer(hospital.request(seed=seed)).weights for seed in (0, 1))
    assert len(hospital.ledger.history()) == 2
    assert (one["tables"] != other["tables"]).mean() > 0.5


def test_the_round_touches_the_tables_alone_and_keeps_nothing_of_what_was_sent(hospital):
    """Planted tables are overwritten, not added to: the reply is a function of patients and noise."""
    request = hospital.request()
    planted = dict(request.weights)
    planted["tables"] = np.full_like(planted["tables"], 1e6)
    planted["millions"] = np.full_like(planted["millions"], 1e6)
    reply = hospital.agent().answer(replace(request, weights=planted)).weights
    changed = {name for name, array in reply.items() if not np.array_equal(array, planted[name])}
    assert changed == {"tables", "millions"}
    assert np.abs(reply["tables"]).max() < 100
    assert 0 < reply["millions"][0] < 1
    fresh = new_generator("medvae", WARD, PLAN.hyperparameters, seed=0)
    fresh.set_weights(reply)
    assert isinstance(
        TrainRequest(study_digest="", server_round=1, weights=fresh.get_weights()), TrainRequest
    )
