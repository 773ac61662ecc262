"""A site's process killed with SIGKILL at every step: the ledger is never below what was drawn.

After each kill the site is started again. It either goes on (the stored bytes at no charge, or a new
charge and new noise) or refuses; it never answers with weights that were trained without noise.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from crash_points import POINTS, Point, after, die, note_draws, run_and_be_killed
from hospital import Hospital, as_bytes, found
from small_ward import WARD

from synthkit.data.connectors import read_table
from synthkit.data.purchase import Purchase
from synthkit.domain.audit import Verdict
from synthkit.domain.canonical import canonical_json
from synthkit.domain.privacy import DpSgdEvent, GaussianEvent
from synthkit.domain.schema import Column, Kind, Provenance, Schema
from synthkit.errors import BudgetExceededError
from synthkit.federation.messages import Closing, TrainRequest, digest_weights
from synthkit.privacy import rng
from synthkit.privacy.ledger import verify_ledger
from synthkit.training.purchasing import buy_schema
from synthkit_client.storage import write_durably
from synthkit_client.witness import stored_witness

FEW, MANY = 3, 50
"""Runs at each point by default, and of those marked slow."""

PURCHASE = Purchase(
    draft=Schema(
        name="ward",
        columns=tuple(
            Column(name="unit", kind=Kind.CATEGORICAL, provenance=Provenance.DP)
            if column.name == "unit"
            else replace(column, bins=Provenance.DP)
            if column.name == "age"
            else column
            for column in WARD
        ),
    ),
    noise_multiplier=4.0,
    failure_delta=1e-8,
)
"""Bins of one column and categories of another: two mechanisms."""


@dataclass
class Site:
    """A copy of the prepared hospital, with what its processes did noted beside it."""

    hospital: Hospital
    drawn: Path
    sent: Path
    request: TrainRequest

    @property
    def ledger_path(self) -> Path:
        return self.hospital.path / "ledger.jsonl"

    @property
    def witness_path(self) -> Path:
        return self.hospital.path / "witness.json"

    @property
    def bought_path(self) -> Path:
        return self.hospital.path / "schema.json"

    def draws(self) -> bytes:
        """One byte for each sample (s) and each draw of noise (n), by any process."""
        return self.drawn.read_bytes() if self.drawn.exists() else b""

    def state(self) -> tuple:
        """What a verified ledger says, without repairing it."""
        summary = verify_ledger(self.ledger_path)
        return summary.reservations, summary.commits, summary.events


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A hospital that has answered round 1 and knows its witness, and the reply."""
    hospital = found(tmp_path_factory.mktemp("prepared")).ready()
    shutil.copytree(hospital.path, hospital.path.with_name("fresh"))
    reply = hospital.agent().answer(hospital.request())  # also warms up what every child needs
    return hospital, reply


@pytest.fixture
def new_site(prepared, tmp_path, monkeypatch):
    """Makes the site of one run. Its draws are noted by every process from now on."""
    hospital, reply = prepared
    torch.set_num_threads(1)
    current = {}

    def make(scene: str, run: int) -> Site:
        root = tmp_path / str(run)
        fresh = scene not in ("replay", "witness", "closing")
        shutil.copytree(hospital.path.with_name("fresh") if fresh else hospital.path, root / "north")
        copy = replace(hospital, path=root / "north")
        request = hospital.request({"prior": 3, "witness": 2}.get(scene, 1))
        if scene == "witness":
            mark = (reply.ledger_counter, reply.ledger_head)
            request = replace(request, witness=copy.witness(mark))
        current["drawn"] = root / "drawn"
        return Site(hospital=copy, drawn=root / "drawn", sent=root / "sent", request=request)

    class Noted:
        """The path of the current run's note, looked up at each draw."""

        def open(self, *arguments, **options):
            return current["drawn"].open(*arguments, **options)

    note_draws(Noted(), monkeypatch)
    return make


# --- what the process does when it is killed


