"""From a table to a verified bundle on the command line, and everything that stops on the way."""

import json
import subprocess
import sys

import pytest
from cli_clinic import STUDY, STUDY_DIGEST, make_ledger

from synthkit.domain.audit import AuditReport
from synthkit.errors import InputError
from synthkit.privacy.ledger import Ledger

TABLES = ("--members", "members.csv", "--holdout", "holdout.csv", "--reference", "reference.csv")
AUDIT = ("audit", *TABLES, "--schema", "schema.toml", "--synthetic")
COUNTED = ("--ledger", "heart.ledger", "--model", "model")
REASON = "The table is needed for the registry's yearly report"


def sealed(synthkit, *, synthetic="synthetic.csv", policy="lenient.toml", audit_code=0):
    """Audit a table and seal it; the keys are there afterwards."""
    for name, role in (("north", "site"), ("ada", "officer"), ("grace", "officer")):
        assert synthkit("release", "keygen", "--name", name, "--role", role, "-o", "keys").code == 0
    saved = ("--save", "audit.json")
    assert synthkit(*AUDIT, synthetic, "--policy", policy, *COUNTED, *saved).code == audit_code
    return seal(synthkit, synthetic=synthetic, policy=policy)


def seal(synthkit, *, synthetic="synthetic.csv", policy="lenient.toml", **changes):
    options = {
        "table": synthetic,
        "schema": "schema.toml",
        "model": "model",
        "audit": "audit.json",
        "policy": policy,
        "ledger": "heart.ledger",
        "site": "north",
        "key": "keys/north.pem",
        "output": "candidate",
        **changes,
    }
    given = [text for name, value in options.items() for text in (f"--{name}", value)]
    return synthkit("release", "seal", *given, "--json")


def approve(synthkit, officer="ada", *more, policy="lenient.toml"):
    who = ("--site", "north", "--officer", officer, "--key", f"keys/{officer}.pem")
    return synthkit("release", "approve", "candidate", *who, "--policy", policy, *more)


def exported(synthkit):
    assert sealed(synthkit).code == 0
    assert approve(synthkit).code == 0
    assert synthkit("release", "export", "candidate", "-o", "heart.synthkit").code == 0


def test_audit_ends_with_the_verdicts_code(clinic, synthkit):
    lenient = ("--policy", "lenient.toml", "--json")
    answers = {
        "PASS": synthkit(*AUDIT, "synthetic.csv", *lenient),
        "FAIL": synthkit(*AUDIT, "members.csv", *lenient),
        "INCONCLUSIVE": synthkit(*AUDIT, "synthetic.csv", "--json"),
        "INVALID": synthkit(*AUDIT, "few.csv", *lenient),
    }
    assert {name: answer.code for name, answer in answers.items()} == {
        "PASS": 0,
        "FAIL": 1,
        "INCONCLUSIVE": 2,
        "INVALID": 3,
    }
    assert all(answer.document["verdict"] == name for name, answer in answers.items())
    attack = answers["PASS"].document["attacks"][0]
    names = ("attack_rate", "baseline_rate", "control_rate", "interval", "p_value_adjusted")
    assert {*names, "minimum_detectable_effect"} <= set(attack)


def test_attempt_is_in_the_ledger_and_counted_on(clinic, synthkit):
    ledger = Ledger.open("heart.ledger")
    assert synthkit(*AUDIT, "synthetic.csv", "--policy", "lenient.toml", *COUNTED).code == 0
    assert ledger.audit_attempts(STUDY_DIGEST) == 1
    second = synthkit(*AUDIT, "members.csv", "--policy", "lenient.toml", *COUNTED, "--json")
    assert (second.code, second.document["attempt"]) == (1, 2)
    assert synthkit(*AUDIT, "synthetic.csv", "--policy", "lenient.toml", *COUNTED).code == 0
    fourth = synthkit(*AUDIT, "synthetic.csv", "--policy", "lenient.toml", *COUNTED)
    assert fourth.code == 1
    assert "audit.max_attempts" in fourth.error
    assert ledger.audit_attempts(STUDY_DIGEST) == 3


def test_an_audit_that_ends_after_its_entry_stays_counted(clinic, synthkit, monkeypatch):
    def stopped(*_given):
        raise OSError(28, "No space left on device", "audit.json")

    monkeypatch.setattr("synthkit.cli.audit.write_papers", stopped)
    options = ("--policy", "lenient.toml", *COUNTED, "--save", "audit.json")
    answer = synthkit(*AUDIT, "synthetic.csv", *options)
    assert answer.code == 4
    assert "PASS" not in answer.out + answer.err
    assert not (clinic / "audit.json").exists()
    ledger = Ledger.open("heart.ledger")
    assert ledger.audit_attempts(STUDY_DIGEST) == 1
    monkeypatch.undo()
    monkeypatch.chdir(clinic)
    assert synthkit(*AUDIT, "synthetic.csv", *options, "--json").document["attempt"] == 2
    assert ledger.audit_attempts(STUDY_DIGEST) == 2


