"""An officer's decisions, a site's checks, and services that are not started, without a network."""

import http.server
import json
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from three_hospitals import (
    HOSPITALS,
    POLICIES,
    altered,
    files_of,
    stranger,
)

from synthkit.cli.federation import initial_weights
from synthkit.domain.privacy import DpSgdEvent
from synthkit.domain.study import Study
from synthkit.errors import PeerError, PolicyError
from synthkit.federation.messages import TrainRequest
from synthkit.federation.pki import create_authority, create_server_certificate
from synthkit.privacy.ledger import Ledger, verify_ledger
from synthkit.release.signing import generate_key, seal_document
from synthkit_client.agent import SiteAgent
from synthkit_client.reach import reach


def decide(synthkit, *more, study="study.json", site="va"):
    return synthkit("site", "approve", study, "--folder", site, *more)


def request_of(study):
    return TrainRequest(study_digest=study.digest, server_round=1, weights=initial_weights(study, None))


def test_an_undecided_or_refused_study_reads_no_row(region, synthkit):
    study = Study.from_json(json.loads(Path("study.json").read_text())["document"])
    Path("va/patients.csv.gz").unlink()  # whoever reads it fails otherwise than by the rule
    agent = SiteAgent.open(region / "va")
    with pytest.raises(PolicyError, match=r"\[rule study\.approved\]"):
        agent.answer(request_of(study))
    assert decide(synthkit, "--refuse", "no ethics vote yet").code == 0
    with pytest.raises(PolicyError, match=r"\[rule study\.approved\]"):
        agent.answer(request_of(study))
    assert decide(synthkit).code == 0
    with pytest.raises(Exception, match=r"patients\.csv\.gz"):  # now it would read
        agent.answer(request_of(study))
    assert decide(synthkit, "--refuse", "the vote was withdrawn").code == 0
    with pytest.raises(PolicyError, match=r"\[rule study\.approved\]"):
        agent.answer(request_of(study))
    assert verify_ledger(Path("va/ledger.jsonl")).reservations == 0
    (entry,) = synthkit("study", "status", "va", "--json").document["studies"]
    assert (entry["decision"], entry["reason"]) == ("refused", "the vote was withdrawn")
    lines = Path("va/decisions.jsonl").read_text().splitlines()
    log = [json.loads(line)["decision"]["kind"] for line in lines]
    assert log == ["study-refusal", "study-approval", "study-refusal"]


def test_an_approval_says_what_it_costs_and_a_digest_is_enough_later(region, synthkit):
    answer = decide(synthkit, "--json")
    assert answer.code == 0, answer.err
    assert 1.9 < answer.document["planned_epsilon"] <= 2
    assert answer.document["left_epsilon"] == 8
    assert "What leaves each site" in answer.err
    again = decide(synthkit, study=answer.document["digest"][:12])
    assert again.code == 0
    assert decide(synthkit, study="0000").code == 4


def test_a_policy_that_forbids_is_named_and_nothing_is_recorded(region, synthkit):
    policy = Path("va/policy.toml")
    policy.write_text(policy.read_text().replace("max_epsilon = 4.0", "max_epsilon = 1.0"))
    answer = decide(synthkit)
    assert (answer.code, "policy.signature" in answer.error) == (1, True)
    words = ("--name", "va privacy officer", "--key", "va/keys/officer.key", "--force")
    assert synthkit("policy", "sign", "va/policy.toml", *words).code == 0
    answer = decide(synthkit)
    assert (answer.code, "[rule study.max_epsilon]" in answer.error) == (1, True)
    assert not list(Path("va/studies").rglob("approval.json"))


def test_an_approval_is_void_under_another_policy(region, synthkit):
    assert decide(synthkit).code == 0
    policy = Path("va/policy.toml")
    policy.write_text(policy.read_text().replace("max_epsilon = 4.0", "max_epsilon = 3.0"))
    words = ("--name", "va privacy officer", "--key", "va/keys/officer.key", "--force")
    assert synthkit("policy", "sign", "va/policy.toml", *words).code == 0
    (entry,) = synthkit("site", "status", "--folder", "va", "--json").document["studies"]
    assert entry["decision"] == "approval void"


