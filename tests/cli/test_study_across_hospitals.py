"""`site`, `coordinator` and `study`: drafts, enrolment and signatures; whom and what they refuse."""

import datetime as dt
import json
import shutil
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from three_hospitals import (
    altered,
    files_of,
    make_hub,
    make_site,
    sign,
    stranger,
)

from synthkit.cli import main
from synthkit.data.bundled import example
from synthkit.domain.documents import study_from_toml
from synthkit.domain.study import Study
from synthkit.domain.study_text import study_to_toml
from synthkit.privacy.ledger import verify_ledger
from synthkit.privacy.plan_cost import admission_cost
from synthkit.release.signing import generate_key, seal_document

GROUPS = ("site", "coordinator", "study")


def invite(synthkit, name, *more):
    answer = synthkit("coordinator", "invite", name, "--folder", "hub", "--force", *more)
    assert answer.code == 0, answer.err


def join(synthkit, name, fingerprint, *, invitation=None):
    file = f"{invitation or name}.invitation.json"
    return synthkit("site", "join", file, "--folder", name, "--fingerprint", fingerprint, "--force")


def enrol(synthkit, name, *more):
    return synthkit("coordinator", "enrol", f"{name}.request.json", "--folder", "hub", *more)


@pytest.mark.parametrize(
    "command", [(group, entry) for group in GROUPS for entry in main.COMMANDS[group].entries], ids=" ".join
)
def test_every_command_explains_itself_with_an_example(synthkit, command):
    answer = synthkit(*command, "--help")
    assert (answer.code, answer.err) == (0, "")
    assert "Example:\n    synthkit " + " ".join(command) in answer.out
    assert "--json" in answer.out
    assert "Raises:" not in answer.out


def test_the_contracts_groups_are_whole():
    wanted = {
        "site": {"init", "preflight", "join", "run", "approve", "status"},
        "coordinator": {"init", "invite", "enrol", "renew", "run", "status"},
        "study": {"draft", "sign", "explain", "submit", "status"},
    }
    assert {group: set(main.COMMANDS[group].entries) for group in GROUPS} == wanted


# --- the study's draft --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("generator", "more"),
    [("medvae", ()), ("mcm-sgd", ("--rounds", "3", "--local-steps", "4", "--sample-rate", "0.1"))],
)
def test_a_draft_has_the_least_noise_that_keeps_its_epsilon(region, synthkit, generator, more):
    given = ("--schema", "schema.toml", "--epsilon", "1.5", "--generator", generator, "--site", "north:3000")
    answer = synthkit("study", "draft", *given, *more, "-o", "other.toml", "--json")
    assert answer.code == 0, answer.err
    study = study_from_toml(Path("other.toml").read_text(), "other", schema=example("heart").schema)
    assert study.digest == answer.document["digest"]
    plan = study.plan
    assert 1.4 < admission_cost(plan, 1e-5) <= 1.5
    assert answer.document["reported_epsilon"] <= answer.document["planned_epsilon"] <= 1.5
    louder = replace(plan, noise_multiplier=plan.noise_multiplier * 0.99)
    if plan.rounds:
        assert (plan.rounds, plan.local_steps, plan.sample_rate) == (3, 4, 0.1)
        assert admission_cost(louder, 1e-5) > 1.5


def test_a_draft_of_records_buys_first_and_keeps_its_epsilon(tmp_path, synthkit, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert synthkit("simulate", "-n", "20", "-o", "records.csv", "--schema", "schema.toml").code == 0
    given = ("--schema", "schema.toml", "--epsilon", "3", "--generator", "eva", "--rounds", "2")
    answer = synthkit(
        "study", "draft", *given, "--site", "a:4000", "--site", "b:5000", "-o", "s.toml", "--json"
    )
    assert answer.code == 0, answer.err
    plan = answer.document["plan"]
    assert (plan["prior_first"], plan["rounds"]) == (True, 2)
    assert answer.document["planned_epsilon"] <= 3


def test_a_drafts_text_says_the_same_as_the_draft(region):
    study = Study.from_json(json.loads(Path("study.json").read_text())["document"])
    plan = replace(
        study.plan,
        generator="eva",
        rounds=2,
        local_steps=3,
        hyperparameters={"hidden": 8.0, "odd name": 0.1},
        prior_first=True,
    )
    odd = replace(
        study, plan=plan, purpose='a "quoted" \\ purpose', expires=dt.date(2031, 2, 3), initial_seed=7
    )
    for each in (study, odd):
        assert study_from_toml(study_to_toml(each, note="one\ntwo"), "s", schema=each.schema) == each


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("--site", "north"), 4, "NAME:SIZE"),
        (("--site", "north:0"), 4, "declared_size"),
        (("--site", "north:200000", "--delta", "1e-4"), 4, "1 / declared_size"),
        (("--site", "a:100", "--site", "a:100"), 4, "twice"),
        (("--site", "a:100", "--rounds", "3"), 4, "takes no steps"),
        (("--site", "a:100", "--generator", "eva"), 4, "records of visits"),
        (("--site", "a:100", "--generator", "oracle"), 4, "no generator"),
        (("--site", "a:100", "--policy", "strict"), 1, "[rule "),
        (("--site", "a:100", "--coordinator", "hub"), 4, "not enrolled"),
        (("--site", "a:100", "--coordinator", "va"), 4, "coordinator.toml"),
    ],
)
def test_a_draft_that_cannot_be_is_refused_and_not_written(region, synthkit, more, code, words):
    answer = synthkit("study", "draft", "--schema", "schema.toml", "--epsilon", "2", *more, "-o", "new.toml")
    assert (answer.code, words in answer.error) == (code, True), answer.err
    assert not Path("new.toml").exists()


