"""Three real sites with records of visits: shares first, then rounds of private steps, averaged, charged."""

import datetime as dt
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import safetensors.numpy
import torch
from hospital import as_bytes, every_byte, policy_text
from record_hospital import PLAN, PROCESS, SIZES, SMALL, changed, found_region, records_of

from synthkit.cli.federation_records import initial_record_weights, record_model_of
from synthkit.cli.joint_release import make_release, recipient_trust
from synthkit.data.sequence_encoding import fit_sequence_encoding
from synthkit.data.sequences import PatientSequences
from synthkit.domain.audit import Verdict
from synthkit.domain.privacy import Budget, DpSgdEvent, GaussianEvent
from synthkit.domain.study import Site
from synthkit.errors import BundleError, InputError, PeerError, PolicyError, SchemaError
from synthkit.federation.bought_sum import TOTAL, VARIANCE, BoughtSum, taken_apart
from synthkit.federation.messages import TrainReply, TrainRequest
from synthkit.federation.refusal import RefusalCode
from synthkit.privacy.accounting import admission_epsilon, reported_epsilon
from synthkit.privacy.ledger_verify import read_entries
from synthkit.release.bundle import verify
from synthkit.training import record_rounds as rounds_of_records
from synthkit.training.loop import LoopState
from synthkit.training.record_rounds import settle_rounds, take_record_steps
from synthkit.training.record_settling import settle
from synthkit.training.sequence_artefact import new_sequence_generator, synthesize_records
from synthkit_client import record_rounds
from synthkit_client.app import make_app
from synthkit_client.record_rounds import record_generator, record_members
from synthkit_client.release_desk import Drawing, audit_candidate
from synthkit_server.aggregation import plain_average, weighted_average
from synthkit_server.local_grid import run_local
from synthkit_server.strategy import RoundRules
from synthkit_server.validation import check_bought


@pytest.fixture(autouse=True, scope="module")
def short_settling():
    """Two corrections of a hundred records each: what they are good for is measured elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds_of_records, "settle", partial(settle, rounds=2))
        patch.setattr(rounds_of_records, "MOST_VISITS", 300)
        yield


@pytest.fixture
def region(tmp_path):
    return found_region(tmp_path).ready()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole study over marked records, and what it ended with: the mean of its training rounds."""
    policy = policy_text(allowed_generators='["eva"]', max_advantage="0.6")
    split, policies = (0.6, 0.2, 0.2), dict.fromkeys(SIZES, policy)
    root = tmp_path_factory.mktemp("region")
    region = found_region(root, policies=policies, split=split).ready()
    for folder in region.folders.values():
        mark(folder)
    apps = {name: make_app(region.agent(name)) for name in region.folders}
    start, rules = initial_record_weights(region.study), RoundRules(average_last=5)
    result = run_local(region.study, start, apps, rules=rules, checkpoint=root / "hub")
    result.save(root / "hub")
    return region, result


def run(region, **rules):
    apps = {name: make_app(region.agent(name)) for name in region.folders}
    start = initial_record_weights(region.study)
    return run_local(region.study, start, apps, rules=RoundRules(**rules) if rules else None)


def replies_of(region, name):
    """The site's stored replies by round, as its ledger names them."""
    folder = region.folders[name]
    stored = folder.study_folder(region.study.digest) / "replies"
    ledger = folder.open_ledger()
    commits = [ledger.find_commit(region.study.digest, n, base) for n, base in _bases(folder)]
    return [safetensors.numpy.load_file(stored / f"{one.reply_digest}.safetensors") for one in commits]


def _bases(folder):
    held = [entry.fields for entry in read_entries(folder.ledger_path) if entry.kind == "reserve"]
    return [(fields["server_round"], fields["base_digest"]) for fields in held]


def test_three_sites_train_and_each_ledger_holds_the_sum_of_all_rounds(finished):
    region, result = finished
    assert [summary.sites for summary in result.rounds] == [tuple(SIZES)] * 3
    for folder in region.folders.values():
        history = folder.open_ledger().history()
        assert [type(event) for event in history] == [GaussianEvent, DpSgdEvent, DpSgdEvent]
        assert sum(event.steps for event in history[1:]) == PLAN.total_steps
        spend = folder.open_ledger().spend(region.study.digest, schema=region.study.schema.digest)
        assert spend.epsilon == reported_epsilon(PLAN.total_events(), PLAN.delta)
        assert folder.open_ledger().open_reservations() == ()


