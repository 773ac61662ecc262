"""Faults of the budget: resets, late and missing charges, receipts that understate."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hospital import Hospital, found
from house_stage import Fault, Stage, edit_header, module_of, sealed, train_once
from release_workshop import Workshop, packed, spend, statement
from small_ward import make_plan, ward_table

from synthkit.cli.model_header import read_model_header
from synthkit.cli.recount import recount
from synthkit.domain.privacy import Adjacency, Budget, DpSgdEvent, GaussianEvent
from synthkit.domain.release import SiteStatement
from synthkit.domain.study import TrainingPlan
from synthkit.privacy import rng
from synthkit.privacy.accounting import admission_epsilon, check_spend, overlap_epsilon, spend_of
from synthkit.privacy.ledger import Ledger
from synthkit.privacy.renyi import Tally
from synthkit_server.mirror import BudgetMirror


def ledger_gone_at_restart(stage: Stage) -> None:
    hospital = stage.hospital()
    hospital.agent().answer(hospital.request())
    if stage.is_faulty:
        (hospital.path / "ledger.jsonl").unlink()
    hospital.agent().answer(hospital.request(2))


def fresh_ledger_at_restart(stage: Stage) -> None:
    """The site starts over with an empty ledger; the coordinator's mirror is the witness."""
    hospital, mirror = stage.hospital(), BudgetMirror(None)
    mirror.record(hospital.agent().answer(hospital.request()))
    if stage.is_faulty:
        asset, budget = hospital.ledger.asset, hospital.ledger.budget
        hospital.folder.ledger_path.unlink()
        Ledger.create(hospital.folder.ledger_path, asset=asset, site="north", budget=budget)
    mirror.record(hospital.agent().answer(hospital.request(2)))


def second_ledger_for_one_file(stage: Stage) -> None:
    budget = Budget(epsilon=3.0, delta=1e-5)
    for _ in range(2 if stage.is_faulty else 1):
        Ledger.create(stage.folder / "book", asset="ward", site="north", budget=budget)


def admission_forgets_each_round(stage: Stage) -> None:
    """A new accountant for every round: what went before has no part in admission."""
    if stage.is_faulty:
        stage.patch.setattr(Tally, "copy", lambda _self: Tally())
    refuses = module_of("hostile/test_agent_refuses_before_it_reads.py")
    refuses.test_a_quota_that_is_used_up(stage.folder)


def budget_anew_for_each_study(stage: Stage) -> None:
    """A new name buys a new quota, never a new cap."""
    hospital = found(stage.folder)
    event = DpSgdEvent(noise_multiplier=4.0, sample_rate=0.1, steps=200)
    quota = Budget(epsilon=4.0, delta=1e-5)
    for number in range(40 if stage.is_faulty else 1):
        hospital.ledger.reserve(
            study=f"run-{number}", server_round=1, base_digest="0" * 64, events=[event], study_budget=quota
        )


def charged_after_release(stage: Stage) -> None:
    """`reserve` writes nothing; the charge comes with the commit, when the reply is already made."""
    reserve, commit = Ledger.reserve, Ledger.commit
    hospital = stage.hospital()
    if stage.is_faulty:
        stage.patch.setattr(Ledger, "reserve", lambda _self, **fields: fields)
        stage.patch.setattr(
            Ledger, "commit", lambda self, fields, **reply: commit(self, reserve(self, **fields), **reply)
        )
    check_charge_precedes_draw(hospital, stage.patch)


class PowerCutError(Exception):
    """The site's process ends here."""


def check_charge_precedes_draw(hospital: Hospital, patch: pytest.MonkeyPatch) -> None:
    """The power goes right after the first sample of patients was drawn: the ledger has the round."""
    draw = rng.poisson_sample

    def drawn(count: int, *, sample_rate: float) -> np.ndarray:
        draw(count, sample_rate=sample_rate)
        raise PowerCutError

    patch.setattr(rng, "poisson_sample", drawn)
    with pytest.raises(PowerCutError):
        hospital.agent().answer(hospital.request())
    assert len(hospital.ledger.history()) == 1, "a sample was drawn and nothing is charged"


