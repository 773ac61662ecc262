"""Reading ledgers and policies on the command line."""

import json

import pytest
from cli_clinic import ASSET, EVENT, STUDY_DIGEST, make_ledger, policy_text

from synthkit.domain.audit import Verdict
from synthkit.privacy.accounting import reported_epsilon
from synthkit.privacy.ledger import Ledger
from synthkit.privacy.ledger_verify import read_entries


def test_show_counts_open_reservations_as_spent(clinic, synthkit):
    before = synthkit("budget", "show", "--ledger", "heart.ledger", "--json").document
    assert before["reported_epsilon"] == pytest.approx(reported_epsilon([EVENT], 1e-5))
    assert before["planned_epsilon"] >= before["reported_epsilon"]
    assert list(before["studies"]) == [STUDY_DIGEST]
    ledger = Ledger.open("heart.ledger")
    ledger.reserve(study="second", server_round=1, base_digest="0" * 64, events=[EVENT])
    after = synthkit("budget", "show", "--ledger", "heart.ledger", "--json").document
    assert after["open_reservations"] == 1
    assert after["reported_epsilon"] == pytest.approx(reported_epsilon([EVENT, EVENT], 1e-5))
    human = synthkit("budget", "show", "--ledger", "heart.ledger")
    assert "epsilon 6 at delta 1e-05" in human.out
    assert "1, counted as spent" in human.out
    bound = f"{after['planned_epsilon']:.2f}"[:3]
    assert any("planned bound" in line and bound in line for line in human.out.splitlines())


def test_history_lists_every_entry(clinic, synthkit):
    entries = synthkit("budget", "history", "--ledger", "heart.ledger", "--json").document["entries"]
    assert [entry["kind"] for entry in entries] == ["open", "reserve", "commit"]
    human = synthkit("budget", "history", "--ledger", "heart.ledger")
    assert "100 steps, noise_multiplier 2, sample_rate 0.05" in human.out


def test_nothing_that_is_sent_on_holds_the_audited_reports_digest(clinic, synthkit):
    """Who knows all patients but one could compute the report for each guess at the last."""
    book = Ledger.open("heart.ledger")
    told = {"table_digest": "7" * 64, "verdict": Verdict.PASS, "report_digest": "5" * 64}
    book.record_audit(study=STUDY_DIGEST, **told)
    fields = read_entries("heart.ledger")[-1].fields
    assert (fields["report_digest"], len(fields["salt"])) == ("5" * 64, 64)
    entry = synthkit("budget", "history", "--ledger", "heart.ledger", "--json").document["entries"][-1]
    assert set(entry) == {"n", "time", "kind", "study", "table_digest", "verdict", "hash"}
    assert synthkit("budget", "export", "--ledger", "heart.ledger", "-o", "head.json").code == 0
    said = [
        synthkit("budget", command, "--ledger", "heart.ledger") for command in ("show", "history", "verify")
    ]
    assert "777 PASS, its report bound" in said[1].out
    for text in ((clinic / "head.json").read_text(), *(answer.out for answer in said)):
        assert "5" * 12 not in text
        assert fields["salt"][:12] not in text


def test_witness_finds_what_the_chain_alone_cannot(clinic, synthkit):
    assert synthkit("budget", "export", "--ledger", "heart.ledger", "-o", "head.json").code == 0
    witnessed = ("--ledger", "heart.ledger", "--witness", "head.json")
    assert synthkit("budget", "verify", *witnessed, "--json").document["witnessed"] is True
    lines = (clinic / "heart.ledger").read_bytes().splitlines(keepends=True)
    (clinic / "heart.ledger").write_bytes(b"".join(lines[:-1]))
    assert synthkit("budget", "verify", "--ledger", "heart.ledger").code == 0
    cut = synthkit("budget", "verify", *witnessed)
    assert (cut.code, "older than its witness" in cut.error) == (6, True)


