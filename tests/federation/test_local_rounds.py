"""Rounds in one process: the average, the checks on replies, the quorum, the checkpoint."""

import math
from dataclasses import replace

import numpy as np
import pytest
from flwr.clientapp import ClientApp
from standin import SIZES, StandIn, apps_of, honest, local_update, make_initial, make_study, refusals_of

from synthkit.errors import BudgetExceededError, InputError, LedgerError, PeerError, PolicyError
from synthkit.federation.bought_sum import BoughtSum
from synthkit.federation.messages import TrainRequest, digest_weights
from synthkit.federation.refusal import RefusalCode
from synthkit_server.flower_adapter import task_identity
from synthkit_server.local_grid import LocalGrid, run_local
from synthkit_server.strategy import MIRROR, RoundRules, run_rounds
from synthkit_server.validation import sane_update_norm

NAMES = tuple(SIZES)


def in_wire_order(weights):
    return dict(sorted(weights.items()))


def expected_rounds(rounds, *, names=NAMES, average_last=1):
    """Plain numpy: FedAvg by declared size, in float64, rounded once a round; the prior's round last."""
    weights, history = in_wire_order(make_initial()), []
    total = sum(SIZES[name] for name in names)
    for server_round in range(1, rounds + 2):
        if server_round == rounds + 1:
            last = history[-average_last:]
            weights = {
                key: np.mean([entry[key].astype(np.float64) for entry in last], axis=0).astype(np.float32)
                for key in weights
            }
        updates = {name: local_update(name, weights, server_round) for name in names}
        weights = {
            key: np.sum(
                [SIZES[n] / total * updates[n][key].astype(np.float64) for n in names], axis=0
            ).astype(np.float32)
            for key in weights
        }
        history.append(weights)
    return history


def test_result_is_the_average_by_declared_size(keys):
    result = run_local(make_study(keys, rounds=4), make_initial(), apps_of(honest(keys)))
    expected = expected_rounds(4)[-1]
    for name, array in expected.items():
        assert result.weights[name].dtype == np.float32
        np.testing.assert_allclose(result.weights[name], array, rtol=1e-6, atol=1e-7)
    assert [summary.sites for summary in result.rounds] == [NAMES] * 5
    assert {site: mark.counter for site, mark in result.ledgers.items()} == dict.fromkeys(NAMES, 5)


def test_the_prior_is_fitted_to_the_mean_of_the_last_training_rounds(keys):
    study = make_study(keys, rounds=4)
    result = run_local(study, make_initial(), apps_of(honest(keys)), rules=RoundRules(average_last=3))
    for name, expected in expected_rounds(4, average_last=3)[-1].items():
        np.testing.assert_allclose(result.weights[name], expected, rtol=1e-6, atol=1e-7)
    assert digest_weights(result.weights) == result.rounds[-1].weights_digest
    without = run_local(study, make_initial(), apps_of(honest(keys)))
    assert [entry.weights_digest for entry in result.rounds[:4]] == [
        entry.weights_digest for entry in without.rounds[:4]
    ]
    assert digest_weights(result.weights) != digest_weights(without.weights)


def test_two_threads_give_the_same_bytes_as_one(keys):
    study = make_study(keys, rounds=3)
    one = run_local(study, make_initial(), apps_of(honest(keys)))
    two = run_local(study, make_initial(), apps_of(honest(keys)), workers=2)
    assert digest_weights(one.weights) == digest_weights(two.weights)


def test_nothing_is_shared_by_reference_and_bytes_are_counted(keys):
    study, initial = make_study(keys, rounds=1), make_initial()
    received = []

    class Vandal(StandIn):
        def answer(self, request):
            received.append(request.weights)
            return super().answer(request)

    grid = LocalGrid(apps_of({name: Vandal(name, key) for name, key in keys.items()}))
    with task_identity(run_id=1):
        run_rounds(grid, study, initial, sites=grid.sites)
    payload = sum(array.nbytes for array in initial.values())
    assert not any(np.shares_memory(initial[name], weights[name]) for weights in received for name in initial)
    assert not np.shares_memory(received[0]["decoder.weight"], received[1]["decoder.weight"])
    assert grid.bytes_down > 3 * payload
    assert grid.bytes_up > 3 * payload


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PolicyError("no", rule="study.max_epsilon"), RefusalCode.POLICY),
        (BudgetExceededError("no"), RefusalCode.BUDGET),
        (InputError("no"), RefusalCode.INPUT),
        (LedgerError("no"), RefusalCode.LEDGER),
        (ZeroDivisionError("no"), RefusalCode.INTERNAL),
    ],
)
def test_a_refusing_site_is_named_with_its_code(keys, error, code):
    agents = honest(keys) | {"south": StandIn("south", keys["south"], error=error)}
    refusals, result = refusals_of(make_study(keys, rounds=1), agents)
    assert set(refusals) == {"south"}
    assert refusals["south"].code is code
    assert refusals["south"].detail == ""
    expected = expected_rounds(1, names=("north", "west"))[-1]
    np.testing.assert_allclose(result.weights["decoder.bias"], expected["decoder.bias"], rtol=1e-5)