def replay_charged_again(stage: Stage) -> None:
    module = module_of("federation/test_agent_replays_and_charges.py")
    hospital = stage.hospital()
    if stage.is_faulty:
        stage.patch.setattr(Ledger, "find_commit", lambda _self, *_request: None)
    module.test_a_replay_between_later_rounds_is_still_the_same(hospital)


def replay_for_other_weights(stage: Stage) -> None:
    """The stored reply is found by round alone: crafted weights get an answer to others, uncharged."""
    module = module_of("federation/test_agent_replays_and_charges.py")
    hospital = stage.hospital()
    honest = Ledger.find_commit

    def by_round(self: Ledger, study: str, server_round: int, base_digest: str):
        with self._current() as book:
            known = {key[:2]: key[2] for key in book.commits}
        return honest(self, study, server_round, known.get((study, server_round), base_digest))

    if stage.is_faulty:
        stage.patch.setattr(Ledger, "find_commit", by_round)
    module.test_other_base_weights_are_another_charge_and_other_noise(hospital)


def accounted_by_epoch(stage: Stage) -> None:
    """Each round of several steps is charged as one."""
    honest = TrainingPlan.round_events

    def one_step(self: TrainingPlan, server_round: int):
        events = honest(self, server_round)
        return tuple(replace(e, steps=1) if isinstance(e, DpSgdEvent) else e for e in events)

    hospital = stage.hospital()
    if stage.is_faulty:
        stage.patch.setattr(TrainingPlan, "round_events", one_step)
    module_of("federation/test_agent_replays_and_charges.py").test_the_whole_plan_costs_what_the_plan_says(
        hospital
    )


def receipt_understates(stage: Stage) -> None:
    honest = spend_of([DpSgdEvent(noise_multiplier=1.0, sample_rate=0.1, steps=500)], 1e-5)
    check_spend(replace(honest, epsilon=honest.epsilon / 2) if stage.is_faulty else honest)


def receipt_for_one_epoch_is_sealed(stage: Stage) -> str:
    """True in itself: epsilon fits the events. But the ledger holds twelve steps, the receipt one."""
    desk = stage.desk()
    if stage.is_faulty:
        header = read_model_header(desk.folder / "model")
        assert header.spend is not None
        events = [replace(e, steps=1) if isinstance(e, DpSgdEvent) else e for e in header.spend.events]
        edit_header(desk.folder / "model", spend=spend_of(events, header.spend.delta).to_json())
    return sealed(desk)


def best_of_four_seeds(stage: Stage) -> None:
    """A cap with room for three trainings; every try is charged, so the fourth is refused."""
    plan = make_plan(local_steps=1, noise_multiplier=3.0)
    cap = admission_epsilon(plan.total_events() * 3, 1e-5, reference=plan.total_events()[0]) + 1e-6
    budget = Budget(epsilon=cap, delta=1e-5)
    ledger = Ledger.create(
        *(stage.folder / "book",),
        **{"asset": "ward", "site": "north", "budget": budget, "reference": plan.total_events()[0]},
    )
    for seed in range(4 if stage.is_faulty else 3):
        train_once(stage, ward_table(60), seed=seed, ledger=ledger)


def delta_above_one_in_n(stage: Stage) -> None:
    """A site that declares 200,000 patients, under a delta of 1e-5: more than one in their number."""
    hospital = found(stage.folder)
    site = replace(hospital.study.roster[0], declared_size=200_000 if stage.is_faulty else 80)
    study = replace(hospital.study, roster=(site,))
    hospital.bring(study)
    hospital.approve(study)


