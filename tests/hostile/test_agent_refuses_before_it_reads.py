"""What a site's agent refuses, it refuses with the table gone: nothing was read, nothing reserved."""

import datetime as dt
import json
from dataclasses import replace

import numpy as np
import pytest
from hospital import found, initial, policy_text

from synthkit.domain.study import Site
from synthkit.errors import BudgetExceededError, InputError, PolicyError, SignatureError, SynthkitError
from synthkit.federation.messages import TrainRequest
from synthkit.release.signing import generate_key, seal_document
from synthkit_client.enrol import officer_name

YESTERDAY = dt.date(2020, 1, 1)


@pytest.fixture
def hospital(tmp_path):
    return found(tmp_path)


def refused(hospital, *, request=None, agent=None) -> SynthkitError:
    """The refusal of a request at a site whose table is not there; the ledger stays as it was."""
    hospital.table.unlink(missing_ok=True)
    before = ledger_bytes(hospital)
    with pytest.raises(SynthkitError) as caught:
        (agent or hospital.agent()).answer(request or hospital.request())
    assert ledger_bytes(hospital) == before
    assert "\n" not in str(caught.value)
    return caught.value


def ledger_bytes(hospital) -> bytes:
    return (hospital.path / "ledger.jsonl").read_bytes()


def rule_of(error) -> str:
    assert isinstance(error, PolicyError), error
    assert f"[rule {error.rule}]" in str(error)
    return error.rule


def test_the_same_site_answers_when_nothing_is_wrong(hospital):
    """Each refusal below is one change away from this."""
    reply = hospital.ready().agent().answer(hospital.request())
    assert reply.ledger_counter == hospital.ledger.head[0] == 2


def test_a_study_that_was_never_brought(hospital):
    assert rule_of(refused(hospital)) == "study.approved"


@pytest.mark.parametrize("digest", ["", "../../etc", "g" * 64, "A" * 64, "0" * 63])
def test_a_digest_that_is_none(hospital, digest):
    hospital.ready()
    request = TrainRequest(study_digest=digest, server_round=1, weights=initial(hospital.study))
    assert isinstance(refused(hospital, request=request), InputError)


def study_path(hospital, study=None):
    return hospital.folder.study_folder((study or hospital.study).digest) / "study.json"


def test_an_unsigned_study(hospital):
    hospital.ready()
    study_path(hospital).write_text(json.dumps(hospital.study.to_json()))
    assert isinstance(refused(hospital), SignatureError)


def test_a_study_signed_by_a_stranger(hospital):
    with pytest.raises(SignatureError):
        hospital.bring(key=generate_key())
    hospital.ready()
    envelope = seal_document(hospital.study.to_json(), "study", generate_key(), "coordinator")
    study_path(hospital).write_text(json.dumps(envelope))
    assert isinstance(refused(hospital), SignatureError)


def test_a_study_signed_by_the_sites_own_officer(hospital):
    hospital.ready()
    envelope = seal_document(hospital.study.to_json(), "study", hospital.officer, officer_name("north"))
    study_path(hospital).write_text(json.dumps(envelope))
    assert isinstance(refused(hospital), SignatureError)


def test_a_study_altered_after_signing(hospital):
    hospital.ready()
    envelope = json.loads(study_path(hospital).read_text())
    envelope["document"]["plan"]["noise_multiplier"] = 0.01
    study_path(hospital).write_text(json.dumps(envelope))
    assert isinstance(refused(hospital), SignatureError)


def test_another_signed_study_in_this_ones_place(hospital):
    hospital.ready()
    other = hospital.with_plan(rounds=3)
    envelope = seal_document(other.to_json(), "study", hospital.coordinator, "coordinator")
    study_path(hospital).write_text(json.dumps(envelope))
    assert isinstance(refused(hospital), InputError)


def test_a_missing_approval(hospital):
    hospital.bring()
    assert rule_of(refused(hospital)) == "study.approved"


@pytest.mark.parametrize("field", ["study_digest", "policy_digest", "site"])
def test_an_approval_of_something_else(hospital, field):
    hospital.bring()
    hospital.force_approval(hospital.study, **{field: "0" * 64})
    assert rule_of(refused(hospital)) == "study.approved"