# --- enrolment ----------------------------------------------------------------------------------------------


def test_another_fingerprint_is_refused_and_nothing_is_trusted(region, synthkit, fingerprint):
    stranger(synthkit)
    invite(synthkit, "lausanne")
    before = files_of(region / "lausanne")
    wrong = ("0" if fingerprint[0] != "0" else "1") + fingerprint[1:]
    for given in (wrong, "", fingerprint[:-1]):
        answer = join(synthkit, "lausanne", given)
        assert (answer.code, "another fingerprint" in answer.error) == (6, True), answer.err
    assert files_of(region / "lausanne") == before
    assert not Path("lausanne.request.json").exists()
    assert join(synthkit, "lausanne", fingerprint.upper().replace(" ", "-")).code == 0


def test_an_altered_invitation_is_refused_and_one_of_a_stranger_has_another_fingerprint(
    region, synthkit, fingerprint
):
    stranger(synthkit)
    invite(synthkit, "lausanne")
    file = Path("lausanne.invitation.json")
    whole = file.read_bytes()
    altered(file, lambda envelope: envelope["document"].update(address="evil.example:443"))
    answer = join(synthkit, "lausanne", fingerprint)
    assert (answer.code, "altered" in answer.error) == (6, True)
    document = json.loads(whole)["document"]
    file.write_text(json.dumps(seal_document(document, "invitation", generate_key(), "coordinator")))
    answer = join(synthkit, "lausanne", fingerprint)
    assert (answer.code, "another fingerprint" in answer.error) == (6, True)
    file.write_text(json.dumps(seal_document(document, "study", generate_key(), "coordinator")))
    assert join(synthkit, "lausanne", fingerprint).code == 6
    assert not (region / "lausanne" / "node" / "coordinator.json").exists()


def test_an_invitation_is_for_one_site(region, synthkit, fingerprint):
    stranger(synthkit)
    invite(synthkit, "basel")
    answer = join(synthkit, "lausanne", fingerprint, invitation="basel")
    assert (answer.code, "is for site basel" in answer.error) == (4, True)


def test_an_invitations_time_ends_at_both_ends(region, synthkit, fingerprint, monkeypatch):
    stranger(synthkit)
    invite(synthkit, "lausanne", "--days", "2")
    late = dt.datetime.now(dt.UTC) + dt.timedelta(days=2, minutes=1)
    with monkeypatch.context() as patch:
        patch.setattr("synthkit.cli.site._now", lambda: late)
        answer = join(synthkit, "lausanne", fingerprint)
        assert (answer.code, "expired" in answer.error) == (4, True)
    assert join(synthkit, "lausanne", fingerprint).code == 0
    with monkeypatch.context() as patch:
        patch.setattr("synthkit_server.folder.now", lambda: late)
        answer = enrol(synthkit, "lausanne")
        assert (answer.code, "expired" in answer.error) == (4, True)
    assert enrol(synthkit, "lausanne").code == 0