def test_the_study_ends_with_the_mean_of_its_last_training_rounds(finished):
    """Recomputed from the replies that lie at the sites; the round of shares is not averaged in."""
    region, result = finished
    replies = {name: replies_of(region, name) for name in SIZES}
    rounds = [
        weighted_average([replies[name][number] for name in SIZES], [float(size) for size in SIZES.values()])
        for number in (1, 2)
    ]
    expected = plain_average(rounds)
    assert all(np.array_equal(result.weights[name], expected[name]) for name in expected)
    alone = replies["north"][-1]
    assert len(changed(result.weights, alone)) > 0.9 * (len(alone) - 2)


def test_sums_of_all_sites_are_added_and_so_is_their_noise(finished):
    """Recomputed from the replies; the sum stays beside the weights to the end, to the byte."""
    region, result = finished
    replies = [replies_of(region, name)[0] for name in SIZES]
    total = np.sum([reply[TOTAL].astype(np.float64) for reply in replies], axis=0)
    assert np.array_equal(result.weights[TOTAL], total.astype(np.float32))
    assert result.weights[VARIANCE].tolist() == [len(SIZES) * PLAN.prior_noise_multiplier**2]
    later = [reply for name in SIZES for reply in replies_of(region, name)[1:]]
    for reply in later:
        assert np.array_equal(reply[TOTAL], result.weights[TOTAL])
        assert np.array_equal(reply[VARIANCE], result.weights[VARIANCE])


def test_the_sum_that_a_site_sends_holds_the_noise_that_its_ledger_was_charged(finished):
    """Against the members' own sum, without noise. Over 3,000 numbers the standard deviation is off by a
    tenth with odds below 1e-12.
    """
    region, _ = finished
    residuals = []
    for name, folder in region.folders.items():
        generator = record_generator(region.study, region.request(1).weights, 1)
        states = record_members(folder, region.study, 2)
        exact = generator.statistics(states).sum(dim=0).numpy()
        residuals.append(replies_of(region, name)[0][TOTAL] - exact)
    found = np.concatenate(residuals)
    assert found.size > 3000
    assert found.std() == pytest.approx(PLAN.prior_noise_multiplier, rel=0.1)
    assert abs(found.mean()) < 6 * PLAN.prior_noise_multiplier / math.sqrt(found.size)


def test_every_site_starts_from_what_all_patients_sum_says(tmp_path, monkeypatch):
    """With steps that do nothing each site answers the very start that the pooled sum decides.

    Pairs are in the sum and start at nothing: they are moved when the federation's end is settled.
    """
    monkeypatch.setattr(record_rounds, "take_record_steps", lambda *_args, state, **_kept: state)
    region = found_region(tmp_path)
    region = region.ready(region.with_plan(hyperparameters={**SMALL, "pairs": 1}))
    result = run(region, average_last=5)
    plan, start = region.study.plan, initial_record_weights(region.study)
    generator = new_sequence_generator("eva", PROCESS.schema, plan.hyperparameters, seed=0)
    total, noise = result.weights[TOTAL].astype(np.float64), math.sqrt(float(result.weights[VARIANCE][0]))
    generator.set_shares(total, noise=noise)
    for name, array in generator.get_weights().items():
        np.testing.assert_allclose(result.weights[name], array, rtol=1e-6, atol=1e-7, err_msg=name)
    assert {"out.bias", "leave.bias"} <= changed(start, result.weights)
    assert not result.weights["together"].any()
    assert not result.weights["follow"].any()
    settle_rounds(generator, taken_apart(result.weights, where="result")[1])
    assert np.count_nonzero(generator.get_weights()["follow"]) > 0


def test_pooled_shares_are_all_patients_and_averaged_log_odds_are_not():
    """Why sums travel: a code that one of two sites has in half its visits, the other never. No noise."""
    here, there = records_of(150, seed=1), records_of(150, seed=2)
    common = int(np.bincount(here.codes).argmax())
    there = _without(there, common)
    generators, totals = [], []
    for records in (here, there):
        generator = new_sequence_generator("eva", PROCESS.schema, {**SMALL, "memory": 0}, seed=0)
        encoding = fit_sequence_encoding(PROCESS.schema, generator.hyperparameters)
        states = encoding.encode(PatientSequences(**vars(records)))
        totals.append(generator.statistics(states).sum(dim=0).numpy())
        generator.set_shares(totals[-1], noise=0.0)
        generators.append(generator)
    truth = sum(_share_of(one, common) for one in (here, there)) / 2
    mean = float(np.mean([one.out.bias[common].item() for one in generators]))
    generators[0].set_shares(totals[0] + totals[1], noise=0.0)
    pooled = generators[0].out.bias[common].item()
    assert abs(_share(pooled) - truth) < 0.2 * truth  # records of many codes are scaled down
    assert _share(mean) < 0.5 * truth


