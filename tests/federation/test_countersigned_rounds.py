"""The coordinator signs where each site's ledger stood; a site whose ledger went back refuses and says so."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp
from hospital import as_bytes, found, initial
from standin import StandIn, apps_of, honest, make_initial, make_study, run_app, write_signed_study

from synthkit.cli.main import run
from synthkit.domain.audit import Verdict
from synthkit.domain.canonical import canonical_json
from synthkit.domain.witness import WitnessStatement
from synthkit.errors import InputError, LedgerError, PeerError, RollbackError, SignatureError
from synthkit.federation.messages import MOST_WITNESS_CHARACTERS, Closing, TrainRequest
from synthkit.federation.refusal import SITE_CODES, RefusalCode, code_of
from synthkit.privacy.ledger import Ledger
from synthkit.release.signing import TrustStore, generate_key, open_document, write_key
from synthkit.release.trust import TrustedKey
from synthkit_client.agent import SiteAgent
from synthkit_client.app import app, make_app
from synthkit_client.witness import stored_witness
from synthkit_server.countersign import WITNESSES, Countersigner
from synthkit_server.flower_adapter import task_identity
from synthkit_server.local_grid import LocalGrid, run_local
from synthkit_server.storage import write_weights
from synthkit_server.strategy import RoundRules
from synthkit_server.wire import WITNESS_TYPE, address_closing, pack_closing, unpack_receipt


@pytest.fixture
def hub():
    return Countersigner(key=generate_key(), name="hub")


@pytest.fixture
def hospital(tmp_path):
    return found(tmp_path).ready()


def opened(text, hub):
    """The statement in a signed text, if it is by this hub."""
    trust = TrustStore(keys=(TrustedKey(name="hub", role="coordinator", public_key=hub.key.public_key_hex),))
    document, signer = open_document(json.loads(text), "witness", trust)
    assert signer == "hub"
    return WitnessStatement.from_json(document)


def ledger_file(hospital):
    return hospital.path / "ledger.jsonl"


def witness_file(hospital):
    return hospital.path / "witness.json"


# --- what the coordinator sends


def test_each_request_states_the_reply_before_it_and_a_closing_the_last(keys, hub):
    agents = honest(keys)
    run_local(make_study(keys, rounds=3), make_initial(), apps_of(agents), countersigner=hub)
    for name, agent in agents.items():
        assert agent.witnesses[0] == ""
        stated = [opened(text, hub) for text in (*agent.witnesses[1:], *agent.noted)]
        assert [entry.ledger_counter for entry in stated] == [1, 2, 3, 4]
        assert [entry.server_round for entry in stated] == [1, 2, 3, 4]
        assert {entry.site for entry in stated} == {name}
        replies = {reply.ledger_counter: reply.ledger_head for reply in agent.stored.values()}
        assert all(replies[entry.ledger_counter] == entry.ledger_head for entry in stated)
        assert len(agent.noted) == 1


def test_a_rejected_reply_is_never_countersigned(keys, hub):
    """South's replies name another counter than they signed: the coordinator states nothing about them."""
    agents = honest(keys)
    agents["south"].after_signing = lambda reply: replace(reply, ledger_counter=reply.ledger_counter + 1)
    rules = RoundRules(min_sites=2)
    run_local(make_study(keys, rounds=2), make_initial(), apps_of(agents), rules=rules, countersigner=hub)
    assert agents["south"].witnesses == ["", "", ""]
    assert agents["south"].noted == []
    assert all(agents["north"].witnesses[1:])


def test_a_coordinator_without_a_key_states_nothing_and_sends_no_closing(keys):
    agents = honest(keys)
    run_local(make_study(keys, rounds=2), make_initial(), apps_of(agents))
    assert all(agent.witnesses == ["", "", ""] and agent.noted == [] for agent in agents.values())


class CrashError(Exception):
    pass