def test_an_altered_request_enrols_nobody(region, synthkit, fingerprint):
    stranger(synthkit)
    invite(synthkit, "lausanne")
    assert join(synthkit, "lausanne", fingerprint).code == 0
    file, roster = Path("lausanne.request.json"), Path("hub/roster.json").read_bytes()
    whole = file.read_text()
    for name, value in (("declared_size", 9000), ("node_key", "x"), ("site", "basel")):
        altered(file, lambda envelope, name=name, value=value: envelope["document"].update({name: value}))
        answer = enrol(synthkit, "lausanne")
        assert (answer.code, "altered" in answer.error) == (6, True), name
        file.write_text(whole)
    thief = generate_key()
    document = json.loads(whole)["document"]
    file.write_text(json.dumps(seal_document(document, "enrolment", thief, "lausanne")))
    answer = enrol(synthkit, "lausanne")
    assert (answer.code, "not made with the invitation" in answer.error) == (6, True)
    file.write_text(json.dumps(seal_document(document, "enrolment", thief, "basel")))
    assert enrol(synthkit, "lausanne").code == 6
    assert Path("hub/roster.json").read_bytes() == roster
    file.write_text(whole)
    answer = enrol(synthkit, "lausanne", "--fingerprint", "0" * 32)
    assert (answer.code, "another fingerprint" in answer.error) == (6, True)
    assert enrol(synthkit, "lausanne").code == 0


def test_a_site_that_nobody_invited_is_unknown(region, synthkit, fingerprint):
    stranger(synthkit)
    invite(synthkit, "lausanne")
    assert join(synthkit, "lausanne", fingerprint).code == 0
    Path("hub/invitations/lausanne.json").unlink()
    answer = enrol(synthkit, "lausanne")
    assert (answer.code, "was not invited" in answer.error) == (4, True)


def test_an_older_invitation_is_worthless_once_there_is_a_newer_one(region, synthkit, fingerprint):
    stranger(synthkit)
    invite(synthkit, "lausanne")
    assert join(synthkit, "lausanne", fingerprint).code == 0
    invite(synthkit, "lausanne")
    assert enrol(synthkit, "lausanne").code == 6


def test_a_name_is_enrolled_once_and_replaced_only_on_a_persons_word(region, synthkit, fingerprint):
    before = json.loads(Path("hub/roster.json").read_text())
    answer = enrol(synthkit, "va")
    assert (answer.code, "enrolled already" in answer.error) == (4, True)
    answer = synthkit("coordinator", "invite", "va", "--folder", "hub", "--force")
    assert (answer.code, "--replace" in answer.error) == (4, True)
    assert json.loads(Path("hub/roster.json").read_text()) == before
    shutil.move("va", "old-va")
    make_site(synthkit, "va")
    invite(synthkit, "va", "--replace")
    assert join(synthkit, "va", fingerprint).code == 0
    answer = enrol(synthkit, "va", "--json")
    key = Path("va/keys/site.key.pub").read_text().strip()
    assert (answer.code, answer.document["public_key"]) == (0, key)
    # The signed study names the old key: it cannot be handed in any more.
    answer = synthkit("study", "submit", "study.json", "--to", "hub")
    assert (answer.code, "another key" in answer.error) == (4, True)


def test_a_site_follows_one_coordinator(region, synthkit, fingerprint):
    Path("hub").rename("first")
    other = make_hub(synthkit)
    invite(synthkit, "va")
    answer = join(synthkit, "va", other)
    assert (answer.code, "joined coordinator already" in answer.error) == (4, True)


def test_a_coordinators_folder_is_made_once_and_listens_on_loopback(region, synthkit):
    answer = synthkit("coordinator", "init", "hub", "--address", "a.example:443")
    assert (answer.code, "in use" in answer.error) == (4, True)
    far = ("coordinator", "init", "new", "--address", "a.example:443", "--listen", "0.0.0.0:8000")
    answer = synthkit(*far)
    assert (answer.code, "no accounts" in answer.error) == (4, True)
    assert not Path("new").exists()
    assert synthkit(*far, "--private-network").code == 0
    secret = [path for path in Path("new").rglob("*.key") if path.stat().st_mode & 0o077]
    assert secret == []
    assert Path("new").stat().st_mode & 0o077 == 0


def test_a_renewed_certificate_is_the_same_authoritys(region, synthkit):
    authority, old = Path("hub/tls/ca.pem").read_bytes(), Path("hub/tls/server.pem").read_bytes()
    Path("hub/tls/ca.key").rename("ca.key")
    assert synthkit("coordinator", "renew", "--folder", "hub").code == 4
    answer = synthkit("coordinator", "renew", "--folder", "hub", "--ca-key", "hub/tls/server.key")
    assert (answer.code, "not the key" in answer.error) == (4, True)
    assert Path("hub/tls/server.pem").read_bytes() == old
    assert synthkit("coordinator", "renew", "--folder", "hub", "--ca-key", "ca.key").code == 0
    assert Path("hub/tls/server.pem").read_bytes() != old
    assert Path("hub/tls/ca.pem").read_bytes() == authority
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("hub/tls/server.pem", "hub/tls/server.key")  # they belong together