def _without(records, code):
    """The records without one code; a visit may be left with none."""
    kept = records.codes != code
    counts = np.bincount(records.visit_of_code[kept], minlength=records.visit_count)
    starts = np.concatenate([[0], np.cumsum(counts)])
    return replace(records, codes=records.codes[kept], visit_starts=starts)


def _share_of(records, code):
    """Mean over patients of the share of their visits with a code."""
    has = np.bincount(records.visit_of_code[records.codes == code], minlength=records.visit_count)
    by_patient = np.bincount(records.patient_of_visit, has)
    return float((by_patient / records.visits_per_patient).mean())


def _share(log_odds):
    return 1 / (1 + math.exp(-log_odds))


@pytest.fixture(scope="module")
def model(finished):
    region, result = finished
    ledger = region.folders["north"].open_ledger()
    spend = ledger.spend(region.study.digest, schema=region.study.schema.digest)
    return record_model_of(region.study, result, spend, site="coordinator")


def test_the_model_is_settled_by_the_sum_of_all_sites_and_by_nothing_else(finished, model):
    """Post-processing: from the result alone, whoever does it gets the same weights."""
    region, result = finished
    weights, bought = taken_apart(result.weights, where="test")
    generator = new_sequence_generator("eva", PROCESS.schema, region.study.plan.hyperparameters, seed=5)
    generator.set_weights(weights)
    settle_rounds(generator, bought)
    assert not changed(generator.get_weights(), model.generator.get_weights())
    settled = changed(weights, model.generator.get_weights())
    assert "leave.bias" in settled
    assert all(name.endswith("bias") or name.startswith("memory_of") for name in settled)


def test_the_model_draws_records_of_the_schema(model):
    drawn = synthesize_records(model, 30, seed=1).records
    assert (drawn.patient_count, drawn.schema) == (30, PROCESS.schema)
    assert drawn.visits_per_patient.max() <= SMALL["most_visits"]


def test_every_site_audits_and_approves_and_one_file_leaves(finished, model, tmp_path):
    """All that a joint release of tables has: statements, officers, both epsilons, both files."""
    region, _ = finished
    study, folders = region.study, region.folders
    spends = {
        name: folder.open_ledger().spend(study.digest, schema=study.schema.digest)
        for name, folder in folders.items()
    }
    drawn = synthesize_records(model, 100, seed=2).records
    how = Drawing(model=model, seed=2)
    audits = {name: audit_candidate(folder, study, drawn, drawing=how) for name, folder in folders.items()}
    assert {audit.verdict for audit in audits.values()} <= {Verdict.PASS, Verdict.INCONCLUSIVE}
    for folder in folders.values():
        assert folder.open_ledger().audit_attempts(study.digest) == 1
    path = tmp_path / "ward.synthkit"
    given = {"model": model, "table": drawn, "audits": audits, "spends": spends, "path": path}
    make_release(study, folders, reason="the registry's yearly report needs these records", **given)
    trust = recipient_trust(folders, tmp_path / "trust.json")
    verified = verify(path, trust, today=dt.datetime.now(dt.UTC).date())
    assert verified.records.parts == drawn.files.parts
    assert {one.site for one in verified.statements} == set(SIZES)
    assert verified.manifest.epsilon_worst_overlap > verified.manifest.epsilon_disjoint
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    with pytest.raises(BundleError):
        verify(bytes(data), trust, today=dt.datetime.now(dt.UTC).date())


def test_a_site_that_refuses_is_left_out_and_pays_nothing(tmp_path):
    """South's policy asks for more patients than it has; the others go on, and are averaged alone."""
    picky = policy_text(allowed_generators='["eva"]', min_patients="95")
    region = found_region(tmp_path, policies={"south": picky}).ready()
    result = run(region, min_sites=2)
    assert [summary.sites for summary in result.rounds] == [("north", "west")] * 3
    assert {refusal.code for one in result.rounds for refusal in one.refusals} == {RefusalCode.POLICY}
    assert region.folders["south"].open_ledger().history() == ()
    kept = ("north", "west")
    replies = [replies_of(region, name)[-1] for name in kept]
    expected = weighted_average(replies, [float(SIZES[name]) for name in kept])
    assert all(np.array_equal(result.weights[name], expected[name]) for name in expected)


