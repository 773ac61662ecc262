"""Somebody with write access to the ledger's file: each tampering is refused, with one line."""

import json
import os
from pathlib import Path

import pytest

from synthkit.domain.canonical import canonical_json, sha256_hex
from synthkit.domain.privacy import Budget, GaussianEvent
from synthkit.errors import LedgerError, RollbackError
from synthkit.privacy.ledger import Ledger, verify_ledger

BUDGET = Budget(epsilon=3.0, delta=1e-6)
EVENT = GaussianEvent(noise_multiplier=30.0)


def take(ledger, server_round):
    return ledger.reserve(study="s", server_round=server_round, base_digest="b", events=[EVENT])


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger.create(path, asset="heart", site="north", budget=BUDGET)
    for server_round in range(1, 5):
        ledger.commit(take(ledger, server_round), reply_digest=f"r{server_round}")
    return path


def lines_of(path):
    return path.read_bytes().splitlines(keepends=True)


def resealed(lines):
    """A forger with the program: the same fields, every hash and number made to fit."""
    prev, result = "0" * 64, []
    for number, line in enumerate(lines):
        document = json.loads(line)
        del document["hash"]
        document |= {"n": number, "prev": prev}
        body = canonical_json(document)
        prev = sha256_hex(body)
        result.append(body[:-1] + f',"hash":"{prev}"}}\n'.encode())
    return result


def another_digit(digit):
    return b"1" if digit == b"0" else b"0"


def swap(lines):
    return [*lines[:3], lines[4], lines[3], *lines[5:]]


def reseal_one(lines):
    """An edit whose own hash was made to fit: only the next line's `prev` still knows the original."""
    document = json.loads(lines[3].replace(b"30.0", b"90.0"))
    del document["hash"]
    body = canonical_json(document)
    return [*lines[:3], body[:-1] + f',"hash":"{sha256_hex(body)}"}}\n'.encode(), *lines[4:]]


TAMPERINGS = {
    "edit_and_reseal_one": reseal_one,
    "edit_noise": lambda lines: [line.replace(b"30.0", b"90.0") for line in lines],
    "edit_cap": lambda lines: [lines[0].replace(b'"epsilon":3.0', b'"epsilon":9.0'), *lines[1:]],
    "edit_space": lambda lines: [lines[0], lines[1].replace(b'","', b'", "', 1), *lines[2:]],
    "edit_hash": lambda lines: [
        *lines[:2],
        lines[2][:-5] + another_digit(lines[2][-5:-4]) + lines[2][-4:],
        *lines[3:],
    ],
    "delete": lambda lines: lines[:3] + lines[4:],
    "delete_first": lambda lines: lines[1:],
    "reorder": swap,
    "insert_copy": lambda lines: [*lines[:4], lines[3], *lines[4:]],
    "insert_resealed_elsewhere": lambda lines: [*lines[:4], resealed(lines[:4])[3], *lines[4:]],
    "insert_blank": lambda lines: [*lines[:4], b"\n", *lines[4:]],
    "not_json": lambda lines: [*lines[:4], b"hello\n", *lines[4:]],
    "nothing": lambda lines: lines[:0],
    "crlf": lambda lines: [line[:-1] + b"\r\n" for line in lines],
}


@pytest.mark.parametrize("name", TAMPERINGS)
@pytest.mark.parametrize("read", [Ledger.open, verify_ledger])
def test_the_chain_alone_shows(path, name, read):
    before = path.read_bytes()
    path.write_bytes(b"".join(TAMPERINGS[name](lines_of(path))))
    assert path.read_bytes() != before
    with pytest.raises(LedgerError) as caught:
        read(path)
    assert caught.value.exit_code == 6
    assert "\n" not in str(caught.value)
    assert str(path.parent) not in str(caught.value)


@pytest.mark.parametrize("bit", [0, 5])
def test_a_changed_bit_is_shown_wherever_it_is(path, bit):
    data = path.read_bytes()
    for position in range(bit, len(data), 7):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :])
        with pytest.raises(LedgerError):
            verify_ledger(path)


@pytest.mark.parametrize("kept", range(1, 9))
def test_truncation_needs_the_witness_and_the_witness_shows_it(path, kept):
    witness = Ledger.open(path).head
    path.write_bytes(b"".join(lines_of(path)[:kept]))
    assert verify_ledger(path).head[0] == kept - 1  # honest limit: a prefix is a valid ledger
    with pytest.raises(LedgerError, match="older than its witness"):
        verify_ledger(path, witness=witness)
    with pytest.raises(LedgerError, match="older than its witness"):
        Ledger.open(path, witness=witness)