def test_below_the_quorum_the_study_stops_and_names_sites_and_codes(keys):
    agents = honest(keys) | {"south": StandIn("south", keys["south"], error=BudgetExceededError("secret"))}
    with pytest.raises(PeerError, match="south: budget") as caught:
        run_local(make_study(keys), make_initial(), apps_of(agents))
    assert "secret" not in str(caught.value)
    assert "north" not in str(caught.value)


def test_a_site_without_a_node_is_offline(keys):
    agents = {name: agent for name, agent in honest(keys).items() if name != "west"}
    refusals, _ = refusals_of(make_study(keys, rounds=1), agents)
    assert refusals["west"].code is RefusalCode.OFFLINE


def test_a_quorum_above_the_roster_and_strangers_are_refused(keys):
    study = make_study(keys)
    with pytest.raises(InputError, match="min_sites"):
        run_local(study, make_initial(), apps_of(honest(keys)), rules=RoundRules(min_sites=4))
    with pytest.raises(InputError, match="elsewhere"):
        run_local(study, make_initial(), {"elsewhere": ClientApp()})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_study_does_not_start_from_weights_that_are_not_finite(keys, bad):
    initial = make_initial() | {"scale": np.array(bad, dtype=np.float32)}
    with pytest.raises(InputError, match="scale"):
        run_local(make_study(keys), initial, apps_of(honest(keys)))


def test_a_ledger_that_was_rolled_back_is_noticed(keys):
    agents = honest(keys)

    def restore_old_ledger(summary):
        if summary.server_round == 2:
            agents["south"].counter = 1

    study = make_study(keys, rounds=3)
    with pytest.raises(PeerError, match=r"south: invalid .*rolled back"):
        run_local(study, make_initial(), apps_of(agents), on_round=restore_old_ledger)


def test_a_forked_ledger_with_the_same_counter_is_noticed(keys):
    agents = honest(keys)
    agents["south"].before_signing = lambda reply: replace(reply, ledger_counter=1)
    with pytest.raises(PeerError, match=r"round 2.*south: invalid .*rolled back"):
        run_local(make_study(keys), make_initial(), apps_of(agents))


def test_silence_ends_at_the_deadline(keys):
    class Silent(LocalGrid):
        def pull_messages(self, message_ids):
            return [
                message
                for message in super().pull_messages(message_ids)
                if message.metadata.src_node_id != self.sites["west"]
            ]

    grid = Silent(apps_of(honest(keys)))
    rules = RoundRules(deadline_s=0.2, poll_s=0.05, min_sites=2)
    with task_identity(run_id=1):
        result = run_rounds(grid, make_study(keys, rounds=1), make_initial(), sites=grid.sites, rules=rules)
    assert result.rounds[0].refusals[0].code is RefusalCode.DEADLINE
    assert result.rounds[0].refusals[0].site == "west"


class CrashError(Exception):
    pass


@pytest.mark.parametrize("average_last", [1, 2])
def test_a_broken_off_study_resumes_at_the_right_round(keys, tmp_path, average_last):
    study, agents = make_study(keys, rounds=4), honest(keys)
    rules = RoundRules(average_last=average_last)

    def crash_after_two(summary):
        if summary.server_round == 2:
            raise CrashError

    with pytest.raises(CrashError):
        run_local(
            study, make_initial(), apps_of(agents), rules=rules, checkpoint=tmp_path, on_round=crash_after_two
        )
    result = run_local(study, make_initial(), apps_of(agents), rules=rules, checkpoint=tmp_path)
    whole = run_local(study, make_initial(), apps_of(honest(keys)), rules=rules)
    assert agents["north"].asked == [1, 2, 3, 4, 5]
    assert [summary.server_round for summary in result.rounds] == [1, 2, 3, 4, 5]
    assert digest_weights(result.weights) == digest_weights(whole.weights)
    assert len(list(tmp_path.glob("round-*.safetensors"))) == average_last