def answer(site: Site, arm: Callable[[], None]) -> None:
    agent = site.hospital.agent()
    arm()
    agent.answer(site.request)


def answer_and_send(site: Site, arm: Callable[[], None]) -> None:
    arm()
    site.sent.write_bytes(as_bytes(site.hospital.agent().answer(site.request)))
    die()


def repair(site: Site, arm: Callable[[], None]) -> None:
    line = site.ledger_path.read_bytes().splitlines(keepends=True)[-1]
    with site.ledger_path.open("ab") as file:
        file.write(line[: len(line) // 2])
    arm()
    site.hospital.agent()


def note_closing(site: Site, arm: Callable[[], None]) -> None:
    agent = site.hospital.agent()
    arm()
    agent.note(Closing(witness=site.hospital.witness(site.hospital.ledger.head)))


def audit(site: Site, arm: Callable[[], None]) -> None:
    ledger = site.hospital.ledger
    arm()
    ledger.record_audit(study="s", table_digest="t", verdict=Verdict.PASS, report_digest="r")


def purchase(site: Site, arm: Callable[[], None]) -> None:
    ledger = site.hospital.ledger
    arm()
    buy_schema(
        read_table(site.hospital.table, PURCHASE.draft, is_draft=True),
        PURCHASE,
        ledger=ledger,
        quota=ledger.budget,
        store=lambda schema: write_durably(site.bought_path, canonical_json(schema.to_json())),
    )


def refund(site: Site, arm: Callable[[], None]) -> None:
    ledger = site.hospital.ledger
    arm()
    event = GaussianEvent(noise_multiplier=20.0)
    held = ledger.reserve(study="s", server_round=1, base_digest="b", events=[event])
    ledger.abandon(held, "stopped", nothing_was_drawn=True)


SCENES = {
    "round": answer,
    "sent": answer_and_send,
    "prior": answer,
    "replay": answer,
    "repair": repair,
    "witness": answer,
    "closing": note_closing,
    "audit": audit,
    "purchase": purchase,
    "refund": refund,
}


# --- what has to hold afterwards


def check_covers_the_truth(site: Site) -> None:
    """Every sample and every draw of noise so far is paid for, whatever was interrupted."""
    events, draws = verify_ledger(site.ledger_path).events, site.draws()
    steps = sum(event.steps for event in events if isinstance(event, DpSgdEvent))
    assert draws.count(b"s") <= steps
    assert not draws or events


def check_after_the_kill(site: Site, point: Point, before: tuple) -> None:
    """What the point promises of the ledger, right after it was opened again and repaired."""
    reservations, commits, events = site.state()
    new = reservations - before[0]
    spent_new = (len(events) - len(before[2])) / (len(PURCHASE.events) if point.scene == "purchase" else 1)
    if point.scene in ("round", "sent", "prior", "purchase"):
        assert new in ((0, 1) if point.reserved is None else (int(point.reserved),))
        done = commits - before[1]
        assert done in ((0, 1) if point.committed is None else (int(point.committed),))
        assert spent_new == new >= int(bool(site.draws())), "a reservation without outcome is spent"
    elif point.scene == "refund":
        assert (new, spent_new) == (1, 1), "a refund that is not whole refunds nothing"
    elif point.scene == "witness":
        assert (new, site.draws()) == (0, b"")
    else:
        assert (new, commits, events, site.draws()) == (0, before[1], before[2], b"")
    check_covers_the_truth(site)


def check_goes_on(site: Site) -> None:
    """The same request again: stored bytes without a charge, or a charge and fresh noise. Then a replay."""
    request = site.request
    base = digest_weights(request.weights)
    committed = site.hospital.ledger.find_commit(request.study_digest, request.server_round, base)
    before, drawn = site.state(), site.draws()
    reply = site.hospital.agent().answer(site.request)
    after_it, drawn_now = site.state(), site.draws()[len(drawn) :]
    if committed is not None:
        assert (after_it, drawn_now) == (before, b"")
        if site.sent.exists():
            assert site.sent.read_bytes() == as_bytes(reply)
    else:
        plan = site.hospital.study.plan
        assert after_it[2] == before[2] + plan.round_events(site.request.server_round)
        assert b"n" in drawn_now, "weights that left were trained with noise drawn for them"
        assert drawn_now.count(b"s") == (0 if site.request.server_round == 3 else plan.local_steps)
    check_covers_the_truth(site)
    assert as_bytes(site.hospital.agent().answer(site.request)) == as_bytes(reply)
    assert site.state() == after_it


def kill_once(site: Site, point: Point, generator: np.random.Generator) -> None:
    before, witness = site.state(), stored_witness(site.witness_path)
    run_and_be_killed(lambda: SCENES[point.scene](site, lambda: point.trap(generator)))
    ledger = site.hospital.agent().ledger  # opens, repairs, and checks the stored witness
    check_after_the_kill(site, point, before)
    now = stored_witness(site.witness_path)
    assert witness is None or now == witness
    assert verify_ledger(site.ledger_path, witness=now.mark if now else None).head == ledger.head
    if point.scene in ("round", "sent", "prior", "replay", "witness"):
        check_goes_on(site)
    if point.scene == "purchase":
        done = site.state()
        purchase(site, lambda: None)
        assert site.state()[:2] == (done[0] + 1, done[1] + 1), "bought again is paid again"
    if point.scene == "audit":
        assert ledger.audit_attempts("s") <= 1
        ledger.record_audit(study="s", table_digest="t", verdict=Verdict.PASS, report_digest="r")
    if point.scene == "closing":
        site.hospital.agent().note(Closing(witness=site.hospital.witness(ledger.head)))
        assert stored_witness(site.witness_path).mark == ledger.head


def run_point(new_site, name: str, runs: range) -> None:
    point = POINTS[name]
    for run in runs:
        site = new_site(point.scene, run)
        kill_once(site, point, np.random.default_rng([list(POINTS).index(name), run]))
        shutil.rmtree(site.hospital.path.parent)


@pytest.mark.parametrize("name", POINTS)
def test_killed_there_the_charge_is_kept_and_the_site_goes_on_or_refuses(new_site, name):
    run_point(new_site, name, range(FEW))


@pytest.mark.slow
@pytest.mark.parametrize("name", POINTS)
def test_killed_there_fifty_times(new_site, name):
    """Torn lines and partial files are cut at another byte each time."""
    run_point(new_site, name, range(FEW, FEW + MANY))


def test_a_site_killed_again_and_again_pays_for_each_attempt(new_site):
    """Ten kills at ten points of the same round, one after the other, on one ledger."""
    site = new_site("round", 0)
    names = [name for name, point in POINTS.items() if point.scene == "round" and not point.committed][:10]
    for place, name in enumerate(names):
        generator = np.random.default_rng(place)
        run_and_be_killed(lambda name=name, g=generator: answer(site, lambda: POINTS[name].trap(g)))
        site.hospital.agent()
        check_covers_the_truth(site)
    check_goes_on(site)
    assert len(site.hospital.ledger.open_reservations()) >= 6


def test_a_round_that_keeps_crashing_runs_out_of_budget(tmp_path):
    """Each restart charges anew; when the quota is gone the site refuses and draws nothing."""
    hospital = found(tmp_path)
    study = hospital.with_plan(noise_multiplier=1.5, sample_rate=0.3, local_steps=4, rounds=1)
    hospital.ready(study)
    request = hospital.request(study=study)

    def one_round() -> None:
        agent = hospital.agent()
        after(rng, "poisson_sample")(None)
        agent.answer(request)

    crashes = 0
    while crashes < 30:
        try:
            run_and_be_killed(one_round)
        except AssertionError:
            break
        crashes += 1
    assert 1 <= crashes == len(hospital.ledger.history()) < 30
    with pytest.raises(BudgetExceededError):
        hospital.agent().answer(request)
    assert hospital.ledger.spend(study.digest).epsilon <= 4.0