def test_below_the_quorum_nobody_is_trained_further(tmp_path):
    picky = policy_text(allowed_generators='["eva"]', min_patients="95")
    region = found_region(tmp_path, policies={"south": picky}).ready()
    with pytest.raises(PeerError, match="south: policy"):
        run(region)
    assert region.folders["north"].open_ledger().history() == PLAN.round_events(1)


def test_the_first_round_buys_a_sum_and_moves_no_weight(region):
    request = region.request(1)
    weights = region.agent("north").answer(request).weights
    assert changed(request.weights, weights) == {TOTAL, VARIANCE}
    assert weights[VARIANCE].tolist() == [PLAN.prior_noise_multiplier**2]
    trained = region.agent("north").answer(replace(region.request(2), weights=weights)).weights
    assert changed(weights, trained) == set(weights) - {TOTAL, VARIANCE}


def test_a_repeated_request_gets_the_stored_bytes_at_no_charge(region):
    request = region.request(2)
    replies = [region.agent("north").answer(request) for _ in range(3)]
    region.folders["north"].path.joinpath("records.csv").unlink()
    replies.append(region.agent("north").answer(request))
    assert len({as_bytes(reply) for reply in replies}) == 1
    ledger = region.folders["north"].open_ledger()
    assert ledger.history() == PLAN.round_events(2)
    assert ledger.head == (2, replies[0].ledger_head)


def test_two_sites_with_the_same_records_and_weights_share_no_noise(tmp_path):
    """A number in a thousand may come out equal: Adam's first step is a sign, and float32 has few digits left
    beside a log odds of 8. False alarm below 1e-9.
    """
    same = records_of(150, seed=1)
    sizes = {"north": 100, "south": 100}
    region = found_region(tmp_path, records=dict.fromkeys(sizes, same), sizes=sizes).ready()
    torch.manual_seed(0)
    np.random.seed(0)
    for server_round in (1, 2):
        request = region.request(server_round)
        one, other = (region.agent(name).answer(request).weights for name in sizes)
        names = changed(request.weights, one) - {VARIANCE}
        assert names
        differs = {name: (one[name] != other[name])[one[name] != request.weights[name]] for name in names}
        assert all(part.any() for part in differs.values() if part.size > 9)
        assert np.concatenate(list(differs.values())).mean() > 0.99


def test_moments_are_kept_at_the_site_and_the_training_goes_on(finished):
    region, _ = finished
    folder = region.folders["north"]
    state = folder.study_folder(region.study.digest) / "state.safetensors"
    arrays = safetensors.numpy.load_file(state)
    assert int(arrays["step"][0]) == PLAN.total_steps
    assert {name.split("/")[0] for name in arrays} - {"step"} == set(initial_record_weights(region.study)) - {
        TOTAL,
        VARIANCE,
    }


class FullBatch:
    """A step on everybody, without chance: only what the rounds carry over can make a difference."""

    def __init__(self, module, _settings):
        self.module = module

    def __call__(self, patients, losses, optimizer):
        optimizer.zero_grad()
        losses(np.arange(patients)).mean().backward()
        optimizer.step()

    def close(self):
        pass


def test_rounds_of_some_steps_are_the_same_training_as_all_steps_at_once():
    """The LSTM rival has no latent, so that its loss takes no chance."""
    records = PatientSequences(**vars(records_of(40, seed=3)))
    plan = replace(PLAN, generator="lstm", rounds=2, local_steps=3)
    settings = {**SMALL, "latent": 0}
    ways = []
    for steps in ((6,), (3, 3), (1, 4, 1)):
        generator = new_sequence_generator("lstm", PROCESS.schema, settings, seed=0)
        states = fit_sequence_encoding(PROCESS.schema, generator.hyperparameters).encode(records)
        state = LoopState()
        take = partial(take_record_steps, generator, states, plan, declared_size=40, privacy=FullBatch)
        for count in steps:
            state = take(steps=count, state=state)
        assert state.step == 6
        ways.append(generator.get_weights())
    start = new_sequence_generator("lstm", PROCESS.schema, settings, seed=0).get_weights()
    for weights in ways[1:]:
        for name, array in weights.items():
            np.testing.assert_allclose(array, ways[0][name], rtol=1e-5, atol=1e-6)
    assert len(changed(start, ways[0])) > len(start) // 2