def delta_above_one_in_n_at_one_site(stage: Stage) -> str:
    desk = stage.desk()
    size = 200_000 if stage.is_faulty else 1000
    options = ("--schema", "schema.toml", "--epsilon", 0.3, "--policy", "policy.toml", "--site", "north")
    steps = (
        "--generator",
        "medvae-sgd",
        "--declared-size",
        size,
        "--steps",
        2,
        "--sample-rate",
        0.05,
        "--ledger",
        "book.ledger",
    )
    code = desk.tell("train", "train", "parts/members.csv", *options, *steps, "-o", "second")
    return desk.said["train.err"].decode() if code else ""


def accountant_gdp(stage: Stage) -> str:
    desk = stage.desk()
    if stage.is_faulty:
        header = json.loads((desk.folder / "model" / "model.json").read_text())
        edit_header(desk.folder / "model", spend={**header["spend"], "accountant": "gdp"})
    return sealed(desk)


def wrong_adjacency_in_the_ledger(stage: Stage) -> None:
    """Replace-one doubles the sensitivity; the steps are accounted under add-or-remove only."""
    relations = (Adjacency.ADD_OR_REMOVE_ONE_PATIENT, Adjacency.REPLACE_ONE_PATIENT)
    budget = Budget(epsilon=9.0, delta=1e-5, adjacency=relations[stage.is_faulty])
    ledger = Ledger.create(stage.folder / "book", asset="ward", site="north", budget=budget)
    event = DpSgdEvent(noise_multiplier=2.0, sample_rate=0.1, steps=10)
    ledger.reserve(study="s", server_round=1, base_digest="0" * 64, events=[event])


def wrong_adjacency_in_a_receipt(stage: Stage) -> None:
    honest = spend_of([DpSgdEvent(noise_multiplier=1.0, sample_rate=0.1, steps=50)], 1e-5)
    check_spend(replace(honest, adjacency=Adjacency.REPLACE_ONE_PATIENT) if stage.is_faulty else honest)


def two_adjacencies_in_a_bundle(stage: Stage) -> None:
    world = Workshop()
    events = (GaussianEvent(noise_multiplier=4.0),)
    other = replace(spend(1.0), events=events, adjacency=Adjacency.REPLACE_ONE_PATIENT)
    south = statement("south", spend=other) if stage.is_faulty else statement("south")
    world.verified(world.forged(statements=[world.stated(statement("north")), world.stated(south)]))


def _stated(stage: Stage, **changes: object) -> SiteStatement:
    """North's statement with an honest receipt, or with one that was changed before it was signed."""
    honest = spend_of([DpSgdEvent(noise_multiplier=1.1, sample_rate=0.01, steps=100)], 1e-5)
    return statement("north", spend=replace(honest, **changes) if stage.is_faulty else honest)


def receipt_understated_to_the_recipient(stage: Stage) -> None:
    """The hospital itself signs half of what its events cost; every signature holds."""
    world = Workshop()
    stated = _stated(stage, epsilon=0.1)
    assert stated.spend is not None
    sealed_one = world.sealed(stated, overlap=stated.spend.epsilon)
    recount(world.verified(packed(world.approved(sealed_one, "north"))))


def accountant_gdp_to_the_recipient(stage: Stage) -> None:
    world = Workshop()
    stated = _stated(stage, accountant="gdp")
    assert stated.spend is not None
    sealed_one = world.sealed(stated, overlap=stated.spend.epsilon)
    recount(world.verified(packed(world.approved(sealed_one, "north"))))


def overlap_understated(stage: Stage) -> None:
    """Two hospitals; the epsilon of a patient at both is said to be that of one."""
    world = Workshop()
    one = spend_of([DpSgdEvent(noise_multiplier=1.1, sample_rate=0.01, steps=100)], 1e-5)
    both = overlap_epsilon([one, one])
    stated = [statement(site, spend=one) for site in ("north", "south")]
    sealed_both = world.sealed(*stated, overlap=one.epsilon if stage.is_faulty else both)
    recount(world.verified(packed(world.approved(world.approved(sealed_both, "north"), "south"))))