def test_a_coordinator_that_comes_back_states_the_same_to_the_byte(keys, hub, tmp_path):
    study, agents = make_study(keys, rounds=3), honest(keys)
    options = {"checkpoint": tmp_path, "countersigner": hub}

    def crash_after_two(summary):
        if summary.server_round == 2:
            raise CrashError

    with pytest.raises(CrashError):
        run_local(study, make_initial(), apps_of(agents), on_round=crash_after_two, **options)
    kept = {path.stem: path.read_text().strip() for path in (tmp_path / WITNESSES).iterdir()}
    assert opened(kept["north"], hub).server_round == 2
    run_local(study, make_initial(), apps_of(agents), **options)
    whole = honest(keys)
    run_local(study, make_initial(), apps_of(whole), countersigner=hub)
    for name, agent in agents.items():
        assert agent.witnesses == whole[name].witnesses
        assert agent.witnesses[2] == kept[name]
        assert (tmp_path / WITNESSES / f"{name}.json").read_text().strip() == agent.noted[-1]


def test_what_a_site_makes_of_the_closing_changes_no_result(keys, hub, caplog):
    class Deaf(StandIn):
        def note(self, closing):
            del closing
            raise RollbackError("the text stays at the site")

    agents = honest(keys) | {"south": Deaf("south", keys["south"])}
    result = run_local(make_study(keys), make_initial(), apps_of(agents), countersigner=hub)
    assert len(result.rounds) == 4
    assert "south did not note the last witness statement: rollback" in caplog.text
    assert "the text stays" not in "".join(line for line in caplog.text.splitlines() if "coordinator" in line)
    assert agents["north"].noted
    foreign = ClientApp()
    quiet = apps_of(honest(keys))

    @foreign.train()
    def train(message, context):
        return quiet["south"](message, context)

    result = run_local(
        make_study(keys), make_initial(), apps_of(honest(keys)) | {"south": foreign}, countersigner=hub
    )
    assert len(result.rounds) == 4
    assert "south did not note the last witness statement: unreachable" in caplog.text


def test_the_app_signs_with_the_studys_own_key_and_refuses_another(tmp_path, keys, caplog):
    key = generate_key()
    study_file, trust_file = write_signed_study(tmp_path, make_study(keys, rounds=1), key)
    write_weights(tmp_path / "initial.safetensors", make_initial())
    (tmp_path / "output").mkdir()
    write_key(key, tmp_path / "hub.key", None)
    write_key(generate_key(), tmp_path / "other.key", None)
    config = {
        "study-file": str(study_file),
        "trust": str(trust_file),
        "initial-file": str(tmp_path / "initial.safetensors"),
        "output-dir": str(tmp_path / "output"),
        "deadline-s": 30.0,
        "online-s": 0.2,
        "min-sites": 0,
        "average-last": 1,
    }
    agents = honest(keys)
    with pytest.raises(SignatureError, match="not the one that signed the study"):
        run_app({**config, "key-file": str(tmp_path / "other.key")}, agents)
    with pytest.raises(InputError, match="key cannot be read"):
        run_app({**config, "key-file": str(tmp_path / "absent.key")}, agents)
    assert all(agent.asked == [] for agent in agents.values())
    run_app({**config, "key-file": str(tmp_path / "hub.key")}, agents)
    assert opened(agents["west"].noted[0], Countersigner(key=key, name="hub")).ledger_counter == 2
    assert "no key-file" not in caplog.text
    (tmp_path / "second").mkdir()
    run_app({**config, "key-file": "", "output-dir": str(tmp_path / "second")}, honest(keys))
    assert "no key-file" in caplog.text


# --- what a real site does with it


def whole_study(hospital, *, on_round=None, agent=None, countersigner=True):
    hub = Countersigner(key=hospital.coordinator, name="coordinator") if countersigner else None
    return run_local(
        hospital.study,
        initial(hospital.study),
        {"north": make_app(agent)} if agent else {"north": app},
        site_dirs={"north": hospital.path},
        on_round=on_round,
        countersigner=hub,
    )