# ---- what is refused before a row is read or anything is spent ---------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prior_first": False}, "prior_first = true"),
        ({"generator": "medvae-sgd"}, "fits its prior after its steps"),
        ({"generator": "medvae-sgd", "prior_first": False}, "takes one row a patient"),
        ({"hyperparameters": {**SMALL, "posterior": 3}}, "posterior samples"),
    ],
)
def test_plans_that_are_not_of_records_are_refused_by_the_guard(tmp_path, changes, words):
    region = found_region(
        tmp_path, policies={"north": policy_text(allowed_generators='["eva", "medvae-sgd"]')}
    )
    study = region.bring(region.with_plan(**changes), ("north",))
    with pytest.raises((InputError, PolicyError), match=words):
        region.approve("north", study)


def test_what_the_guard_admits_the_ledger_lets_through_to_the_last_round(tmp_path):
    """Shares reserved first fix the ledger's leading order, under which steps cost more: the guard knows."""
    changes = {"rounds": 4, "local_steps": 75, "sample_rate": 0.05, "noise_multiplier": 0.8}
    plan = replace(PLAN, **changes, prior_noise_multiplier=3.0)
    cheap = admission_epsilon(plan.total_events(), 1e-5)
    dear = admission_epsilon(plan.total_events(), 1e-5, reference=plan.round_events(1)[0])
    assert dear > 1.01 * cheap
    for number, quota in enumerate(((cheap + dear) / 2, 1.0001 * dear)):
        policy = policy_text(allowed_generators='["eva"]', max_epsilon=f"{quota:.6f}", epsilon="50.0")
        region = found_region(tmp_path / str(number), policies={"north": policy})
        study = region.bring(region.with_plan(**changes, prior_noise_multiplier=3.0), ("north",))
        if number == 0:
            with pytest.raises(PolicyError, match=r"study\.max_epsilon"):
                region.approve("north", study)
            continue
        region.approve("north", study)
        ledger = region.folders["north"].open_ledger()
        for server_round in range(1, plan.server_rounds + 1):
            ledger.reserve(
                study=study.digest,
                server_round=server_round,
                base_digest=f"{server_round}" * 64,
                events=plan.round_events(server_round),
                study_budget=Budget(epsilon=quota, delta=1e-5),
            )


def test_a_generator_of_the_plan_that_the_policy_does_not_name_is_refused(tmp_path):
    region = found_region(tmp_path)
    study = region.bring(region.with_plan(generator="eva-c"), ("north",))
    with pytest.raises(PolicyError, match=r"study\.allowed_generators"):
        region.approve("north", study)


def test_days_where_the_study_says_dates_are_refused_before_anything_is_spent(tmp_path):
    dated = records_of(150, seed=1)
    days = replace(dated, is_dated=False)
    region = found_region(tmp_path, records={"north": days}).ready()
    before = every_byte(region.folders["north"].path)
    with pytest.raises(SchemaError, match="dates, these are days"):
        region.agent("north").answer(region.request(1))
    assert region.folders["north"].open_ledger().history() == ()
    assert every_byte(region.folders["north"].path) == before


@pytest.mark.parametrize("spoil", ["a name", "a shape", "a number"])
def test_weights_that_do_not_fit_are_refused_before_anything_is_spent(region, spoil):
    request = region.request(2)
    weights = dict(request.weights)
    if spoil == "a name":
        weights["another"] = weights.pop("out.bias")
    elif spoil == "a shape":
        weights["out.bias"] = weights["out.bias"][:-1]
    else:
        weights["out.bias"] = weights["out.bias"] * np.float32(np.nan)
    with pytest.raises(InputError):
        region.agent("north").answer(replace(request, weights=weights))
    assert region.folders["north"].open_ledger().history() == ()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ({TOTAL: None}, "no bought sum"),
        ({TOTAL: np.zeros(3, np.float32)}, "does not fit"),
        ({TOTAL: np.zeros((2, 2), np.float32)}, "another form"),
        ({VARIANCE: np.array([np.inf], np.float32)}, "not finite"),
        ({VARIANCE: np.array([-1.0], np.float32)}, "not finite"),
        ({VARIANCE: np.array([0.0], np.float32)}, "not of this study's round"),
        ({VARIANCE: np.array([1.01 * 3 * PLAN.prior_noise_multiplier**2], np.float32)}, "not of this study"),
    ],
)
def test_a_sum_that_does_not_fit_is_refused_before_anything_is_spent(region, spoil, words):
    request = region.request(2)
    weights = {name: spoil.get(name, array) for name, array in request.weights.items()}
    weights = {name: array for name, array in weights.items() if array is not None}
    with pytest.raises(InputError, match=words):
        region.agent("north").answer(replace(request, weights=weights))
    assert region.folders["north"].open_ledger().history() == ()


