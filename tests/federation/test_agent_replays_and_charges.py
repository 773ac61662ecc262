"""One charge per request, however often it is asked; the same bytes each time; nobody else's rows."""

import datetime as dt
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hospital import as_bytes, every_byte, found, policy_text
from small_ward import WARD, ward_table

import synthkit_client.agent as agent_module
from synthkit.data.encoding import ColumnEncoding, fit_encoding
from synthkit.data.table import SyntheticTable
from synthkit.domain.privacy import DpSgdEvent, GaussianEvent
from synthkit.errors import LedgerError
from synthkit.release.signing import check_signature


@pytest.fixture
def hospital(tmp_path):
    return found(tmp_path).ready()


def test_a_hundred_and_one_equal_requests_get_equal_bytes_for_one_charge(hospital):
    """The first is trained; of a hundred replays half come from a running agent, half each from one
    started anew, the last ten of them without the table."""
    running, request = hospital.agent(), hospital.request()
    replies = [running.answer(request) for _ in range(51)]
    replies += [hospital.agent().answer(request) for _ in range(40)]
    hospital.table.unlink()
    replies += [hospital.agent().answer(request) for _ in range(10)]
    assert len(replies) == 101
    assert len({as_bytes(reply) for reply in replies}) == 1
    assert len({reply.signature for reply in replies}) == 1
    reply = replies[0]
    key = hospital.folder.key.public_key_hex
    check_signature(key, reply.signed_text(), reply.signature, where="test")
    plan = hospital.study.plan
    assert hospital.ledger.history() == plan.round_events(1)
    assert hospital.ledger.head == (2, reply.ledger_head)


def test_a_replay_between_later_rounds_is_still_the_same(hospital):
    agent, request = hospital.agent(), hospital.request()
    first = agent.answer(request)
    agent.answer(hospital.request(2))
    assert as_bytes(agent.answer(request)) == as_bytes(first)
    assert hospital.ledger.head[0] == 4


def test_other_base_weights_are_another_charge_and_other_noise(hospital):
    agent = hospital.agent()
    one, other = agent.answer(hospital.request(seed=0)), agent.answer(hospital.request(seed=1))
    assert one.base_digest != other.base_digest
    assert len(hospital.ledger.history()) == 2
    moved = replace(hospital.request(), weights=one.weights)
    assert agent.answer(moved).base_digest not in (one.base_digest, other.base_digest)
    assert len(hospital.ledger.history()) == 3


def test_a_base_changed_in_its_last_bit_is_another_request(hospital):
    agent, request = hospital.agent(), hospital.request()
    agent.answer(request)
    weights = {name: array.copy() for name, array in request.weights.items()}
    weights["decoder.linear.bias"][0] = np.nextafter(weights["decoder.linear.bias"][0], np.float32(9))
    agent.answer(replace(request, weights=weights))
    assert len(hospital.ledger.history()) == 2


def test_the_whole_plan_costs_what_the_plan_says(hospital):
    agent, request = hospital.agent(), hospital.request()
    for server_round in range(1, hospital.study.plan.server_rounds + 1):
        reply = agent.answer(replace(request, server_round=server_round))
        request = replace(request, weights=reply.weights)
    history = hospital.ledger.history()
    steps = sum(event.steps for event in history if isinstance(event, DpSgdEvent))
    assert steps == hospital.study.plan.total_steps
    assert [type(event) for event in history] == [DpSgdEvent, DpSgdEvent, GaussianEvent]
    assert hospital.ledger.open_reservations() == ()


def test_the_priors_round_leaves_every_trained_weight_alone(hospital):
    request = hospital.request(3)
    weights = hospital.agent().answer(request).weights
    changed = {name for name, array in weights.items() if not np.array_equal(array, request.weights[name])}
    assert changed == {"prior_mean", "prior_moment"}


def test_the_training_rounds_leave_the_prior_and_the_projection_alone(hospital):
    request = hospital.request(1)
    weights = hospital.agent().answer(request).weights
    kept = {name for name, array in weights.items() if np.array_equal(array, request.weights[name])}
    assert kept == {"prior_mean", "prior_moment", "projection"}


def test_two_sites_with_the_same_rows_and_weights_share_no_noise(tmp_path):
    """Equal table, study and base: every trained coordinate differs all the same."""
    replies = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        hospital = found(tmp_path / name).ready()
        np.random.seed(0)
        replies.append(hospital.agent().answer(hospital.request()).weights)
    for name in ("decoder.linear.weight", "encoder.0.weight"):
        assert (replies[0][name] != replies[1][name]).mean() > 0.99


@pytest.mark.parametrize("spoil", ["missing", "altered", "another's"])
def test_a_stored_reply_that_is_not_the_recorded_one_is_never_sent(hospital, spoil):
    agent = hospital.agent()
    agent.answer(hospital.request())
    agent.answer(hospital.request(2))
    stored = sorted((hospital.path / "studies" / hospital.study.digest / "replies").iterdir())
    for path, other in zip(stored, stored[::-1], strict=True):
        if spoil == "missing":
            path.unlink()
        elif spoil == "altered":
            path.write_bytes(path.read_bytes()[:-1] + b"\xff")
        else:
            path.with_suffix(".swap").write_bytes(other.read_bytes())
    for path in stored if spoil == "another's" else []:
        path.with_suffix(".swap").replace(path)
    with pytest.raises(LedgerError):
        hospital.agent().answer(hospital.request())
    assert len(hospital.ledger.history()) == 2