def test_after_a_study_the_site_holds_a_witness_of_its_last_commit(hospital, capsys):
    whole_study(hospital)
    stored = stored_witness(witness_file(hospital))
    assert stored.mark == hospital.ledger.head
    assert (stored.site, stored.server_round) == ("north", 3)
    command = ["budget", "verify", "--ledger", str(ledger_file(hospital))]
    command += ["--witness", str(witness_file(hospital)), "--trust", str(hospital.path / "trust.json")]
    assert run([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["witness_counter"], answer["witness_signer"]) == (6, "coordinator")


def test_without_a_coordinators_key_the_site_keeps_no_witness(hospital):
    whole_study(hospital, countersigner=False)
    assert not witness_file(hospital).exists()
    assert hospital.ledger.head[0] == 6


@pytest.mark.parametrize("restarted", [True, False])
@pytest.mark.parametrize("witness_kept", [True, False])
@pytest.mark.parametrize("regrown", [0, 3])
def test_a_ledger_put_back_between_rounds_is_refused_by_its_own_code(
    hospital, restarted, witness_kept, regrown
):
    """Also when the site's own witness was put back with it, and when the copy grew beyond the witness."""
    agent = hospital.agent()
    old = ledger_file(hospital).read_bytes()

    def put_back(summary):
        if summary.server_round != 1:
            return
        nonlocal agent
        ledger_file(hospital).write_bytes(old)
        if not witness_kept:
            witness_file(hospital).unlink(missing_ok=True)
        for number in range(regrown):
            Ledger.open(ledger_file(hospital)).record_audit(
                study="s", table_digest=f"{number}", verdict=Verdict.PASS, report_digest="r"
            )
        if restarted:
            agent = hospital.agent()

    class Current:
        def answer(self, request):
            return agent.answer(request)

    before = len(old.splitlines())
    with pytest.raises(PeerError, match="north: rollback"):
        whole_study(hospital, on_round=put_back, agent=Current())
    assert len(ledger_file(hospital).read_bytes().splitlines()) == before + regrown
    with pytest.raises(RollbackError):
        agent.answer(replace(hospital.request(2), witness=hospital.witness((2, "0" * 64))))


def test_a_running_site_refuses_a_ledger_put_back_at_every_call_not_just_the_first(hospital):
    agent = hospital.agent()
    old = ledger_file(hospital).read_bytes()
    agent.answer(hospital.request())
    ledger_file(hospital).write_bytes(old)
    for _ in range(3):
        with pytest.raises(RollbackError, match="older than its witness"):
            agent.answer(hospital.request(2))
    assert ledger_file(hospital).read_bytes() == old


def test_a_site_that_is_opened_over_an_older_ledger_stays_shut(hospital, tmp_path):
    """Offline: neither the agent, nor the release desk's ledger, nor the command line takes it."""
    old = ledger_file(hospital).read_bytes()
    whole_study(hospital)
    ledger_file(hospital).write_bytes(old)
    for opening in (hospital.agent, hospital.folder.open_ledger, lambda: SiteAgent.open(hospital.path)):
        with pytest.raises(
            RollbackError, match=r"ledger\.jsonl: the ledger is older than its witness"
        ) as caught:
            opening()
        assert caught.value.exit_code == 6
        assert code_of(caught.value) is RefusalCode.ROLLBACK in SITE_CODES
    shutil.copytree(hospital.path, tmp_path / "moved" / "north")  # where this process has no agent open yet
    with pytest.raises(PeerError, match="north: rollback"):
        whole_study(replace(hospital, path=tmp_path / "moved" / "north"))


def forgeries(hospital, mark):
    """Statements that must not count, and the error that each ends in."""
    folder, study = hospital.folder, hospital.study
    good = hospital.witness(mark)
    envelope = json.loads(good)
    other = found(hospital.path.parent / "elsewhere")

    def with_field(**changes):
        return canonical_json({**envelope, **changes}).decode()

    altered = {**envelope["document"], "ledger_counter": 1}
    return {
        "not JSON": ("hello", SignatureError),
        "nested JSON": ("[" * 2000, SignatureError),
        "a list": ("[]", SignatureError),
        "unsigned": (json.dumps(envelope["document"]), SignatureError),
        "without its signature": (with_field(signature=""), SignatureError),
        "altered": (with_field(document=altered), SignatureError),
        "by the site itself": (hospital.witness(mark, key=folder.key), SignatureError),
        "by the officer": (hospital.witness(mark, key=hospital.officer), SignatureError),
        "by an unknown coordinator": (hospital.witness(mark, key=other.coordinator), SignatureError),
        "signed as a study": (hospital.witness(mark, kind="study"), SignatureError),
        "of another site": (hospital.witness(mark, site="south"), InputError),
        "of another format": (hospital.witness(mark, format=2), InputError),
        "with a field more": (hospital.witness(mark, spend=0.5), InputError),
        "with a wrong type": (hospital.witness(mark, server_round="1"), InputError),
        "with a boolean for a number": (hospital.witness(mark, server_round=True), InputError),
        "with a head that is none": (hospital.witness((mark[0], "head")), InputError),
        "with a counter below one": (hospital.witness((0, mark[1])), InputError),
        "a study": (
            json.dumps(json.loads((folder.study_folder(study.digest) / "study.json").read_text())),
            SignatureError,
        ),
        "of an entry that is not there": (hospital.witness((99, mark[1])), RollbackError),
        "of another head": (hospital.witness((mark[0], "0" * 64)), RollbackError),
    }


def test_a_statement_that_does_not_count_is_refused_and_costs_nothing(hospital):
    """Unsigned, foreign, altered, of another site: for each a refusal, no charge, nothing stored."""
    agent = hospital.agent()
    agent.answer(hospital.request())
    mark, before = hospital.ledger.head, ledger_file(hospital).read_bytes()
    for name, (text, error) in forgeries(hospital, mark).items():
        for ask in (
            lambda text=text: agent.answer(replace(hospital.request(2), witness=text)),
            lambda text=text: agent.note(Closing(witness=text)),
        ):
            with pytest.raises(error) as caught:
                ask()
            assert type(caught.value) is error, name
            assert "\n" not in str(caught.value)
    assert not witness_file(hospital).exists()
    assert ledger_file(hospital).read_bytes() == before
    agent.answer(replace(hospital.request(2), witness=hospital.witness(mark)))
    assert stored_witness(witness_file(hospital)).mark == mark


def test_a_revoked_coordinator_states_nothing_more(hospital):
    agent = hospital.agent()
    agent.answer(hospital.request())
    trust = json.loads((hospital.path / "trust.json").read_text())
    trust["keys"][0]["revoked"] = True
    (hospital.path / "trust.json").write_text(json.dumps(trust))
    with pytest.raises(SignatureError, match="revoked"):
        agent.note(Closing(witness=hospital.witness(hospital.ledger.head)))
    assert not witness_file(hospital).exists()


def test_the_stored_witness_never_goes_back(hospital):
    """An older statement is valid and accepted, and the newer one stays where it is, to the byte."""
    agent = hospital.agent()
    marks = []
    for number in (1, 2, 3):
        agent.answer(hospital.request(number))
        marks.append(hospital.ledger.head)
    agent.note(Closing(witness=hospital.witness(marks[2])))
    newest = witness_file(hospital).read_bytes()
    for mark in (marks[0], marks[1], marks[2]):
        agent.note(Closing(witness=hospital.witness(mark, server_round=1)))
        agent.answer(replace(hospital.request(1), witness=hospital.witness(mark)))
        assert witness_file(hospital).read_bytes() == newest
    agent.note(Closing(witness=""))
    assert witness_file(hospital).read_bytes() == newest


def test_statements_that_arrive_together_leave_the_newest(hospital):
    """Many threads of one site, old and new statements mixed: never a torn file, never an older one."""
    agent = hospital.agent()
    marks = [hospital.ledger.head]
    for number in range(1, 13):
        hospital.ledger.record_audit(
            study="s", table_digest=f"{number}", verdict=Verdict.PASS, report_digest="r"
        )
        marks.append(hospital.ledger.head)
    texts = [hospital.witness(mark) for mark in marks[1:]]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: agent.note(Closing(witness=text)), [*texts[::-1], *texts, *texts[::2]]))
    assert stored_witness(witness_file(hospital)).mark == marks[-1]
    assert not list(hospital.path.glob("*.partial"))