def test_older_head_is_not_replaced_unasked(clinic, synthkit):
    export = ("budget", "export", "--ledger", "heart.ledger", "-o", "head.json")
    assert synthkit(*export).code == 0
    before = (clinic / "head.json").read_bytes()
    assert synthkit(*export).code == 4
    assert (clinic / "head.json").read_bytes() == before
    assert synthkit(*export, "--force").code == 0


@pytest.mark.parametrize("command", ["show", "history", "verify"])
def test_altered_ledger_ends_with_6(clinic, synthkit, command):
    text = (clinic / "heart.ledger").read_text()
    (clinic / "heart.ledger").write_text(text.replace('"steps":100', '"steps":1'))
    answer = synthkit("budget", command, "--ledger", "heart.ledger", "--json")
    assert (answer.code, answer.out) == (6, "")
    assert "heart.ledger line 2" in answer.error


def test_witness_of_another_asset_or_site_ends_with_6(clinic, synthkit):
    make_ledger(clinic / "asset.ledger", asset="oncology")
    make_ledger(clinic / "site.ledger", site="south")
    for other, words in (("asset", "belongs to asset"), ("site", "another")):
        synthkit("budget", "export", "--ledger", f"{other}.ledger", "-o", f"{other}.json")
        answer = synthkit("budget", "verify", "--ledger", "heart.ledger", "--witness", f"{other}.json")
        assert answer.code == 6, words
        assert answer.error


def test_missing_ledger_is_bad_input_and_leaves_nothing_behind(clinic, synthkit):
    answer = synthkit("budget", "show", "--ledger", "absent.ledger")
    assert (answer.code, "no such file" in answer.error) == (4, True)
    assert not list(clinic.glob("absent*"))


@pytest.mark.parametrize("name", ["standard", "strict", "single-site", "demo"])
def test_shipped_policies_are_found_by_name(clinic, synthkit, name):
    assert synthkit("policy", "check", name, "--json").document["name"] == name
    explained = synthkit("policy", "explain", name, "--json").document
    assert "audit.max_advantage" in explained["words"]


def test_policy_refusal_names_the_rule(clinic, synthkit):
    (clinic / "p.toml").write_text(policy_text(max_epsilon="7.0"))
    contradiction = synthkit("policy", "check", "p.toml")
    assert (contradiction.code, "[rule study.max_epsilon]" in contradiction.error) == (1, True)
    (clinic / "p.toml").write_text(policy_text().replace("four_eyes = false\n", ""))
    missing = synthkit("policy", "check", "p.toml")
    assert (missing.code, "[rule release.four_eyes]" in missing.error) == (1, True)
    (clinic / "p.toml").write_text(policy_text(expires="2020-01-01"))
    expired = synthkit("policy", "check", "p.toml")
    assert (expired.code, "[rule policy.expires]" in expired.error) == (1, True)
    (clinic / "p.toml").write_text("[policy\n")
    assert synthkit("policy", "check", "p.toml").code == 4
    unknown = synthkit("policy", "check", "lax")
    assert (unknown.code, "standard" in unknown.error) == (4, True)


def test_policy_diff_lists_what_differs(clinic, synthkit):
    (clinic / "p.toml").write_text(policy_text(max_attempts="1"))
    changed = synthkit("policy", "diff", "standard", "p.toml", "--json").document["changed"]
    assert {entry["rule"]: entry["new"] for entry in changed} == {
        "asset.name": ASSET,
        "audit.max_attempts": "1",
    }
    assert "say the same" in synthkit("policy", "diff", "p.toml", "p.toml").out


def test_head_is_one_canonical_line(clinic, synthkit):
    synthkit("budget", "export", "--ledger", "heart.ledger", "-o", "head.json")
    document = json.loads((clinic / "head.json").read_text())
    assert (document["asset"], document["counter"]) == (ASSET, 2)
    assert "epsilon" not in (clinic / "head.json").read_text()


def test_a_folder_of_a_shipped_policys_name_does_not_hide_it(clinic, synthkit):
    """`synthkit demo --output demo` makes such a folder before it reads the policy of that name."""
    (clinic / "demo").mkdir()
    assert synthkit("policy", "check", "demo").code == 0