CANARIES = {"icu-canary-7731", "canary-stage-0042"}


def test_cells_never_leave_the_table(tmp_path, caplog):
    """Values that occur in the table alone, searched byte by byte in all that the site makes or says.

    False alarm: seven or eight given bytes within less than a megabyte, below 1e-9.
    """
    marked = ward_table(120).frame.assign(troponin=40_777.3, follow_up=1_733.0)
    table = SyntheticTable(schema=WARD, frame=marked).to_csv_bytes()
    hospital = found(tmp_path, table=table).ready()
    replies = [hospital.agent().answer(hospital.request(number)) for number in (1, 2, 3)]
    made = every_byte(hospital.path, but=("patients.csv",)) + b"".join(map(as_bytes, replies))
    assert b"40777.3" in table
    assert b"40777.3" not in made
    for value in (40_777.3, 1_733.0):
        for kind in (np.float64, np.int64):
            assert np.array([value]).astype(kind).tobytes() not in made
    assert "1733" not in caplog.text


def test_errors_and_the_agents_log_quote_no_cell(tmp_path):
    """A table with cells that do not fit, asked over the wire: the site's log names column and rule only."""
    from synthkit_client.app import app
    from synthkit_server.local_grid import run_local
    from synthkit_server.strategy import RoundRules

    good = SyntheticTable(schema=WARD, frame=ward_table(120).frame).to_csv_bytes()
    bad = good.replace(b"icu", b"icu-canary-7731").replace(b",II,", b",canary-stage-0042,")
    assert all(canary.encode() in bad for canary in CANARIES)
    hospital = found(tmp_path, table=bad).ready()
    try:
        run_local(
            hospital.study,
            hospital.request().weights,
            {"north": app},
            site_dirs={"north": hospital.path},
            rules=RoundRules(min_sites=1),
        )
        said = ""
    except Exception as error:
        said = f"{error!r} {error.__cause__!r} {error.__context__!r}"
    assert "north" in said
    log = (hospital.path / "agent.log").read_text()
    assert "refused (input)" in log
    written = every_byte(hospital.path, but=("patients.csv",)).decode("latin-1") + said + log
    assert not [canary for canary in CANARIES if canary in written]
    assert len(hospital.ledger.history()) == 0


def test_a_made_models_header_holds_no_cell(tmp_path):
    """The artefact is made of the schema and weights; the table's own values are not in its bytes."""
    from synthkit.cli.federation import model_of
    from synthkit.training.artefact import save_model
    from synthkit_server.result import FederationResult

    table = ward_table(120)
    frame = table.frame.assign(troponin=40_777.3)
    hospital = found(tmp_path, table=SyntheticTable(schema=WARD, frame=frame).to_csv_bytes()).ready()
    weights = hospital.agent().answer(hospital.request()).weights
    result = FederationResult(study_digest=hospital.study.digest, weights=weights, rounds=(), ledgers={})
    save_model(model_of(hospital.study, result, hospital.ledger.spend()), tmp_path / "model")
    made = every_byte(tmp_path / "model")
    assert b"40777.3" not in made
    assert np.float64(40_777.3).tobytes() not in made


def test_only_members_are_ever_encoded(hospital, monkeypatch):
    """What three rounds encode is the members' rows, once; no row of holdout or reference among them."""
    split = hospital.folder.read_split(WARD)
    expected, others = (
        {tuple(row) for part in parts for row in fit_encoding(WARD).encode(part).tolist()}
        for parts in ((split.members,), (split.holdout, split.reference))
    )
    encoded = []
    encode = ColumnEncoding.encode

    def watched(self, values):
        encoded.append(encode(self, values))
        return encoded[-1]

    monkeypatch.setattr(ColumnEncoding, "encode", watched)
    agent = hospital.agent()
    for number in (1, 2, 3):
        agent.answer(hospital.request(number))
    assert len(encoded) == len(WARD), "each column once, for all rounds"
    rows = {tuple(row) for row in np.column_stack(encoded).tolist()}
    assert rows == expected
    assert not rows & others


def test_today_is_the_sites_own_clock(hospital, monkeypatch):
    """The day after the study's last day, the same agent refuses."""
    from synthkit.errors import PolicyError

    study = replace(hospital.study, expires=dt.date(2027, 5, 1))
    hospital.ready(study)
    agent = hospital.agent()

    class Late(dt.date):
        @classmethod
        def today(cls):
            return cls(2027, 5, 2)

    monkeypatch.setattr(agent_module, "dt", SimpleNamespace(date=Late))
    with pytest.raises(PolicyError, match=r"study\.expires"):
        agent.answer(hospital.request(study=study))


def test_the_policy_of_a_ledger_is_for_life(tmp_path):
    """A wider cap in a newly signed policy does not reopen the ledger."""
    from synthkit.errors import InputError

    hospital = found(tmp_path).ready()
    (hospital.path / "policy.toml").write_text(policy_text(epsilon="20.0"))
    with pytest.raises(InputError, match="cap is not the policy's"):
        hospital.agent()
