"""The ledger's everyday life: reserve, commit, abandon, replay, audit, quota, durable order."""

import json
import os

import pytest

from synthkit.domain.audit import Verdict
from synthkit.domain.canonical import canonical_json, sha256_hex
from synthkit.domain.privacy import Adjacency, Budget, DpSgdEvent, GaussianEvent
from synthkit.errors import BudgetExceededError, InputError, LedgerError
from synthkit.privacy.accounting import admission_epsilon, reported_epsilon
from synthkit.privacy.ledger import Ledger, verify_ledger

BUDGET = Budget(epsilon=3.0, delta=1e-6)
EVENT = GaussianEvent(noise_multiplier=8.0)


@pytest.fixture
def ledger(tmp_path):
    return Ledger.create(tmp_path / "heart.jsonl", asset="heart", site="north", budget=BUDGET)


def take(ledger, study="s1", server_round=1, base="b0", events=(EVENT,), **options):
    return ledger.reserve(study=study, server_round=server_round, base_digest=base, events=events, **options)


def test_format_1_is_what_the_promise_says(ledger, tmp_path):
    ledger.commit(take(ledger), reply_digest="r1")
    lines = (tmp_path / "heart.jsonl").read_bytes().splitlines(keepends=True)
    documents = [json.loads(line) for line in lines]
    assert [document["kind"] for document in documents] == ["open", "reserve", "commit"]
    prev = "0" * 64
    for number, (line, document) in enumerate(zip(lines, documents, strict=True)):
        digest = document.pop("hash")
        assert digest == sha256_hex(canonical_json(document))
        assert line == canonical_json(document)[:-1] + f',"hash":"{digest}"}}\n'.encode()
        assert (document["v"], document["n"], document["prev"]) == (1, number, prev)
        assert document["time"].endswith("+00:00")
        prev = digest
    opening = {
        key: documents[0][key] for key in ("asset", "site", "epsilon", "delta", "adjacency", "reference")
    }
    assert opening == {
        "asset": "heart",
        "site": "north",
        "epsilon": 3.0,
        "delta": 1e-6,
        "adjacency": "add_or_remove_one_patient",
        "reference": None,
    }
    assert documents[1]["events"] == [EVENT.to_json()]
    assert ledger.head == (2, prev)


def test_golden_ledger_of_format_1_still_reads(tmp_path):
    """Bytes written by the first version: must verify and count the same for ever."""
    fields = [
        {"kind": "open", "asset": "a", "site": "s", "epsilon": 2.0, "delta": 1e-5,
         "adjacency": "add_or_remove_one_patient",
         "reference": {"kind": "dp_sgd", "noise_multiplier": 1.0, "sample_rate": 0.01, "steps": 1}},
        {"kind": "reserve", "study": "x", "server_round": 1, "base_digest": "b",
         "events": [{"kind": "gaussian", "noise_multiplier": 9.0, "count": 3}]},
        {"kind": "abandon", "reservation": 1, "reason": "crash", "refunded": False},
        {"kind": "audit", "study": "x", "table_digest": "t", "verdict": "PASS"},
        {"kind": "repair", "lost_bytes": 4, "lost_digest": "d"},
    ]  # fmt: skip
    prev, path = "0" * 64, tmp_path / "golden.jsonl"
    with path.open("wb") as handle:
        for number, document in enumerate(fields):
            document |= {"v": 1, "n": number, "prev": prev, "time": "2025-01-01T00:00:00+00:00"}
            text = json.dumps(document, sort_keys=True, separators=(",", ":"))
            prev = sha256_hex(text.encode())
            handle.write(f'{text[:-1]},"hash":"{prev}"}}\n'.encode())
    assert prev == "d43b2edda1248d6536df6f991ed5e5ca3ea88dea64fcdf27c7dcca1ed32f0af9"
    summary = verify_ledger(path, asset="a")
    assert summary.events == (GaussianEvent(noise_multiplier=9.0, count=3),)
    assert (summary.audits, summary.repairs, summary.open_reservations) == (1, 1, 0)
    assert Ledger.open(path).head == (4, prev)


