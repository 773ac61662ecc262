"""Of a private training nothing is kept but what follows from its noised gradients, and these are charged.

Posterior samples, their means and the preconditioner are post-processing, or they would need a charge of
their own. The first tests swap what is private and hold fixed what was released: not a bit may change.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from synthkit.data.sequence_encoding import fit_sequence_encoding
from synthkit.data.sequences import PatientSequences
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.domain.privacy import Budget, DpSgdEvent, GaussianEvent
from synthkit.privacy.accounting import reported_epsilon
from synthkit.privacy.dpsgd import DpSgdStep
from synthkit.privacy.ledger import Ledger
from synthkit.training import sequence_loop
from synthkit.training.latent_use import OWN, PATIENTS
from synthkit.training.sequence_artefact import load_sequence_model, new_sequence_generator
from synthkit.training.sequence_loop import train_records
from synthkit.training.sequence_site import (
    Effort,
    plan_for_records,
    train_records_privately,
    train_records_unsafe,
)
from synthkit.training.single_site import Job
from synthkit.training.unsafe import UnsafeNoPrivacy

SIZES = {"channels": 8, "hidden": 8, "latent": 3, "layers": 2, "most_visits": 10, "most_codes": 20}
STEPS = 10
BUDGET = Budget(epsilon=9.0, delta=1e-5)


def ward(seed, patients=60):
    process = standard_process(visits_mean=3, most_visits=10)
    return PatientSequences(**vars(simulate(process, patients, seed=seed)))


def plan_of(kind="eva", *, samples=4.0, **settings):
    effort = Effort(rounds=1, local_steps=STEPS, sample_rate=0.3, learning_rate=0.01)
    hyperparameters = {**SIZES, "dated": 1.0, "posterior": samples, **settings}
    return plan_for_records(kind, effort, target_epsilon=8.0, delta=1e-5, hyperparameters=hyperparameters)


class Released:
    """In place of DP-SGD: looks at the patients, and releases what does not depend on them."""

    def __init__(self, module, _settings):
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.rng = torch.Generator().manual_seed(7)

    def __call__(self, patients, loss_per_patient, optimizer):
        loss_per_patient(np.arange(patients)).sum().backward()  # a raw gradient lies about, as it may
        for parameter in self.parameters:
            parameter.grad = torch.randn(parameter.shape, generator=self.rng)
        optimizer.step()

    def close(self):
        pass


def trained(records, plan, monkeypatch, *, privacy=Released):
    """A training whose bought shares are the same whatever the patients are."""

    def fixed(vectors, *, noise_multiplier):
        return noise_multiplier * np.random.default_rng(5).random(next(iter(vectors)).shape[1])

    monkeypatch.setattr(sequence_loop, "gaussian_sum", fixed)
    generator = new_sequence_generator(plan.generator, records.schema, plan.hyperparameters, seed=1)
    states = fit_sequence_encoding(records.schema, generator.hyperparameters).encode(records)
    return generator, train_records(generator, states, plan, declared_size=100, privacy=privacy)


@pytest.mark.parametrize("samples", [0.0, 4.0])
def test_weights_and_samples_do_not_see_what_was_not_released(samples, monkeypatch):
    plan, found = plan_of(samples=samples), []
    for records in (ward(1), ward(2, patients=45)):
        generator, outcome = trained(records, plan, monkeypatch)
        arrays = [generator.get_weights(), *(sample.weights for sample in outcome.samples)]
        found.append([value.tobytes() for weights in arrays for value in weights.values()])
        assert len(outcome.samples) == samples
        assert outcome.latent.measured_on == OWN
    assert found[0] == found[1]


def test_the_latents_share_of_a_private_training_is_not_the_patients(monkeypatch):
    """The same released gradients, other patients: the same figure. Without privacy it is another one."""
    plan = plan_of()
    private = [trained(ward(seed), plan, monkeypatch)[1].latent for seed in (1, 2)]
    assert private[0] == private[1]
    unsafe = [trained(ward(s), plan, monkeypatch, privacy=UnsafeNoPrivacy)[1].latent for s in (1, 2)]
    assert unsafe[0] != unsafe[1]
    assert unsafe[0].measured_on == PATIENTS
    assert len(unsafe[0].trail) > 1


@pytest.mark.parametrize("samples", [0.0, 4.0])
def test_no_other_noise_and_no_other_step_than_the_accounted(samples, monkeypatch):
    """As many private steps as the event says, and every sample was taken after one of them."""
    counted = []

    class Counting(DpSgdStep):
        def __call__(self, *arguments):
            counted.append(self.settings)
            super().__call__(*arguments)

    monkeypatch.setattr(sequence_loop, "PreconditionedLangevin", None)  # a private training has no chain
    plan = plan_of(samples=samples)
    _, outcome = trained(ward(1), plan, monkeypatch, privacy=Counting)
    (steps, shares) = plan.training_events()
    assert len(counted) == steps.steps == STEPS
    assert {s.noise_multiplier for s in counted} == {steps.noise_multiplier}
    assert {s.sample_rate for s in counted} == {steps.sample_rate}
    assert isinstance(shares, GaussianEvent)
    assert all(1 <= sample.step <= steps.steps for sample in outcome.samples)
    assert len({sample.step for sample in outcome.samples}) == samples


def job_of(records):
    return Job(study="s", site="north", declared_size=100, min_patients=1, seed=1)


def test_the_receipt_covers_all_steps_and_the_samples_cost_nothing_more(tmp_path):
    """Ten samples cost what none cost; one taken earlier would alone have cost less, never more."""
    records, spends = ward(1), []
    for samples in (0.0, 4.0):
        plan = plan_of(samples=samples)
        ledger = Ledger.create(
            tmp_path / f"{samples:g}.ledger",
            asset="a",
            site="north",
            budget=BUDGET,
            reference=plan.total_events()[0],
        )
        model = train_records_privately(
            records,
            plan,
            job_of(records),
            ledger=ledger,
            quota=BUDGET,
            folder=tmp_path / f"model{samples:g}",
        )
        spends.append(model.spend)
        (event,) = [e for e in model.spend.events if isinstance(e, DpSgdEvent)]
        assert event.steps == STEPS
        for sample in model.samples:
            assert sample.step <= event.steps
            alone = reported_epsilon((replace(event, steps=sample.step), *plan.training_events()[1:]), 1e-5)
            assert alone <= model.spend.epsilon + 1e-9
    assert spends[0].epsilon == spends[1].epsilon
    assert spends[0].events == spends[1].events


def test_langevin_without_privacy_never_carries_a_claim(tmp_path):
    records = ward(1)
    model = train_records_unsafe(records, plan_of(), job_of(records), folder=tmp_path / "model")
    assert len(model.samples) == 4
    assert not model.is_private
    header = json.loads((tmp_path / "model" / "model.json").read_text("utf-8"))
    assert (header["unsafe"], header["spend"]) == (True, None)
    assert len(load_sequence_model(tmp_path / "model").samples) == 4
    path = tmp_path / "model" / "model.json"
    path.write_text(json.dumps({**header, "unsafe": False}), "utf-8")
    with pytest.raises(Exception, match="malformed"):
        load_sequence_model(tmp_path / "model")


def test_a_chain_moves_theta_and_leaves_nothing_of_the_burn_in(monkeypatch):
    """Without privacy: samples differ from one another, and come after 60 % of the steps."""
    _, outcome = trained(ward(1), plan_of(), monkeypatch, privacy=UnsafeNoPrivacy)
    assert [sample.step for sample in outcome.samples] == [7, 8, 9, 10]
    first, last = (outcome.samples[number].weights["out.weight"] for number in (0, -1))
    assert not np.array_equal(first, last)