BUDGET: dict[str, Fault] = {
    "receipt below its events, exported": Fault(
        story=receipt_understated_to_the_recipient, catcher="cli.recount.recount", says="its events cost"
    ),
    "accountant gdp, exported": Fault(
        story=accountant_gdp_to_the_recipient, catcher="cli.recount.recount", says="'gdp' is not accepted"
    ),
    "overlap understated, exported": Fault(
        story=overlap_understated, catcher="cli.recount.recount", says="epsilon_worst_overlap is below"
    ),
    "budget reset on restart, ledger gone": Fault(
        story=ledger_gone_at_restart, catcher="privacy.ledger.Ledger.open", says="ledger"
    ),
    "budget reset on restart, ledger anew": Fault(
        story=fresh_ledger_at_restart, catcher="synthkit_server.mirror.BudgetMirror", says="rolled back"
    ),
    "budget reset by opening a second ledger": Fault(
        story=second_ledger_for_one_file, catcher="privacy.ledger.Ledger.create", says="exists|already"
    ),
    "budget reset on each round": Fault(
        story=admission_forgets_each_round,
        catcher="tests/hostile/test_agent_refuses_before_it_reads.py",
        says="test_a_quota_that_is_used_up failed: .*DID NOT RAISE",
    ),
    "budget reset on a new run's name": Fault(
        story=budget_anew_for_each_study, catcher="privacy.ledger.Ledger.reserve", says="^asset .*would reach"
    ),
    "ledger charged after release": Fault(
        story=charged_after_release,
        catcher="faults_of_budget.check_charge_precedes_draw",
        says="check_charge_precedes_draw failed: .*nothing is charged",
    ),
    "replayed round charged again": Fault(
        story=replay_charged_again,
        catcher="tests/federation/test_agent_replays_and_charges.py",
        says="test_a_replay_between_later_rounds_is_still_the_same failed",
    ),
    "replayed round served to other weights": Fault(
        story=replay_for_other_weights,
        catcher="tests/federation/test_agent_replays_and_charges.py",
        says="test_other_base_weights_are_another_charge_and_other_noise failed",
    ),
    "accounting per epoch": Fault(
        story=accounted_by_epoch,
        catcher="tests/federation/test_agent_replays_and_charges.py",
        says="test_the_whole_plan_costs_what_the_plan_says failed",
    ),
    "receipt below its own events": Fault(
        story=receipt_understates, catcher="privacy.accounting.check_spend", says="its events cost"
    ),
    "receipt for one epoch": Fault(
        story=receipt_for_one_epoch_is_sealed,
        catcher="cli.seal",
        says="states less than the ledger holds",
    ),
    "hyperparameter search uncharged": Fault(
        story=best_of_four_seeds, catcher="privacy.ledger.Ledger.reserve", says="epsilon would reach"
    ),
    "delta above one in n, federated": Fault(
        story=delta_above_one_in_n, catcher="privacy.accounting.check_delta", says="above 1 / declared_size"
    ),
    "delta above one in n, one site": Fault(
        story=delta_above_one_in_n_at_one_site,
        catcher="privacy.accounting.check_delta",
        says="above 1 / declared_size",
    ),
    "accountant gdp": Fault(
        story=accountant_gdp, catcher="privacy.accounting.check_accountant", says="'gdp' is not accepted"
    ),
    "wrong adjacency, charged": Fault(
        story=wrong_adjacency_in_the_ledger,
        catcher="privacy.accounting.check_adjacency",
        says="not accounted under replace_one_patient",
    ),
    "wrong adjacency, stated": Fault(
        story=wrong_adjacency_in_a_receipt,
        catcher="privacy.accounting.check_spend",
        says="not accounted under replace_one_patient",
    ),
    "two adjacencies in one release": Fault(
        story=two_adjacencies_in_a_bundle, catcher="release.claims.check_epsilons", says="adjacencies differ"
    ),
}