def test_create_never_replaces_and_leaves_no_draft(ledger, tmp_path):
    before = (tmp_path / "heart.jsonl").read_bytes()
    with pytest.raises(LedgerError, match="already there"):
        Ledger.create(tmp_path / "heart.jsonl", asset="heart", site="north", budget=BUDGET)
    assert (tmp_path / "heart.jsonl").read_bytes() == before
    assert {entry.name for entry in tmp_path.iterdir()} == {"heart.jsonl", "heart.jsonl.lock"}


def test_reserving_stops_at_the_cap_and_writes_nothing_then(ledger):
    taken = 0
    while admission_epsilon([EVENT] * (taken + 1), 1e-6) <= 3.0:
        take(ledger, server_round=taken)
        taken += 1
    with pytest.raises(BudgetExceededError) as caught:
        take(ledger, server_round=taken)
    assert taken >= 2
    assert "asset heart: epsilon would reach" in str(caught.value)
    assert len(ledger.history()) == taken == ledger.head[0]
    assert ledger.planned_epsilon() <= 3.0
    assert admission_epsilon([EVENT] * (taken + 1), 1e-6) > 3.0


def test_study_quota_is_refused_before_the_cap(ledger):
    quota = Budget(epsilon=1.0, delta=1e-6)
    count = 0
    while admission_epsilon([EVENT] * (count + 1), 1e-6) <= 1.0:
        take(ledger, server_round=count, study_budget=quota)
        count += 1
    with pytest.raises(BudgetExceededError, match="quota"):
        take(ledger, server_round=count, study_budget=quota)
    assert count >= 1
    assert admission_epsilon(ledger.history("s1"), 1e-6) <= 1.0
    take(ledger, study="s2", study_budget=quota)
    assert ledger.history("s2") == (EVENT,)


def test_a_reservation_counts_without_outcome_and_when_abandoned(ledger):
    first, second, third = (take(ledger, server_round=number) for number in (1, 2, 3))
    ledger.commit(first, reply_digest="r")
    ledger.abandon(second, "site_stopped")
    assert ledger.history() == (EVENT,) * 3
    ledger.abandon(third, "never_started", nothing_was_drawn=True)
    assert ledger.history() == ledger.history("s1") == (EVENT,) * 2
    assert ledger.open_reservations() == ()
    assert ledger.spend().epsilon == reported_epsilon([EVENT] * 2, 1e-6)
    assert ledger.spend("nobody").epsilon == 0.0


def test_refunded_budget_can_be_taken_again(ledger):
    big = DpSgdEvent(noise_multiplier=1.26, sample_rate=1 / 32, steps=320)
    for _ in range(3):
        ledger.abandon(take(ledger, events=[big]), "never_started", nothing_was_drawn=True)
    take(ledger, events=[big])
    with pytest.raises(BudgetExceededError):
        take(ledger, events=[big])


def test_a_refunded_first_event_still_fixes_the_filters_order(ledger):
    ledger.abandon(take(ledger), "never_started", nothing_was_drawn=True)
    take(ledger, events=[DpSgdEvent(noise_multiplier=2.0, sample_rate=0.01, steps=10)])
    assert ledger._book.reference == EVENT


def test_replay_is_found_by_study_round_and_base_only(ledger):
    assert ledger.find_commit("s1", 1, "b0") is None
    reservation = take(ledger)
    assert ledger.find_commit("s1", 1, "b0") is None
    ledger.commit(reservation, reply_digest="r1")
    found = ledger.find_commit("s1", 1, "b0")
    assert found is not None
    assert (found.reply_digest, found.reservation) == ("r1", reservation)
    assert ledger.find_commit("s1", 1, "b1") is None
    assert ledger.find_commit("s1", 2, "b0") is None
    assert ledger.find_commit("s2", 1, "b0") is None


def test_one_outcome_per_reservation(ledger, tmp_path):
    reservation = take(ledger)
    ledger.commit(reservation, reply_digest="r")
    with pytest.raises(RuntimeError, match="not an open one"):
        ledger.commit(reservation, reply_digest="r")
    with pytest.raises(RuntimeError, match="not an open one"):
        ledger.abandon(reservation, "late", nothing_was_drawn=True)
    other = Ledger.create(tmp_path / "other.jsonl", asset="other", site="north", budget=BUDGET)
    with pytest.raises(RuntimeError, match="not an open one"):
        other.commit(take(ledger, server_round=2), reply_digest="r")