def test_a_sum_beyond_all_numbers_is_refused_before_anything_is_spent(region):
    request = region.request(2)
    weights = {**request.weights, TOTAL: np.full_like(request.weights[TOTAL], 3e38)}
    try:
        reply = region.agent("north").answer(replace(request, weights=weights))
    except InputError:
        assert region.folders["north"].open_ledger().history() == ()
    else:
        assert all(np.isfinite(array).all() for array in reply.weights.values())


def test_a_first_round_that_says_something_was_bought_is_refused(region):
    weights = region.request(2).weights
    with pytest.raises(InputError, match="not of this study's round"):
        region.agent("north").answer(replace(region.request(1), weights=weights))
    assert region.folders["north"].open_ledger().history() == ()


# ---- what the coordinator does not count: each wrong in one way ------------------------------------------


def _moved(name, change):
    return lambda reply: replace(reply, weights={**reply.weights, name: change(reply.weights[name])})


WRONG_SUMS = {
    "too large": (1, _moved(TOTAL, lambda total: total + np.float32(1e4)), "larger than the sanity bound"),
    "no number": (1, _moved(TOTAL, lambda total: total * np.float32(np.nan)), "not finite"),
    "another form": (1, _moved(TOTAL, lambda total: total[None]), "another form"),
    "half the noise": (1, _moved(VARIANCE, lambda noise: noise / np.float32(4)), "noise is not the plan's"),
    "no noise": (1, _moved(VARIANCE, lambda noise: noise * np.float32(0)), "noise is not the plan's"),
    "a weight beside it": (1, _moved("bias", lambda bias: bias + np.float32(0.01)), "changed a weight"),
    "another sum later": (2, _moved(TOTAL, lambda total: total + np.float32(1)), "changed after its round"),
    "other noise later": (2, _moved(VARIANCE, lambda noise: 2 * noise), "changed after its round"),
}


@pytest.mark.parametrize("defect", WRONG_SUMS)
def test_a_reply_with_a_wrong_sum_is_found_wrong(defect):
    server_round, tamper, words = WRONG_SUMS[defect]
    noise, weights = PLAN.prior_noise_multiplier, {"bias": np.zeros(3, np.float32)}
    bought = BoughtSum.of_noise(np.full(20, 9.0), noise_multiplier=noise).beside(weights)
    base = bought if server_round == 2 else BoughtSum.nothing(20).beside(weights)
    given = {"study_digest": "", "server_round": server_round}
    request = TrainRequest(weights=base, **given)
    more = {"site": "north", "base_digest": "", "ledger_head": "", "ledger_counter": 1}
    reply = TrainReply(weights=bought, **given, **more)
    site = Site(name="north", public_key="", declared_size=100)
    check_bought(reply, request=request, plan=PLAN, site=site)
    with pytest.raises(InputError, match=words):
        check_bought(tamper(reply), request=request, plan=PLAN, site=site)


class Answering:
    """An agent that signs what a test makes of its replies."""

    def __init__(self, agent, tamper):
        self.agent, self.tamper, self.note = agent, tamper, agent.note

    def answer(self, request):
        reply = self.tamper(self.agent.answer(request))
        return replace(reply, signature=self.agent.folder.key.sign(reply.signed_text()).hex())


@pytest.mark.parametrize("defect", ["too large", "another sum later"])
def test_a_well_signed_reply_with_a_wrong_sum_does_not_count(region, defect):
    server_round, tamper, words = WRONG_SUMS[defect]
    apps = {name: make_app(region.agent(name)) for name in region.folders}
    south = Answering(
        region.agent("south"), lambda reply: tamper(reply) if reply.server_round == server_round else reply
    )
    start = initial_record_weights(region.study)
    result = run_local(region.study, start, apps | {"south": make_app(south)}, rules=RoundRules(min_sites=2))
    found = result.rounds[server_round - 1]
    assert found.sites == ("north", "west")
    assert words in found.refusals[0].detail
    sites = 2 if server_round == 1 else 3
    assert result.weights[VARIANCE].tolist() == [sites * PLAN.prior_noise_multiplier**2]


