"""The compatibility promise, held against files: a ledger and a witness of format 1 read exactly as now.

Neither file is ever written again. A change that makes one of these tests fail breaks ledgers in
hospitals: it needs a new format beside this one, never another reading of it.
"""

import json
import shutil
from pathlib import Path

import pytest

from synthkit.domain.canonical import sha256_hex
from synthkit.domain.privacy import Budget, DpSgdEvent, GaussianEvent, GaussianThresholdEvent
from synthkit.domain.witness import WitnessStatement
from synthkit.errors import LedgerError, RollbackError
from synthkit.privacy.ledger import Ledger, verify_ledger
from synthkit.privacy.ledger_chain import seal_entry
from synthkit.privacy.ledger_verify import read_entries
from synthkit.release.signing import check_envelope

HERE = Path(__file__).parent
LEDGER, WITNESS = HERE / "ledger-format-1.jsonl", HERE / "witness-format-1.json"

STUDY, PURCHASE = sha256_hex(b"golden study"), sha256_hex(b"golden purchase")
STEPS = DpSgdEvent(noise_multiplier=2.0, sample_rate=0.02, steps=50)
PRIOR = GaussianEvent(noise_multiplier=12.5)
BOUGHT = (
    GaussianEvent(noise_multiplier=40.0, count=3),
    GaussianThresholdEvent(noise_multiplier=25.0, failure_delta=1e-9),
)
SPENT = (*BOUGHT, STEPS, STEPS, STEPS, PRIOR, PRIOR)
"""Two rounds of steps were committed and one crashed; of three priors one was refunded."""


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copyfile(LEDGER, tmp_path / "ledger.jsonl"))


def test_the_files_are_the_ones_of_format_1():
    assert (
        sha256_hex(LEDGER.read_bytes()) == "86b47c40338e9d43fa22c958fc36e7ab6ecdcc82c6556c24247658451e60e31a"
    )
    assert (
        sha256_hex(WITNESS.read_bytes()) == "f3c45b18131e9a90cffeebe69beea50632c3eb8f27e8a11de94849bc3b398ad1"
    )


def test_the_ledger_reads_with_exactly_its_spend():
    summary = verify_ledger(LEDGER, asset="golden-patients")
    assert summary.events == SPENT
    assert summary.budget == Budget(epsilon=8.0, delta=1e-5)
    assert (summary.site, summary.head[0]) == ("north", 16)
    assert summary.head[1] == "d21006ec555166121c7f97e10b86d0e5432a7a1d2d4a91cbf038d3d1e21e495c"
    assert set(summary.studies) == {PURCHASE, STUDY}
    counts = (summary.reservations, summary.commits, summary.open_reservations, summary.refunds)
    assert counts == (7, 4, 1, 1)
    assert (summary.audits, summary.repairs) == (2, 1)


def test_what_the_spend_costs_has_not_become_less():
    """Reported by the accountant of the day it was written, to the accountant's own grid."""
    assert verify_ledger(LEDGER).spend().epsilon == pytest.approx(0.678766, rel=1e-3)


def test_every_kind_of_entry_is_in_it_and_is_written_the_same_today():
    entries = read_entries(LEDGER)
    assert {entry.kind for entry in entries} == {"open", "reserve", "commit", "abandon", "audit", "repair"}
    again = [
        seal_entry(n=entry.n, prev=entry.prev, kind=entry.kind, time=entry.time, fields=entry.fields)
        for entry in entries
    ]
    assert b"".join(again) == LEDGER.read_bytes()


def test_it_is_opened_and_continued_without_touching_what_is_there(copy):
    ledger = Ledger.open(copy, asset="golden-patients")
    assert ledger.history(STUDY) == SPENT[2:]
    assert ledger.history(PURCHASE) == BOUGHT
    assert [held.number for held in ledger.open_reservations()] == [5]
    assert ledger.audit_attempts(STUDY) == 2
    found = ledger.find_commit(STUDY, 2, sha256_hex(b"golden base 2"))
    assert (found.number, found.reply_digest) == (8, sha256_hex(b"reply 2"))
    assert ledger.find_commit(STUDY, 3, sha256_hex(b"golden base 3")) is None, "it was abandoned"
    ledger.commit(ledger.open_reservations()[0], reply_digest="late")
    assert copy.read_bytes().startswith(LEDGER.read_bytes())
    assert verify_ledger(copy).events == SPENT


def test_a_witness_of_format_1_still_speaks_for_it(copy):
    statement = WitnessStatement.from_json(
        check_envelope(json.loads(WITNESS.read_text()), "witness")["document"]
    )
    assert (statement.site, statement.server_round, statement.study_digest) == ("north", 2, STUDY)
    assert verify_ledger(copy, witness=statement.mark).head[0] == 16
    copy.write_bytes(b"".join(copy.read_bytes().splitlines(keepends=True)[:8]))
    with pytest.raises(RollbackError, match="has no entry 8"):
        verify_ledger(copy, witness=statement.mark)


@pytest.mark.parametrize("change", [(b'"v":1', b'"v":2'), (b'"kind":"audit"', b'"kind":"trial"')])
def test_what_this_version_does_not_know_it_refuses_whole(copy, change):
    """A format 2 entry, or another kind of one, with hashes that fit: never read past."""
    prev, lines = "0" * 64, []
    for line in copy.read_bytes().splitlines():
        body = line[: line.rindex(b',"hash":"')] + b"}"
        document = json.loads(body)
        if document["n"] == 16:
            body = body.replace(*change)
        body = body.replace(document["prev"].encode(), prev.encode())
        prev = sha256_hex(body)
        lines.append(body[:-1] + f',"hash":"{prev}"}}\n'.encode())
    copy.write_bytes(b"".join(lines))
    with pytest.raises(
        LedgerError, match=r"line 17: the entry is of (another format version|an unknown kind)"
    ):
        verify_ledger(copy)