def test_audit_attempts_are_counted_per_study(ledger, tmp_path):
    for verdict, expected in ((Verdict.FAIL, 1), (Verdict.INVALID, 2), (Verdict.PASS, 3)):
        assert (
            ledger.record_audit(study="s1", table_digest="t", verdict=verdict, report_digest="r") == expected
        )
    assert ledger.record_audit(study="s2", table_digest="t", verdict=Verdict.PASS, report_digest="r") == 1
    again = Ledger.open(tmp_path / "heart.jsonl")
    assert (again.audit_attempts("s1"), again.audit_attempts("s2"), again.audit_attempts("s3")) == (3, 1, 0)


def test_two_openings_see_each_other_and_a_reopening_sees_all(ledger, tmp_path):
    twin = Ledger.open(tmp_path / "heart.jsonl", asset="heart")
    reservation = take(ledger)
    assert twin.open_reservations() == (reservation,)
    twin.commit(reservation, reply_digest="r")
    assert ledger.find_commit("s1", 1, "b0") is not None
    assert ledger.head == twin.head == Ledger.open(tmp_path / "heart.jsonl").head


def test_rounds_cost_what_one_uninterrupted_training_costs(ledger, tmp_path):
    event = DpSgdEvent(noise_multiplier=2.0, sample_rate=0.01, steps=6)
    for server_round in range(30):
        reopened = Ledger.open(tmp_path / "heart.jsonl")
        reopened.commit(take(reopened, server_round=server_round, events=[event]), reply_digest="r")
    whole = DpSgdEvent(noise_multiplier=2.0, sample_rate=0.01, steps=180)
    assert ledger.spend().epsilon == reported_epsilon([whole], 1e-6)


def test_exported_head_is_a_witness(ledger, tmp_path):
    take(ledger)
    head = ledger.export_head()
    assert (head["asset"], head["site"], head["format"]) == ("heart", "north", 1)
    take(ledger, server_round=2)
    summary = verify_ledger(tmp_path / "heart.jsonl", witness=(head["counter"], head["head"]), asset="heart")
    assert summary.head == ledger.head
    assert (summary.reservations, summary.open_reservations, summary.studies) == (2, 2, ("s1",))
    assert summary.spend() == ledger.spend()


def test_each_append_is_synced_before_the_call_returns(ledger, tmp_path, monkeypatch):
    """The real calls run; the wrapper only notes their order."""
    seen = []
    real_write, real_sync = os.write, os.fsync
    monkeypatch.setattr(os, "write", lambda fd, data: (seen.append("write"), real_write(fd, data))[1])
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append("fsync"), real_sync(fd))[1])
    take(ledger)
    assert seen == ["write", "fsync"]
    seen.clear()
    Ledger.create(tmp_path / "new.jsonl", asset="a", site="s", budget=BUDGET)
    assert seen == ["write", "fsync", "fsync"]


def test_replace_one_budgets_admit_no_poisson_events(tmp_path):
    budget = Budget(epsilon=3.0, delta=1e-6, adjacency=Adjacency.REPLACE_ONE_PATIENT)
    ledger = Ledger.create(tmp_path / "l.jsonl", asset="a", site="s", budget=budget)
    with pytest.raises(InputError, match="replace_one_patient"):
        take(ledger, events=[DpSgdEvent(noise_multiplier=2.0, sample_rate=0.01, steps=1)])
    take(ledger)
    assert ledger.spend().adjacency is Adjacency.REPLACE_ONE_PATIENT


@pytest.mark.parametrize(
    "events",
    [[GaussianEvent(noise_multiplier=9.0, count=True)], [GaussianEvent(noise_multiplier=9.0, count=1.5)]],
)
def test_a_callers_bug_never_reaches_the_file(ledger, events):
    with pytest.raises(TypeError):
        take(ledger, events=events)
    with pytest.raises(RuntimeError):
        take(ledger, events=[])
    with pytest.raises(InputError):
        take(ledger, study="two\nlines")
    with pytest.raises(RuntimeError):
        ledger.abandon(take(ledger), "Free text with 300 patients")
    assert ledger.head[0] == 1