def test_a_fork_and_a_rewritten_chain_are_shown_by_the_witness(path):
    old = path.read_bytes()
    ledger = Ledger.open(path)
    take(ledger, 5)
    witness = ledger.head
    path.write_bytes(old)
    forked = Ledger.open(path)
    take(forked, 6)
    take(forked, 7)
    with pytest.raises(LedgerError, match="not the one the witness saw"):
        verify_ledger(path, witness=witness)
    cheaper = [line.replace(b"30.0", b"90.0") for line in lines_of(path)]
    path.write_bytes(b"".join(resealed(cheaper)))
    assert verify_ledger(path).events[0].noise_multiplier == 90.0  # honest limit without a witness
    with pytest.raises(LedgerError, match="not the one the witness saw"):
        verify_ledger(path, witness=witness)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("extra", [0, 1, 5])
def test_an_older_copy_put_back_while_the_site_runs_is_refused(path, in_place, extra):
    old = path.read_bytes()
    ledger = Ledger.open(path)
    take(ledger, 5)
    if not in_place:
        path.unlink()
    path.write_bytes(old)
    for server_round in range(extra):
        take(Ledger.open(path), 20 + server_round)
    forged = path.read_bytes()
    for _ in range(3):
        with pytest.raises(RollbackError, match="witness"):
            take(ledger, 6)
    assert path.read_bytes() == forged, "nothing is added to it, however often it is tried"


def test_the_true_ledger_put_back_is_taken_up_again(path):
    """What a running site knew survives the older copy, and lets the right file in again."""
    old = path.read_bytes()
    ledger = Ledger.open(path)
    take(ledger, 5)
    true = path.read_bytes()
    path.write_bytes(old)
    with pytest.raises(RollbackError):
        ledger.history()
    path.write_bytes(true)
    take(ledger, 6)
    assert len(ledger.history()) == 6


def test_another_assets_ledger(path):
    with pytest.raises(LedgerError, match="belongs to asset heart") as caught:
        Ledger.open(path, asset="lung")
    assert caught.value.exit_code == 6
    with pytest.raises(LedgerError, match="belongs to asset heart"):
        verify_ledger(path, asset="lung")


def forge(path, **changes):
    """Append one entry that the chain accepts but the fields of which are hostile."""
    last = json.loads(lines_of(path)[-1])
    document = {
        "v": 1,
        "n": last["n"] + 1,
        "prev": last["hash"],
        "kind": "reserve",
        "time": "2025-01-01T00:00:00+00:00",
        "study": "s",
        "server_round": 9,
        "base_digest": "b",
        "events": [EVENT.to_json()],
    } | changes
    body = json.dumps(
        {key: value for key, value in document.items() if value is not ...},
        sort_keys=True,
        separators=(",", ":"),
    ).encode()
    with path.open("ab") as handle:
        handle.write(body[:-1] + f',"hash":"{sha256_hex(body)}"}}\n'.encode())


GAUSSIAN = EVENT.to_json()
HOSTILE = [
    {"v": 2},
    {"v": True},
    {"kind": "refund"},
    {"kind": ["reserve"]},
    {"kind": "open"},
    {"extra": 1},
    {"study": ...},
    {"study": None},
    {"server_round": "1"},
    {"server_round": True},
    {"events": {}},
    {"events": []},
    {"events": [1]},
    {"events": [{}]},
    {"events": [{"kind": "laplace", "scale": 1.0}]},
    {"events": [GAUSSIAN | {"count": 1.5}]},
    {"events": [GAUSSIAN | {"count": True}]},
    {"events": [GAUSSIAN | {"count": -1}]},
    {"events": [GAUSSIAN | {"count": 10**30}]},
    {"events": [GAUSSIAN | {"noise_multiplier": -1.0}]},
    {"events": [GAUSSIAN | {"noise_multiplier": "9"}]},
    {"events": [GAUSSIAN | {"noise_multiplier": float("nan")}]},
    {"events": [GAUSSIAN | {"noise_multiplier": None}]},
    {"events": [GAUSSIAN | {"sample_rate": 0.1}]},
]
OUTCOME = {"study": ..., "server_round": ..., "base_digest": ..., "events": ...}
HOSTILE_OUTCOMES = [
    {"kind": "commit", "reservation": 1, "reply_digest": "r"},
    {"kind": "commit", "reservation": 99, "reply_digest": "r"},
    {"kind": "commit", "reservation": -1, "reply_digest": "r"},
    {"kind": "abandon", "reservation": 1, "reason": "x", "refunded": True},
    {"kind": "abandon", "reservation": 2, "reason": "x", "refunded": True},
    {"kind": "abandon", "reservation": 1, "reason": "x", "refunded": 1},
]