def test_an_approval_under_the_policy_before_this_one(hospital):
    """The officer signed a new policy; what she approved under the old one is not approved any more."""
    hospital.ready()
    sign_policy(hospital, policy_text(max_attempts="2"))
    assert rule_of(refused(hospital)) == "study.approved"


def test_an_approval_by_the_coordinator(hospital):
    hospital.bring()
    document = {
        "study_digest": hospital.study.digest,
        "policy_digest": hospital.folder.policy.digest,
        "site": "north",
    }
    envelope = seal_document(document, "study-approval", hospital.coordinator, "coordinator")
    folder = hospital.folder
    folder.write_json(folder.study_folder(hospital.study.digest) / "approval.json", envelope)
    assert isinstance(refused(hospital), SignatureError)


def sign_policy(hospital, text):
    (hospital.path / "policy.toml").write_text(text)
    folder = hospital.folder
    signed = seal_document(folder.policy.to_json(), "policy", hospital.officer, officer_name("north"))
    folder.write_json(hospital.path / "policy.signed.json", signed)


@pytest.mark.parametrize("is_running", [True, False])
def test_a_policy_changed_after_it_was_signed(hospital, is_running):
    """Whether the agent was started before the change or after it."""
    agent = hospital.ready().agent()
    (hospital.path / "policy.toml").write_text(policy_text(max_sample_rate="0.9"))
    assert rule_of(refused(hospital, agent=agent if is_running else None)) == "policy.signature"


def test_a_comment_is_no_change_of_policy(hospital):
    agent = hospital.ready().agent()
    (hospital.path / "policy.toml").write_text(policy_text() + "# reviewed\n")
    assert agent.answer(hospital.request()).site == "north"


def test_a_coordinator_revoked_while_the_agent_runs(hospital):
    agent = hospital.ready().agent()
    trust = json.loads((hospital.path / "trust.json").read_text())
    for entry in trust["keys"]:
        entry["revoked"] = entry["role"] == "coordinator"
    (hospital.path / "trust.json").write_text(json.dumps(trust))
    assert isinstance(refused(hospital, agent=agent), SignatureError)


BREACHES = {
    "study.max_epsilon": {"noise_multiplier": 0.5, "local_steps": 500},
    "study.min_noise_multiplier": {"noise_multiplier": 0.4, "sample_rate": 0.001},
    "study.max_sample_rate": {"sample_rate": 0.7},
    "study.max_delta": {"delta": 1e-4},
    "study.allowed_generators": {"generator": "eva"},
}


@pytest.mark.parametrize("rule", BREACHES)
def test_a_plan_beyond_the_policy_even_if_approved(hospital, rule):
    """The officer's tool refuses to approve it; her signature, were it forced, does not help."""
    study = hospital.with_plan(**BREACHES[rule])
    hospital.bring(study)
    with pytest.raises(PolicyError, match=rule):
        hospital.approve(study)
    hospital.force_approval(study)
    assert (
        rule_of(refused(hospital, request=hospital.request(study=hospital.study, seed=0))) == "study.approved"
    )
    request = TrainRequest(study_digest=study.digest, server_round=1, weights=initial(hospital.study))
    assert rule_of(refused(hospital, request=request)) == rule


STUDIES = {
    "study.expires": lambda study: replace(study, expires=YESTERDAY),
    "roster.public_key": lambda study: with_entry(study, public_key=generate_key().public_key_hex),
    "roster.declared_size": lambda study: with_entry(study, declared_size=81),
}


def with_entry(study, **changes):
    fields = {**vars(study.roster[0]), **changes}
    return replace(study, roster=(Site(**fields),))


@pytest.mark.parametrize("rule", STUDIES)
def test_a_study_that_does_not_fit_this_site(hospital, rule):
    study = STUDIES[rule](hospital.study)
    hospital.bring(study)
    hospital.force_approval(study)
    assert rule_of(refused(hospital, request=hospital.request(study=study))) == rule


def test_a_roster_without_this_site(hospital):
    study = with_entry(hospital.study, name="elsewhere")
    hospital.bring(study)
    hospital.force_approval(study)
    assert isinstance(refused(hospital, request=hospital.request(study=study)), InputError)