def test_a_changed_key_does_not_lock_the_site_out_and_a_changed_witness_does(hospital):
    """The stored statement was trusted when it came; afterwards it must be unaltered, and fit."""
    whole_study(hospital)
    stored = witness_file(hospital).read_bytes()
    trust = json.loads((hospital.path / "trust.json").read_text())
    trust["keys"][0]["revoked"] = True
    (hospital.path / "trust.json").write_text(json.dumps(trust))
    assert hospital.folder.open_ledger().head[0] == 6
    witness_file(hospital).write_bytes(stored.replace(b'"server_round":3', b'"server_round":2'))
    with pytest.raises(SignatureError, match=r"witness\.json"):
        hospital.agent()
    for content in (b"", b"{}", b"\xff", stored[:100]):
        witness_file(hospital).write_bytes(content)
        with pytest.raises((InputError, SignatureError)):
            hospital.agent()


def test_a_replay_and_a_witness_go_together(hospital):
    """Asked again for the round the statement is about: the same bytes, and the statement is kept."""
    agent, request = hospital.agent(), hospital.request()
    first = agent.answer(request)
    mark = (first.ledger_counter, first.ledger_head)
    again = agent.answer(replace(request, witness=hospital.witness(mark)))
    assert as_bytes(again) == as_bytes(first)
    assert stored_witness(witness_file(hospital)).mark == mark
    assert hospital.ledger.head[0] == 2