def test_verdict_stays_unseen_when_it_cannot_be_recorded(clinic, synthkit, monkeypatch):
    def full_disk(self, **fields):
        raise OSError(28, "No space left on device", "heart.ledger")

    monkeypatch.setattr(Ledger, "record_audit", full_disk)
    answer = synthkit(*AUDIT, "synthetic.csv", "--policy", "lenient.toml", *COUNTED, "--save", "audit.json")
    assert answer.code == 4
    assert "No space left" in answer.error
    assert "PASS" not in answer.out + answer.err
    assert not (clinic / "audit.json").exists()


def test_saved_audit_is_the_whole_report(clinic, synthkit):
    answer = synthkit(*AUDIT, "members.csv", "--save", "audit.json", "--report", "audit.html", "--json")
    document = json.loads((clinic / "audit.json").read_text())
    report = AuditReport.from_json(document)
    assert report.to_json() == document
    assert report.digest == answer.document["report_digest"]
    assert (clinic / "audit.html").read_text().startswith("<!")


@pytest.mark.parametrize(
    "edit",
    [
        lambda document: document.pop("seed"),
        lambda document: document.update(extra=1),
        lambda document: document.update(verdict="GOOD"),
        lambda document: document["attacks"][0].pop("interval"),
        lambda document: document.update(attacks=3),
    ],
)
def test_malformed_audit_is_refused(clinic, synthkit, edit):
    synthkit(*AUDIT, "synthetic.csv", "--save", "audit.json")
    document = json.loads((clinic / "audit.json").read_text())
    edit(document)
    with pytest.raises(InputError, match="malformed"):
        AuditReport.from_json(document)


def test_release_goes_all_the_way(clinic, synthkit):
    answer = sealed(synthkit)
    assert (answer.code, answer.document["verdict"]) == (0, "PASS")
    early = synthkit("release", "export", "candidate", "-o", "heart.synthkit")
    assert early.code == 1
    assert "not fully approved" in early.error
    assert approve(synthkit).code == 0
    assert synthkit("release", "export", "candidate", "-o", "heart.synthkit").code == 0
    verified = synthkit("release", "verify", "heart.synthkit", "--trust", "keys", "--json")
    assert verified.code == 0
    assert verified.document["verified"] is True
    assert verified.document["delta"] == 1e-05
    assert synthkit("release", "open", "heart.synthkit", "--trust", "keys", "-o", "table.csv").code == 0
    assert (clinic / "table.csv").read_bytes() == (clinic / "synthetic.csv").read_bytes()
    recounted = synthkit("release", "verify", "heart.synthkit", "--trust", "keys", "--recount", "--json")
    assert (recounted.code, recounted.document["recounted"]) == (0, True)
    human = synthkit("release", "verify", "heart.synthkit", "--trust", "keys")
    assert "at delta 1e-05" in human.out
    assert "VERIFIED" in human.out


def test_bundle_altered_or_signed_by_strangers_ends_with_6(clinic, synthkit):
    exported(synthkit)
    data = bytearray((clinic / "heart.synthkit").read_bytes())
    data[-1] ^= 1
    (clinic / "altered.synthkit").write_bytes(data)
    altered = synthkit("release", "verify", "altered.synthkit", "--trust", "keys", "--json")
    assert (altered.code, altered.document["verified"]) == (6, False)
    assert altered.document["problems"]
    assert "altered" in altered.error
    synthkit("release", "keygen", "--name", "south", "--role", "site", "-o", "strangers")
    stranger = synthkit("release", "open", "heart.synthkit", "--trust", "strangers", "-o", "stolen.csv")
    assert stranger.code == 6
    assert "unknown key" in stranger.error
    assert not (clinic / "stolen.csv").exists()