def test_a_study_that_the_budget_has_no_room_for_is_not_approved(region, synthkit):
    book = Ledger.open(Path("va/ledger.jsonl"))
    event = DpSgdEvent(noise_multiplier=1.5, sample_rate=0.25, steps=56)
    book.reserve(study="an earlier one", server_round=1, base_digest="b", events=(event,))
    assert 7.5 < book.planned_epsilon() < 8
    answer = decide(synthkit)
    assert (answer.code, "epsilon would reach" in answer.error) == (5, True), answer.err
    assert not list(Path("va/studies").rglob("approval.json"))
    answer = synthkit("study", "explain", "study.json", "--ledger", "va/ledger.jsonl", "--json")
    assert (answer.code, answer.document["ledger"]["has_room"]) == (5, False)


def test_nobody_but_an_officer_decides(region, synthkit):
    answer = decide(synthkit, "--key", "va/keys/site.key")
    assert (answer.code, "privacy officer" in answer.error) == (6, True)
    answer = decide(synthkit, "--key", "hungarian/keys/officer.key", "--refuse", "x")
    assert answer.code == 6
    assert decide(synthkit, "--officer", "nobody").code == 4
    assert decide(synthkit, "--refuse", " ").code == 4
    stolen = generate_key()
    forged = seal_document(
        json.loads(Path("study.json").read_text())["document"], "study", stolen, "coordinator"
    )
    Path("forged.json").write_text(json.dumps(forged))
    answer = decide(synthkit, study="forged.json")
    assert (answer.code, "unknown key" in answer.error) == (6, True)


def test_an_altered_study_is_told_of_and_no_longer_listed(region, synthkit):
    digest = decide(synthkit, "--json").document["digest"]
    altered(Path(f"va/studies/{digest}/study.json"), lambda e: e["document"].update(purpose="another"))
    document = synthkit("site", "status", "--folder", "va", "--json").document
    assert (document["studies"], document["unreadable_studies"]) == ([], [digest])
    assert "was altered" in synthkit("site", "status", "--folder", "va").out


def test_explain_says_what_your_papers_say(region, synthkit):
    answer = synthkit(
        "study", "explain", "study.toml", "--policy", "policy.toml", "--ledger", "va/ledger.jsonl"
    )
    assert answer.code == 0, answer.err
    for words in (
        "Asked of 3 sites",
        "va: 150 patients",
        "This is a draft",
        "allows this study",
        "room",
        "yes",
    ):
        assert words in answer.out
    answer = synthkit("study", "explain", "study.json", "--policy", str(POLICIES / "strict.toml"), "--json")
    assert (answer.code, answer.document["policy"]["allowed"]) == (1, False)
    assert answer.document["policy"]["rule"]
    assert answer.document["signed_by"] == "coordinator"
    altered(Path("study.json"), lambda study: study["document"].update(purpose="another"))
    assert synthkit("study", "explain", "study.json").code == 6


def test_what_is_no_study_is_said_to_be_none_and_no_schema_is_asked_for(tmp_path, synthkit):
    (tmp_path / "own.toml").write_text((POLICIES / "strict.toml").read_text("utf-8"), "utf-8")
    answer = synthkit("study", "explain", str(tmp_path / "own.toml"))
    assert answer.code == 4
    assert "own.toml" in answer.err
    assert "known here: study, training, roster" in answer.err


# --- checks and services ------------------------------------------------------------------------------------


def findings(answer):
    return {one["check"]: one for one in answer.document["checks"]}


def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def move_hub(port):
    altered(Path("va/node/coordinator.json"), lambda known: known.update(address=f"127.0.0.1:{port}"))


class TellsTheTime(http.server.BaseHTTPRequestHandler):
    """Answers 404 and a time that is so many seconds ahead."""

    ahead_s = 0.0

    def do_GET(self):
        self.send_error(404)

    def date_time_string(self, timestamp=None):
        return super().date_time_string((timestamp or time.time()) + self.ahead_s)

    def log_message(self, *_):
        pass


