"""`synthkit budget verify` as an officer runs it: seven ways to tamper with a ledger, each ends with 6."""

import json

import pytest
from cli_clinic import ASSET, EVENT, STUDY_DIGEST, make_ledger

from synthkit.domain.canonical import canonical_json
from synthkit.domain.witness import WitnessStatement
from synthkit.privacy.ledger import Ledger
from synthkit.release.signing import TrustedKey, TrustStore, generate_key, seal_document

ROUNDS = 4


def spend(ledger, server_round):
    held = ledger.reserve(study=STUDY_DIGEST, server_round=server_round, base_digest="0" * 64, events=[EVENT])
    ledger.commit(held, reply_digest="1" * 64)


@pytest.fixture
def ward(clinic):
    """A ledger of several rounds, an older copy of it, and two witnesses of its head."""
    path = clinic / "ward.ledger"
    ledger = make_ledger(path)
    spend(ledger, 2)
    (clinic / "older.ledger").write_bytes(path.read_bytes())
    for server_round in range(3, ROUNDS + 1):
        spend(ledger, server_round)
    key = generate_key()
    trusted = TrustedKey(name="hub", role="coordinator", public_key=key.public_key_hex)
    (clinic / "trust.json").write_text(json.dumps(TrustStore(keys=(trusted,)).to_json()))
    (clinic / "witness.json").write_bytes(sealed(key, ledger.head))
    (clinic / "exported.json").write_bytes(canonical_json(ledger.export_head()))
    return path, key


def sealed(key, mark, *, kind="witness", site="north"):
    stated = WitnessStatement(
        study_digest=STUDY_DIGEST, server_round=4, site=site, ledger_counter=mark[0], ledger_head=mark[1]
    )
    return canonical_json(seal_document(stated.to_json(), kind, key, "hub"))


def lines_of(path):
    return path.read_bytes().splitlines(keepends=True)


def write_lines(path, lines):
    path.write_bytes(b"".join(lines))


def edit(path):
    path.write_bytes(path.read_bytes().replace(b'"steps":100', b'"steps":10', 1))


def delete(path):
    lines = lines_of(path)
    write_lines(path, lines[:3] + lines[4:])


def reorder(path):
    lines = lines_of(path)
    write_lines(path, [*lines[:3], lines[4], lines[3], *lines[5:]])


def insert(path):
    lines = lines_of(path)
    write_lines(path, [*lines[:4], lines[3], *lines[4:]])


def truncate(path):
    write_lines(path, lines_of(path)[:-2])


def fork(path):
    """From an older entry on, another history: shorter in spend, longer in entries."""
    roll_back(path)
    ledger = Ledger.open(path)
    for number in range(10):
        held = ledger.reserve(study=STUDY_DIGEST, server_round=9, base_digest=f"{number}", events=[EVENT])
        ledger.abandon(held, "stopped", nothing_was_drawn=True)


def roll_back(path):
    path.write_bytes(path.with_name("older.ledger").read_bytes())


BY_THE_CHAIN = {"edit": edit, "delete": delete, "reorder": reorder, "insert": insert}
BY_THE_WITNESS = {"truncate": truncate, "fork": fork, "roll back": roll_back}
WITNESSES = {
    "signed": ("--witness", "witness.json"),
    "signed and trusted": ("--witness", "witness.json", "--trust", "trust.json"),
    "exported": ("--witness", "exported.json"),
}


def refused(answer):
    """Code 6, one line that names the ledger, nothing on standard output."""
    assert (answer.code, answer.out) == (6, "")
    assert answer.error.startswith("error: ward.ledger")
    return answer.error


@pytest.mark.parametrize("name", BY_THE_CHAIN)
def test_the_chain_alone_shows_it(ward, synthkit, name):
    verify = ("budget", "verify", "--ledger", "ward.ledger", "--json")
    assert synthkit(*verify).document["verified"] is True
    BY_THE_CHAIN[name](ward[0])
    assert "ward.ledger line " in refused(synthkit(*verify))
    for witness in WITNESSES.values():
        refused(synthkit(*verify, *witness))


