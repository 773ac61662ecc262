"""The compatibility promise, format 2: audits that bind their report, beside an entry of format 1.

The file is never written again. A change that makes one of these tests fail breaks ledgers in hospitals: it
needs a new format beside this one, never another reading of it.
"""

import json
import shutil
from pathlib import Path

import pytest

from synthkit.domain.audit import Verdict
from synthkit.domain.canonical import canonical_json, sha256_hex
from synthkit.domain.privacy import Budget, DpSgdEvent
from synthkit.errors import LedgerError
from synthkit.privacy import ledger as ledger_module
from synthkit.privacy.ledger import Ledger, verify_ledger
from synthkit.privacy.ledger_chain import seal_entry
from synthkit.privacy.ledger_verify import read_entries

LEDGER = Path(__file__).parent / "ledger-format-2.jsonl"
STUDY = sha256_hex(b"golden study")
STEPS = DpSgdEvent(noise_multiplier=2.0, sample_rate=0.02, steps=50)
UNBOUND, FIRST, LAST = 3, 4, 7
"""Numbers of its audits: one as format 1 wrote it, two that bind their report."""


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copyfile(LEDGER, tmp_path / "ledger.jsonl"))


def documents():
    return [json.loads(line) for line in LEDGER.read_bytes().splitlines()]


def rechained(entries):
    """The lines of these documents, with numbers, links and hashes that fit."""
    prev, lines = "0" * 64, []
    for number, entry in enumerate(entries):
        entry.pop("hash", None)
        body = canonical_json(entry | {"n": number, "prev": prev})
        prev = sha256_hex(body)
        lines.append(body[:-1] + f',"hash":"{prev}"}}\n'.encode())
    return b"".join(lines)


def test_the_file_is_the_one_of_format_2():
    assert (
        sha256_hex(LEDGER.read_bytes()) == "9b9e43b943db71ce5356aa3b220397083a4ff4f74ce00ab086d89ea91436df14"
    )
    assert rechained(documents()) == LEDGER.read_bytes()


def test_the_ledger_reads_with_exactly_its_spend():
    summary = verify_ledger(LEDGER, asset="golden-patients")
    assert summary.events == (STEPS, STEPS)
    assert summary.budget == Budget(epsilon=8.0, delta=1e-5)
    assert summary.head == (7, "2e1fa3225351c9ac2698cbc9f6f7971ea4973d9c6524ed170623f42e4cc0044a")
    assert (summary.commits, summary.audits, summary.refunds) == (1, 3, 0)
    assert summary.spend().epsilon == pytest.approx(0.404827, rel=1e-3)


def test_every_entry_is_written_the_same_today():
    entries = read_entries(LEDGER)
    again = [
        seal_entry(n=entry.n, prev=entry.prev, kind=entry.kind, time=entry.time, fields=entry.fields)
        for entry in entries
    ]
    assert b"".join(again) == LEDGER.read_bytes()


def test_each_audit_keeps_what_its_format_has():
    assert [entry["v"] for entry in documents()] == [1, 1, 1, 1, 2, 1, 1, 2]
    entries = read_entries(LEDGER)
    assert "report_digest" not in entries[UNBOUND].fields
    bound = [entries[number].fields["report_digest"] for number in (FIRST, LAST)]
    assert bound == [sha256_hex(b"report 2"), sha256_hex(b"report 3")]
    salts = {entries[number].fields["salt"] for number in (FIRST, LAST)}
    assert {len(bytes.fromhex(salt)) for salt in salts} == {32}
    assert len(salts) == 2


def test_it_is_opened_and_continued_without_touching_what_is_there(copy):
    ledger = Ledger.open(copy, asset="golden-patients")
    assert ledger.audit_attempts(STUDY) == 3
    attempt = ledger.record_audit(study=STUDY, table_digest="t", verdict=Verdict.PASS, report_digest="r")
    assert attempt == 4
    assert copy.read_bytes().startswith(LEDGER.read_bytes())
    assert verify_ledger(copy).audits == 4


@pytest.mark.parametrize("name", ["report_digest", "salt", "verdict", "table_digest"])
def test_an_edited_audit_is_found_by_its_hash(copy, name):
    old = documents()[LAST][name]
    new = "FAIL" if name == "verdict" else "f" * 64
    copy.write_bytes(copy.read_bytes().replace(old.encode(), new.encode()))
    with pytest.raises(LedgerError, match="line 8: the entry was altered"):
        verify_ledger(copy)


FORGED = {
    "the digest left out": (FIRST, lambda entry: entry.pop("report_digest"), "fields missing or unknown"),
    "the salt left out": (FIRST, lambda entry: entry.pop("salt"), "fields missing or unknown"),
    "called format 1": (FIRST, lambda entry: entry.update(v=1), "another format version than its fields"),
    "an old one called format 2": (
        UNBOUND,
        lambda entry: entry.update(v=2),
        "another format version than its fields",
    ),
    "format 3": (FIRST, lambda entry: entry.update(v=3), "of another format version"),
    "no version": (FIRST, lambda entry: entry.pop("v"), "of another format version"),
    "a list of versions": (FIRST, lambda entry: entry.update(v=[2]), "of another format version"),
    "true for format 1": (UNBOUND, lambda entry: entry.update(v=True), "field v has the wrong type"),
    "a digest that is none": (
        FIRST,
        lambda entry: entry.update(report_digest=None),
        "field report_digest has the wrong type",
    ),
    "a field beside": (FIRST, lambda entry: entry.update(note="x"), "fields missing or unknown"),
    "no time": (FIRST, lambda entry: entry.pop("time"), "fields missing or unknown"),
    "a commit of format 2": (2, lambda entry: entry.update(v=2), "another format version than its fields"),
}


@pytest.mark.parametrize(("number", "change", "words"), FORGED.values(), ids=FORGED.keys())
def test_what_is_of_neither_format_is_refused_whole(copy, number, change, words):
    """With hashes that fit: never read past, and never read as the format that holds less."""
    entries = documents()
    change(entries[number])
    copy.write_bytes(rechained(entries))
    with pytest.raises(LedgerError, match=words) as caught:
        verify_ledger(copy)
    assert f"line {number + 1}" in str(caught.value)


def test_no_head_after_an_audit_can_be_computed_from_its_report(tmp_path, monkeypatch):
    """Two ledgers alike to the second, same report: who knows all of it knows neither head.

    The head leaves with every statement. Without the salt it would say which of two reports was counted,
    so which of two sets of patients. Two equal salts come up with probability 2^-256.
    """
    monkeypatch.setattr(ledger_module, "_now", lambda: "2026-01-01T00:00:00+00:00")
    heads = []
    for name in ("one", "two"):
        budget = Budget(epsilon=1.0, delta=1e-5)
        ledger = Ledger.create(tmp_path / name, asset="heart", site="north", budget=budget)
        before = ledger.head
        ledger.record_audit(study="s", table_digest="t", verdict=Verdict.PASS, report_digest="r")
        heads.append((before, ledger.head))
    (first, one), (second, two) = heads
    assert first == second
    assert one != two