@pytest.fixture
def answering(region):
    """A server with the coordinator's own certificate, which answers everything with 404 and the time."""

    server = http.server.HTTPServer(("127.0.0.1", 0), TellsTheTime)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("hub/tls/server.pem", "hub/tls/server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_preflight_is_green_when_all_is_in_place(region, synthkit, answering):
    move_hub(answering)
    before = files_of(region / "va")
    answer = synthkit("site", "preflight", "--folder", "va", "--schema", "schema.toml", "--json")
    assert (answer.code, answer.document["ready"]) == (0, True), answer.err
    assert findings(answer)["table (given)"]["code"] == 0
    assert findings(answer)["clock"]["code"] == 0
    assert set(files_of(region / "va")) - set(before) <= {Path("ledger.jsonl.lock")}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (lambda: Path("va/keys/site.key").chmod(0o644), ("file modes", 4)),
        (lambda: Path("va").chmod(0o755), ("file modes", 4)),
        (
            lambda: Path("va/policy.toml").write_text(Path("va/policy.toml").read_text() + "\n[x]"),
            ("policy", 1),
        ),
        (lambda: altered(Path("va/policy.signed.json"), lambda e: e.update(signer="x")), ("policy", 6)),
        (lambda: Path("va/ledger.jsonl").write_text("{}\n"), ("ledger", 6)),
        (lambda: Path("va/node/coordinator.json").unlink(), ("joined", 4)),
        (lambda: Path("va/patients.csv.gz").unlink(), ("table (given)", 4)),
        (lambda: move_hub(unused_port()), ("connection", 7)),
    ],
)
def test_preflight_names_each_fault_with_its_code(region, synthkit, answering, fault, expected):
    check, code = expected
    move_hub(answering)
    fault()
    answer = synthkit("site", "preflight", "--folder", "va", "--schema", "schema.toml", "--json")
    found = findings(answer)[check]
    assert (found["ok"], found["code"], answer.code) == (False, code, code), answer.err
    assert not answer.document["ready"]


def test_a_server_with_another_authoritys_certificate_is_not_the_coordinator(tmp_path, answering):
    assert reach(f"127.0.0.1:{answering}", Path("hub/tls/ca.pem")).is_clock_right
    create_server_certificate(tmp_path, create_authority(tmp_path))
    with pytest.raises(PeerError, match="another authority"):
        reach(f"127.0.0.1:{answering}", tmp_path / "ca.pem")


def test_a_clock_that_is_minutes_off_is_noticed(answering, monkeypatch):
    for seconds, is_right in ((280, True), (320, False), (-320, False)):
        monkeypatch.setattr(TellsTheTime, "ahead_s", seconds)
        found = reach(f"127.0.0.1:{answering}", Path("hub/tls/ca.pem"))
        assert found.is_clock_right is is_right, seconds


def test_an_unreachable_coordinator_ends_the_sites_service_with_7(region, synthkit):
    move_hub(unused_port())
    answer = synthkit("site", "run", "--folder", "va", "--wait", "0")
    assert (answer.code, "does not answer" in answer.error) == (7, True)


def test_a_service_that_cannot_be_right_is_not_started(region, synthkit):
    answer = synthkit("coordinator", "run", "--folder", "hub")
    assert (answer.code, "no study is waiting" in answer.error) == (4, True)
    Path("va/ledger.jsonl").write_text("{}\n")
    assert synthkit("site", "run", "--folder", "va", "--wait", "0").code == 6
    stranger(synthkit)
    answer = synthkit("site", "run", "--folder", "lausanne", "--wait", "0")
    assert (answer.code, "no coordinator yet" in answer.error) == (4, True)


def test_status_of_a_folder_that_is_neither_is_bad_input(region, synthkit):
    for words in (("study", "status", "."), ("site", "status"), ("coordinator", "status")):
        assert synthkit(*words).code == 4
    answer = synthkit("coordinator", "status", "--folder", "hub", "--json")
    assert [site["name"] for site in answer.document["sites"]] == list(HOSPITALS)
    assert answer.document["running"] is False