def test_verification_needs_neither_torch_nor_pandas(clinic, synthkit):
    exported(synthkit)
    code = (
        "import sys; from synthkit.cli.main import run; "
        "assert run(['release', 'verify', 'heart.synthkit', '--trust', 'keys']) == 0; "
        "print(sorted({'torch', 'pandas', 'scipy', 'sklearn', 'opacus', 'flwr'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=clinic, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_inconclusive_needs_the_officers_decision_and_reason(clinic, synthkit):
    (clinic / "house.toml").write_text((clinic / "lenient.toml").read_text().replace("0.4", "0.05"))
    assert sealed(synthkit, policy="house.toml", audit_code=2).code == 0
    bare = approve(synthkit, policy="house.toml")
    assert (bare.code, "dp_claim" in bare.error) == (1, True)
    given = ("--decision", "dp_claim", "--reason", REASON)
    assert approve(synthkit, "ada", *given, policy="house.toml").code == 0
    assert synthkit("release", "export", "candidate", "-o", "heart.synthkit").code == 0
    shown = synthkit("release", "verify", "heart.synthkit", "--trust", "keys")
    assert REASON in shown.out


def test_failed_table_is_refused_by_the_gate(clinic, synthkit):
    """A dozen of the members are, word for word, rows that the model draws."""
    drawn = (clinic / "synthetic.csv").read_text().splitlines(keepends=True)
    members = (clinic / "members.csv").read_text().splitlines(keepends=True)
    (clinic / "members.csv").write_text("".join([*members[:-12], *drawn[1:13]]))
    assert sealed(synthkit, audit_code=1).code == 0
    refused = approve(synthkit, "ada", "--decision", "override", "--reason", REASON)
    assert (refused.code, "release.fail" in refused.error) == (1, True)


def test_a_table_made_under_conditions_is_sealed_under_the_same(clinic, synthkit):
    """And under no others, nor with another seed: the rows are drawn again and compared."""
    given = ("--where", "sex = Female", "--seed", 3)
    assert synthkit("generate", "model", "-n", 230, "-o", "women.csv", *given).code == 0
    synthkit("release", "keygen", "--name", "north", "--role", "site", "-o", "keys")
    saved = ("--policy", "lenient.toml", *COUNTED, "--save", "audit.json")
    assert synthkit(*AUDIT, "women.csv", *saved).code in (0, 2)
    for wrong in ({}, {"seed": 3}, {"where": "sex = Female"}, {"where": "sex = Male", "seed": 3}):
        refused = seal(synthkit, synthetic="women.csv", **wrong)
        assert (refused.code, "not the rows that the model draws" in refused.error) == (1, True)
        assert not (clinic / "candidate").exists()
    assert seal(synthkit, synthetic="women.csv", where="sex = Female", seed=3).code == 0


def test_four_eyes_needs_two_officers(clinic, synthkit):
    assert sealed(synthkit, policy="eyes.toml").code == 0
    assert approve(synthkit, policy="eyes.toml").code == 0
    assert synthkit("release", "export", "candidate", "-o", "heart.synthkit").code == 1
    assert approve(synthkit, policy="eyes.toml").code == 1
    assert approve(synthkit, "grace", policy="eyes.toml").code == 0
    assert synthkit("release", "export", "candidate", "-o", "heart.synthkit").code == 0


def test_approval_under_another_policy_is_refused(clinic, synthkit):
    assert sealed(synthkit).code == 0
    other = approve(synthkit, policy="eyes.toml")
    assert (other.code, "not the policy" in other.error) == (1, True)


class TestSealRefuses:
    """Each refusal in one line, and no candidate afterwards."""

    def refused(self, clinic, answer, code, words):
        assert (answer.code, words in answer.error) == (code, True), answer.err
        assert answer.out == ""
        assert not (clinic / "candidate").exists()

    @pytest.fixture
    def ready(self, clinic, synthkit):
        """Keys and a counted PASS, nothing sealed yet."""
        synthkit("release", "keygen", "--name", "north", "--role", "site", "-o", "keys")
        synthkit(*AUDIT, "synthetic.csv", "--policy", "lenient.toml", *COUNTED, "--save", "audit.json")
        return clinic

    def test_another_table(self, ready, synthkit):
        self.refused(ready, seal(synthkit, synthetic="holdout.csv"), 1, "another table")

    def test_another_policy(self, ready, synthkit):
        self.refused(ready, seal(synthkit, policy="eyes.toml"), 1, "another policy")

    def test_a_verdict_written_by_hand(self, clinic, synthkit):
        synthkit("release", "keygen", "--name", "north", "--role", "site", "-o", "keys")
        options = ("--policy", "lenient.toml", *COUNTED, "--save", "audit.json")
        assert synthkit(*AUDIT, "members.csv", *options).code == 1
        text = (clinic / "audit.json").read_text()
        (clinic / "audit.json").write_text(text.replace('"verdict":"FAIL"', '"verdict":"PASS"'))
        self.refused(clinic, seal(synthkit, synthetic="members.csv"), 1, "does not know this audit")

    def test_an_audit_that_no_ledger_counted(self, clinic, synthkit):
        synthkit("release", "keygen", "--name", "north", "--role", "site", "-o", "keys")
        synthkit(*AUDIT, "synthetic.csv", "--policy", "lenient.toml", "--save", "audit.json")
        self.refused(clinic, seal(synthkit), 1, "does not know this audit")

    def test_a_rerun_that_stands_in_for_the_counted_report(self, ready, synthkit):
        """Same table, verdict and attempt; another seed, so other figures; no ledger saw it."""
        first = json.loads((ready / "audit.json").read_text())
        rerun = (*AUDIT, "synthetic.csv", "--policy", "lenient.toml", "--seed", "1", "--save", "again.json")
        assert synthkit(*rerun).code == 0
        again = json.loads((ready / "again.json").read_text())
        same = ("table_digest", "verdict", "attempt", "policy_digest", "schema_digest")
        assert [again[name] for name in same] == [first[name] for name in same]
        assert again["attacks"] != first["attacks"]
        self.refused(ready, seal(synthkit, audit="again.json"), 1, "not the one that the ledger counted")
        assert "rule audit.max_attempts" in seal(synthkit, audit="again.json").error
        assert seal(synthkit).code == 0

    def test_a_figure_written_by_hand(self, ready, synthkit):
        document = json.loads((ready / "audit.json").read_text())
        for attack in document["attacks"]:
            attack["minimum_detectable_effect"] = 0.01
        (ready / "audit.json").write_text(json.dumps(document))
        self.refused(ready, seal(synthkit), 1, "not the one that the ledger counted")

    def test_a_ledger_of_another_asset(self, ready, synthkit):
        make_ledger(ready / "other.ledger", asset="oncology")
        self.refused(ready, seal(synthkit, ledger="other.ledger"), 6, "belongs to asset oncology")

    def test_a_ledger_without_the_models_spend(self, ready, synthkit):
        bare = make_ledger(ready / "bare.ledger", study="another study")
        report = AuditReport.from_json(json.loads((ready / "audit.json").read_text()))
        judged = {"table_digest": report.table_digest, "verdict": report.verdict}
        bare.record_audit(study=STUDY, **judged, report_digest=report.digest)
        self.refused(ready, seal(synthkit, ledger="bare.ledger"), 6, "does not cover")

    def test_a_spend_below_its_own_events(self, ready, synthkit):
        header = json.loads((ready / "model/model.json").read_text())
        header["spend"]["epsilon"] /= 2
        (ready / "model/model.json").write_text(json.dumps(header))
        self.refused(ready, seal(synthkit), 4, "its events cost")

    def test_a_model_without_privacy(self, ready, synthkit):
        header = json.loads((ready / "model/model.json").read_text())
        (ready / "model/model.json").write_text(json.dumps({**header, "spend": None, "unsafe": True}))
        self.refused(ready, seal(synthkit), 1, "release.allow_non_private")

    def test_other_weights(self, ready, synthkit):
        (ready / "model/weights.safetensors").write_bytes(b"others")
        self.refused(ready, seal(synthkit), 4, "weights are not the header's")

    def test_another_site(self, ready, synthkit):
        self.refused(ready, seal(synthkit, site="south"), 4, "trained at site 'north'")

    def test_a_table_that_does_not_fit(self, ready, synthkit):
        (ready / "odd.csv").write_text("age\n50\n")
        self.refused(ready, seal(synthkit, synthetic="odd.csv"), 4, "the column is missing")

    def test_a_key_that_others_may_read(self, ready, synthkit):
        (ready / "keys/north.pem").chmod(0o644)
        self.refused(ready, seal(synthkit), 4, "others may read")


def test_encrypted_key_wants_its_passphrase(clinic, synthkit, monkeypatch):
    monkeypatch.setenv("SECRET", "a long and quiet sentence")
    made = synthkit(
        *("release", "keygen", "--name", "north", "--role", "site", "-o", "keys"),
        *("--passphrase-env", "SECRET", "--json"),
    )
    assert made.document["role"] == "site"
    assert b"ENCRYPTED" in (clinic / "keys/north.pem").read_bytes()
    assert (clinic / "keys/north.pem").stat().st_mode & 0o777 == 0o600
    synthkit(*AUDIT, "synthetic.csv", "--policy", "lenient.toml", *COUNTED, "--save", "audit.json")
    closed = seal(synthkit)
    assert (closed.code, "--passphrase-env" in closed.error) == (4, True)
    assert seal(synthkit, **{"passphrase-env": "NOT_SET"}).code == 4
    monkeypatch.setenv("WRONG", "another sentence")
    assert seal(synthkit, **{"passphrase-env": "WRONG"}).code == 6
    assert seal(synthkit, **{"passphrase-env": "SECRET"}).code == 0
    again = synthkit("release", "keygen", "--name", "north", "--role", "site", "-o", "keys")
    assert (again.code, "exists" in again.error) == (4, True)