@pytest.mark.parametrize("witness", WITNESSES)
@pytest.mark.parametrize("name", BY_THE_WITNESS)
def test_the_witness_shows_it_and_the_chain_alone_cannot(ward, synthkit, name, witness):
    verify = ("budget", "verify", "--ledger", "ward.ledger", "--json")
    assert synthkit(*verify, *WITNESSES[witness]).document["witnessed"] is True
    BY_THE_WITNESS[name](ward[0])
    alone = synthkit(*verify)
    assert (alone.code, alone.document["witnessed"]) == (0, False)
    line = refused(synthkit(*verify, *WITNESSES[witness]))
    assert "not the one the witness saw" in line if name == "fork" else "older than its witness" in line


def test_without_a_witness_the_command_says_what_it_cannot_see(ward, synthkit):
    answer = synthkit("budget", "verify", "--ledger", "ward.ledger")
    assert "no witness: a ledger cut at its end or replaced by an older copy looks the same" in (
        answer.out + answer.err
    ).replace("\n", " ")


def test_a_ledger_may_be_further_on_than_its_witness(ward, synthkit):
    path, key = ward
    (path.parent / "old.json").write_bytes(sealed(key, Ledger.open("older.ledger").head))
    answer = synthkit(
        "budget", "verify", "--ledger", "ward.ledger", "--witness", "old.json", "--trust", "trust.json"
    )
    assert answer.code == 0
    document = synthkit(
        "budget", "verify", "--ledger", "ward.ledger", "--witness", "old.json", "--json"
    ).document
    assert (document["witness_counter"], document["counter"]) == (4, 2 * ROUNDS)
    assert document["witness_signer"] == "hub"


def test_whose_key_signed_is_asked_with_trust_and_said_to_be_open_without(ward, synthkit):
    path = ward[0]
    verify = ("budget", "verify", "--ledger", "ward.ledger", "--witness")
    open_question = synthkit(*verify, "witness.json")
    assert "add --trust" in (open_question.out + open_question.err).replace("\n", " ")
    assert "add --trust" not in synthkit(*verify, "witness.json", "--trust", "trust.json").err
    (path.parent / "foreign.json").write_bytes(sealed(generate_key(), Ledger.open(path).head))
    foreign = synthkit(*verify, "foreign.json", "--trust", "trust.json")
    assert (foreign.code, "unknown key" in foreign.error) == (6, True)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda text: text.replace(b'"ledger_counter":8', b'"ledger_counter":6'), 6),
        (lambda text: text.replace(b'"signer":"hub"', b'"signer":"bub"'), 6),
        (lambda text: text[:-20] + b'"}', 6),
        (lambda _text: b"[]", 4),
        (lambda _text: b"{}", 4),
        (lambda _text: b"hello", 4),
    ],
)
def test_a_witness_that_was_altered_or_is_none_proves_nothing(ward, synthkit, change, code):
    path = ward[0].with_name("witness.json")
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before
    answer = synthkit("budget", "verify", "--ledger", "ward.ledger", "--witness", "witness.json")
    assert (answer.code, answer.out) == (code, "")
    assert answer.error.startswith("error: witness.json")


def test_a_witness_of_another_kind_or_site_is_refused(ward, synthkit):
    path, key = ward
    head = Ledger.open(path).head
    verify = ("budget", "verify", "--ledger", "ward.ledger", "--witness")
    (path.parent / "study.json").write_bytes(sealed(key, head, kind="study"))
    assert synthkit(*verify, "study.json").code == 6
    (path.parent / "south.json").write_bytes(sealed(key, head, site="south"))
    other = synthkit(*verify, "south.json")
    assert (other.code, "another site" in other.error) == (6, True)


def test_an_exported_head_has_no_signature_to_trust(ward, synthkit):
    answer = synthkit(
        *("budget", "verify", "--ledger", "ward.ledger"),
        *("--witness", "exported.json", "--trust", "trust.json"),
    )
    assert (answer.code, "is not signed" in answer.error) == (4, True)
    document = synthkit(
        "budget", "verify", "--ledger", "ward.ledger", "--witness", "exported.json", "--json"
    ).document
    assert (document["asset"], document["witness_signer"]) == (ASSET, None)