def test_a_study_that_stops_after_its_sum_goes_on_from_the_same_bytes(region, tmp_path):
    """The coordinator dies after round 1 and again after 2: each round is charged once."""

    def stop(_summary):
        raise KeyboardInterrupt

    apps = {name: make_app(region.agent(name)) for name in region.folders}
    start, hub = initial_record_weights(region.study), tmp_path / "hub"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_local(region.study, start, apps, checkpoint=hub, on_round=stop)
    result = run_local(region.study, start, apps, checkpoint=hub)
    assert [summary.sites for summary in result.rounds] == [tuple(SIZES)] * 3
    replies = [replies_of(region, name)[0][TOTAL].astype(np.float64) for name in SIZES]
    assert np.array_equal(result.weights[TOTAL], np.sum(replies, axis=0).astype(np.float32))
    for folder in region.folders.values():
        assert len(folder.open_ledger().history()) == 3


# ---- canaries ------------------------------------------------------------------------------------------

PATIENT, DAY = "patient-canary-7731", "1931-07-07"
TABLES = ("records.csv", "patients.csv")


def mark(folder, code=""):
    """One patient's id, first day and, if asked, a code that no list has."""
    for name in TABLES:
        path = folder.path / name
        header, *rows = path.read_text("utf-8").splitlines()
        marked = [f"{PATIENT},{row.split(',', 1)[1]}" if row.startswith("1,") else row for row in rows]
        if name == "records.csv":
            cells = marked[0].split(",")
            visit, day = cells[1], cells[2]
            marked = [
                row.replace(f",{day},", f",{DAY},") if row.startswith(f"{PATIENT},{visit},") else row
                for row in marked
            ]
            if code:
                marked[0] = ",".join([*marked[0].split(",")[:-1], code])
        path.write_text("\n".join([header, *marked]) + "\n", "utf-8")


def test_no_patient_id_and_no_day_is_in_anything_that_is_made(finished, caplog):
    """False alarm: ten given bytes within a few megabytes, below 1e-15."""
    region, _ = finished
    root = region.folders["north"].path.parent
    for folder in region.folders.values():
        assert PATIENT.encode() in every_byte(folder.path)
        assert DAY.encode() in every_byte(folder.path)
    assert any(file.name == "result.safetensors" for file in root.rglob("*"))
    made = every_byte(root, but=TABLES) + caplog.text.encode()
    for canary in (PATIENT, DAY, "canary"):
        assert canary.encode() not in made


def test_a_code_that_no_list_has_stops_its_site_and_is_named_nowhere(region, caplog, tmp_path):
    """The site answers with a code of refusal; its error names column and row, never the cell."""
    mark(region.folders["south"], code="RARE-CANARY-0042")
    agent = region.agent("south")
    with pytest.raises(SchemaError) as refusal:
        agent.answer(region.request(1))
    assert "not a listed code" in str(refusal.value)
    result = run(region, min_sites=2)
    assert {entry.site for one in result.rounds for entry in one.refusals} == {"south"}
    result.save(tmp_path / "hub")
    made = every_byte(tmp_path, but=TABLES) + caplog.text.encode() + str(refusal.value).encode()
    assert b"CANARY" not in made
    assert PATIENT.encode() not in made
    assert region.folders["south"].open_ledger().history() == ()


def test_one_patient_more_moves_nobody_elses_part(tmp_path):
    """Members are decided patient by patient, so that one more moves no other's."""
    region = found_region(tmp_path)
    folder = region.folders["north"]
    before = folder.read_record_split(PROCESS.schema)
    for name in TABLES:
        path = folder.path / name
        first = path.read_text("utf-8").splitlines()[1].split(",", 1)[1]
        with path.open("a", encoding="utf-8") as file:
            file.write(f"one-more,{first}\n")
    after = folder.read_record_split(PROCESS.schema)
    for part in ("members", "holdout", "reference"):
        old, new = getattr(before, part).lots, getattr(after, part).lots
        assert set(old.tolist()) <= set(new.tolist())
        assert len(new) <= len(old) + 1