# --- on the wire


def test_the_wire_takes_a_short_text_and_nothing_else():
    fields = {"study_digest": "d", "server_round": 1}
    request = TrainRequest.from_wire({}, {**fields, "witness": "x" * MOST_WITNESS_CHARACTERS})
    assert request.scalars()["witness"] == "x" * MOST_WITNESS_CHARACTERS
    for bad in ({}, {"witness": 7}, {"witness": "x" * (MOST_WITNESS_CHARACTERS + 1)}):
        with pytest.raises(InputError):
            TrainRequest.from_wire({}, {**fields, **bad})
        with pytest.raises(InputError):
            Closing.from_wire(bad)


def test_a_closing_is_one_record_and_its_receipt_says_nothing(keys):
    agent = StandIn("south", keys["south"])
    grid = LocalGrid({"south": make_app(agent)})
    with task_identity(run_id=1):
        good = address_closing(pack_closing(Closing(witness="text")), node_id=grid.sites["south"], ttl_s=60.0)
        content = pack_closing(Closing(witness="text"))
        content["weights"] = content["closing"]
        more = address_closing(content, node_id=grid.sites["south"], ttl_s=60.0)
        receipt, refused = grid.send_and_receive([good, more])
    assert good.metadata.message_type == WITNESS_TYPE == "query.witness"
    assert agent.noted == ["text"]
    assert unpack_receipt(receipt) is None
    assert dict(receipt.content["receipt"]) == {}
    assert unpack_receipt(refused) is RefusalCode.INPUT


def test_a_site_whose_ledger_went_back_says_one_word(hospital, tmp_path):
    """Over the real app: the reply is a code, the reason is in the site's own log."""
    old = ledger_file(hospital).read_bytes()
    whole_study(hospital)
    ledger_file(hospital).write_bytes(old)
    moved = tmp_path / "moved" / "north"
    shutil.copytree(hospital.path, moved)
    with task_identity(run_id=1):
        closing = address_closing(pack_closing(Closing(witness="")), node_id=2, ttl_s=60.0)
    context = Context(
        run_id=1, node_id=2, node_config={"site-dir": str(moved)}, state=RecordDict(), run_config={}
    )
    reply = app(closing, context)
    assert dict(reply.content["refusal"]) == {"code": "rollback"}
    assert "refused (rollback): ledger.jsonl: the ledger is older" in (moved / "agent.log").read_text()
    assert isinstance(RollbackError("x"), LedgerError)