def test_an_expired_policy(tmp_path):
    hospital = found(tmp_path, policy=policy_text(expires=YESTERDAY.isoformat()))
    hospital.bring()
    hospital.force_approval(hospital.study)
    assert rule_of(refused(hospital)) == "policy.expires"


def test_too_small_a_roster(tmp_path):
    hospital = found(tmp_path, policy=policy_text(min_sites="3"))
    hospital.bring()
    hospital.force_approval(hospital.study)
    assert rule_of(refused(hospital)) == "study.min_sites"


@pytest.mark.parametrize("server_round", [0, -1, 4, 10**9])
def test_a_round_that_is_not_in_the_plan(hospital, server_round):
    hospital.ready()
    assert "not in the plan" in str(refused(hospital, request=hospital.request(server_round)))


def altered(name, change):
    def alter(weights):
        weights = dict(weights)
        weights[name] = change(weights[name])
        return weights

    return alter


def without_prior(weights):
    return {name: array for name, array in weights.items() if name != "prior_mean"}


def with_one_more(weights):
    return {**weights, "backdoor": np.zeros(3, dtype=np.float32)}


BAD_WEIGHTS = {
    "one missing": without_prior,
    "one too many": with_one_more,
    "transposed": altered("encoder.0.weight", lambda a: a.T),
    "flat": altered("encoder.0.weight", np.ravel),
    "a scalar": altered("prior_mean", np.sum),
    "empty": lambda weights: dict(list(weights.items())[:0]),
    "NaN": altered("decoder.linear.bias", lambda a: a * np.nan),
    "infinite": altered("encoder.0.bias", lambda a: a + np.float32("inf")),
}


@pytest.mark.parametrize("spoil", BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_weights_that_do_not_fit_reserve_nothing(hospital, spoil):
    agent = hospital.ready().agent()
    before = ledger_bytes(hospital)
    request = replace(hospital.request(), weights=spoil(initial(hospital.study)))
    with pytest.raises(InputError, match="weights"):
        agent.answer(request)
    assert ledger_bytes(hospital) == before


@pytest.mark.parametrize("value", [1e6, 1e30, 3e38])
def test_huge_weights_are_answered_with_finite_numbers_and_a_charge(hospital, value):
    agent = hospital.ready().agent()
    weights = {name: np.full_like(array, value) for name, array in initial(hospital.study).items()}
    for server_round in (1, 3):
        reply = agent.answer(replace(hospital.request(server_round), weights=weights))
        assert all(np.isfinite(array).all() for array in reply.weights.values())
    assert hospital.ledger.head[0] == 4


def test_a_site_with_twelve_patients_takes_no_part_and_does_not_say_how_many(tmp_path):
    hospital = found(tmp_path, patients=12).ready()
    before = ledger_bytes(hospital)
    with pytest.raises(PolicyError) as caught:
        hospital.agent().answer(hospital.request())
    assert rule_of(caught.value) == "study.min_patients"
    assert not {"12", "8", "9"} & set(str(caught.value).replace(".", " ").split())
    assert "12" not in str(caught.value)
    assert ledger_bytes(hospital) == before


def test_a_quota_that_is_used_up(tmp_path):
    """Other base weights are new charges, until the study's quota has no room: then nothing is drawn."""
    hospital = found(tmp_path)
    study = hospital.with_plan(noise_multiplier=1.5, sample_rate=0.3, local_steps=4, rounds=1)
    agent = hospital.ready(study).agent()
    answered = 0

    def ask_on():
        nonlocal answered
        for seed in range(50):
            agent.answer(hospital.request(study=study, seed=seed))
            answered += 1

    with pytest.raises(BudgetExceededError, match="quota"):
        ask_on()
    assert 1 <= answered < 50
    before = ledger_bytes(hospital)
    with pytest.raises(BudgetExceededError):
        agent.answer(hospital.request(study=study, seed=99))
    assert ledger_bytes(hospital) == before
    assert hospital.ledger.spend(study.digest).epsilon <= 4.0
    # What was paid for is still answered, from the stored bytes.
    assert agent.answer(hospital.request(study=study, seed=0)).ledger_counter == 2