def test_a_sites_folder_is_made_whole_or_not_at_all(region, synthkit):
    given = ("site", "init", "basel", "--name", "basel", "--declared-size", "150")
    answer = synthkit(*given)
    assert (answer.code, "--asset" in answer.error) == (4, True), "a shipped policy names no population"
    assert synthkit(*given, "--declared-size", "1000000000", "--asset", "x").code == 4
    assert (
        synthkit("site", "init", "basel", "--name", "../x", "--declared-size", "5", "--asset", "x").code == 4
    )
    assert not Path("basel").exists()
    answer = synthkit(*given, "--asset", "basel-cardiology", "--json")
    assert answer.document["asset"] == "basel-cardiology"
    assert verify_ledger(Path("basel/ledger.jsonl")).asset == "basel-cardiology"
    secrets = [*Path("basel/keys").glob("*.key"), Path("basel/node/node.key"), Path("basel/node/node.secret")]
    assert len(secrets) == 4
    assert all(path.stat().st_mode & 0o077 == 0 for path in (*secrets, Path("basel")))
    answer = synthkit(*given, "--asset", "basel-cardiology")
    assert (answer.code, "already a site" in answer.error) == (4, True)


def test_an_officer_may_keep_her_key_to_herself(region, synthkit):
    words = ("release", "keygen", "--name", "ada", "--role", "officer", "--site", "basel", "-o", "ada-keys")
    assert synthkit(*words).code == 0
    trust = next(Path("ada-keys").glob("*.trust.json"))
    given = ("--declared-size", "150", "--asset", "basel-cardiology", "--officer", str(trust))
    assert synthkit("site", "init", "basel", "--name", "basel", *given).code == 0
    assert not list(Path("basel").rglob("officer.key"))
    answer = synthkit("site", "preflight", "--folder", "basel", "--json")
    policy = next(check for check in answer.document["checks"] if check["check"] == "policy")
    assert not policy["ok"]
    key = next(path for path in Path("ada-keys").glob("ada*") if path.suffix not in {".pub", ".json"})
    assert synthkit("policy", "sign", "basel/policy.toml", "--name", "ada", "--key", str(key)).code == 0
    answer = synthkit("site", "preflight", "--folder", "basel", "--json")
    policy = next(check for check in answer.document["checks"] if check["check"] == "policy")
    assert policy["ok"]
    other = ("--declared-size", "150", "--asset", "x", "--officer", str(trust))
    assert synthkit("site", "init", "bern", "--name", "bern", *other).code == 4, "she is basel's"


# --- signing and handing in ---------------------------------------------------------------------------------


def test_only_a_study_of_enrolled_sites_is_signed(region, synthkit):
    text = Path("study.toml").read_text()
    for change, words in (
        (('name = "va"', 'name = "bern"'), "not enrolled"),
        (("declared_size = 150", "declared_size = 900"), "another declared size"),
        (('public_key = "', 'public_key = "' + "0" * 64 + '" #'), "another key"),
    ):
        Path("study.toml").write_text(text.replace(*change))
        answer = sign(synthkit, "-o", "other.json")
        assert (answer.code, words in answer.error) == (4, True), answer.err
    Path("study.toml").write_text(text.replace("expires = 20", "expires = 19"))
    assert sign(synthkit, "-o", "other.json").code == 4
    assert not Path("other.json").exists()


def test_a_study_is_handed_in_once_and_only_by_its_own_coordinator(region, synthkit):
    answer = synthkit("study", "submit", "study.json", "--to", "hub", "--json")
    assert answer.code == 0, answer.err
    assert answer.document["digest"] == json.loads(sign(synthkit, "--force", "--json").out)["digest"]
    assert synthkit("study", "submit", "study.json", "--to", "hub").code == 4
    envelope = json.loads(Path("study.json").read_text())
    forged = seal_document(envelope["document"], "study", generate_key(), "coordinator")
    Path("forged.json").write_text(json.dumps(forged))
    answer = synthkit("study", "submit", "forged.json", "--to", "hub")
    assert (answer.code, "unknown key" in answer.error) == (6, True)
    altered(Path("study.json"), lambda study: study["document"]["plan"].update(noise_multiplier=0.1))
    assert synthkit("study", "submit", "study.json", "--to", "hub").code == 6
    found = synthkit("study", "status", "hub", "--json").document["studies"]
    assert [(one["state"], one["finished_rounds"], one["rounds"]) for one in found] == [("waiting", 0, 1)]