def test_a_round_that_was_answered_but_not_saved_is_replayed(keys, tmp_path):
    """The coordinator dies after the mirror was written and before the checkpoint: no false alarm."""
    study, agents = make_study(keys, rounds=1), honest(keys)
    west = agents["west"]
    west.error = CrashError("down")
    with pytest.raises(PeerError):
        run_local(study, make_initial(), apps_of(agents), checkpoint=tmp_path)
    assert len((tmp_path / MIRROR).read_text().splitlines()) == 2
    west.error = None
    result = run_local(study, make_initial(), apps_of(agents), checkpoint=tmp_path)
    assert agents["north"].asked == [1, 1, 2]
    assert agents["north"].counter == 2
    assert len(result.rounds) == 2


def test_the_mirror_outlives_the_process_and_a_torn_line(keys, tmp_path):
    study, agents = make_study(keys, rounds=1), honest(keys)

    def crash(summary):
        raise CrashError

    with pytest.raises(CrashError):
        run_local(study, make_initial(), apps_of(agents), checkpoint=tmp_path, on_round=crash)
    with (tmp_path / MIRROR).open("ab") as file:
        file.write(b'{"site":"sou')
    agents["south"].counter = 0
    with pytest.raises(PeerError, match=r"round 2.*south: invalid .*rolled back"):
        run_local(study, make_initial(), apps_of(agents), checkpoint=tmp_path)
    agents["south"].counter = 1
    agents["south"].stored.clear()
    result = run_local(study, make_initial(), apps_of(agents), checkpoint=tmp_path)
    assert result.ledgers["south"].counter == 2


def test_a_checkpoint_of_another_study_or_start_is_refused(keys, tmp_path):
    run_local(make_study(keys, rounds=2), make_initial(), apps_of(honest(keys)), checkpoint=tmp_path)
    with pytest.raises(InputError, match="another study"):
        run_local(make_study(keys, name="next"), make_initial(), apps_of(honest(keys)), checkpoint=tmp_path)
    other = {name: array + 1 for name, array in make_initial().items()}
    with pytest.raises(InputError, match="another study"):
        run_local(
            make_study(keys, rounds=2),
            make_initial(),
            apps_of(honest(keys)),
            checkpoint=tmp_path,
            rules=RoundRules(average_last=2),
        )
    with pytest.raises(InputError, match="another study or start"):
        run_local(make_study(keys, rounds=2), other, apps_of(honest(keys)), checkpoint=tmp_path)


def test_an_altered_checkpoint_is_refused(keys, tmp_path):
    run_local(make_study(keys, rounds=2), make_initial(), apps_of(honest(keys)), checkpoint=tmp_path)
    (file,) = tmp_path.glob("round-*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(InputError, match="differ"):
        run_local(make_study(keys, rounds=2), make_initial(), apps_of(honest(keys)), checkpoint=tmp_path)


def test_the_first_round_of_steps_may_go_as_far_as_a_bought_start(keys):
    """Where a sum was bought first, and in that round alone; the sum itself is no part of the update."""
    plan = replace(make_study(keys, rounds=3).plan, prior_first=True)
    weights = BoughtSum.nothing(10_000).beside({"w": np.zeros(100, np.float32)})

    def bound(server_round):
        return sane_update_norm(
            plan, TrainRequest(study_digest="", server_round=server_round, weights=weights)
        )

    assert bound(2) == pytest.approx(bound(3) + 300.0)
    alone = TrainRequest(study_digest="", server_round=3, weights={"w": weights["w"]})
    assert bound(3) == sane_update_norm(plan, alone)


def test_an_honest_private_update_is_within_the_sanity_bound(keys):
    """Plain DP-SGD whose noise is as large as the plan makes it, with a batch of one.

    False alarm: the norm of d standard normals exceeds 5 sqrt(d) with probability below 1e-100 for
    d = 1000, and the seed is fixed.
    """
    plan = make_study(keys).plan
    request = TrainRequest(study_digest="", server_round=1, weights={"w": np.zeros(1000, np.float32)})
    noise = np.random.default_rng(3).standard_normal((plan.local_steps, 1000))
    steps = plan.max_grad_norm * (noise * plan.noise_multiplier + 1 / math.sqrt(1000))
    update = plan.learning_rate * steps.sum(axis=0)
    assert np.linalg.norm(update) < sane_update_norm(plan, request) < 100 * np.linalg.norm(update)