@pytest.mark.parametrize("changes", HOSTILE + [OUTCOME | outcome for outcome in HOSTILE_OUTCOMES])
def test_a_forged_entry_with_a_fitting_hash_is_refused_by_its_meaning(path, changes):
    forge(path, **changes)
    with pytest.raises(LedgerError, match=r"ledger\.jsonl line 10: "):
        Ledger.open(path)


def test_the_forger_of_these_tests_can_write_a_valid_entry(path):
    forge(path)
    assert len(Ledger.open(path).history()) == 5


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\x00" * 5000,
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b"{}\n",
        b"null\n",
        b'{"hash":"' + b"0" * 64,
    ],
)
def test_a_file_that_is_no_ledger_is_one_line_never_a_traceback(tmp_path, content):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(content)
    for read in (Ledger.open, verify_ledger):
        with pytest.raises(LedgerError) as caught:
            read(path)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_deeply_nested_json_with_a_fitting_hash(path):
    body = b"[" * 100_000 + b"]" * 99_999 + b"}"
    with path.open("ab") as handle:
        handle.write(body[:-1] + f',"hash":"{sha256_hex(body)}"}}\n'.encode())
    with pytest.raises(LedgerError, match="line 10: the entry is not JSON"):
        verify_ledger(path)


def test_a_torn_last_line_is_cut_recorded_and_costs_nothing(path):
    whole = path.read_bytes()
    ledger = Ledger.open(path)
    take(ledger, 5)
    line = lines_of(path)[-1]
    for kept in (1, len(line) // 2, len(line) - 1):
        path.write_bytes(whole + line[:kept])
        with pytest.raises(LedgerError, match=r"line 10: the last entry is incomplete"):
            verify_ledger(path)
        repaired = Ledger.open(path)
        assert len(repaired.history()) == 4
        entry = json.loads(lines_of(path)[-1])
        assert (entry["kind"], entry["lost_bytes"]) == ("repair", kept)
        assert entry["lost_digest"] == sha256_hex(line[:kept])
        take(repaired, 5)
        assert verify_ledger(path).repairs == 1


def test_a_tail_torn_by_another_process_is_repaired_by_a_running_site(path):
    ledger = Ledger.open(path)
    with path.open("ab") as handle:
        handle.write(b'{"half an ent')
    take(ledger, 5)
    assert verify_ledger(path).repairs == 1
    assert len(ledger.history()) == 5


def test_a_full_disk_is_one_line_and_the_ledger_stays_whole(path, monkeypatch):
    """The write really happens in part, as on a full disk, and then fails."""
    ledger = Ledger.open(path)
    real = os.write

    def partial(descriptor, data):
        real(descriptor, bytes(data)[:40])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", partial)
        with pytest.raises(LedgerError, match="cannot write the ledger: No space left on device"):
            take(ledger, 5)
    assert len(ledger.history()) == 4
    take(ledger, 5)
    assert len(Ledger.open(path).history()) == 5


def test_a_failed_sync_counts_what_may_have_reached_the_disk(path, monkeypatch):
    ledger = Ledger.open(path)

    def failing(descriptor):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(LedgerError, match="Input/output error"):
            take(ledger, 5)
    assert len(ledger.history()) == 5


@pytest.mark.parametrize("place", ["missing/l.jsonl", "file/l.jsonl", "/proc/l.jsonl"])
def test_an_unwritable_place_is_one_line(tmp_path, place):
    (tmp_path / "file").touch()
    target = tmp_path / place if not place.startswith("/") else Path(place)
    with pytest.raises(LedgerError) as caught:
        Ledger.create(target, asset="a", site="s", budget=BUDGET)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("l.jsonl: cannot create the ledger: ")
    with pytest.raises(LedgerError, match="cannot read the ledger"):
        Ledger.open(target)
    with pytest.raises(LedgerError, match="cannot read the ledger"):
        verify_ledger(target)


def test_a_deleted_lock_file_does_not_split_the_lock(path):
    ledger = Ledger.open(path)
    path.with_name("ledger.jsonl.lock").unlink()
    take(ledger, 5)
    assert len(Ledger.open(path).history()) == 5
