"""Commands of a single site act on a policy that its officer signed, and on no other."""

import os
import re
import shutil

import pytest
from cli_clinic import policy_text

SIGNED = {"max_advantage": "0.4", "signed": "true"}
TABLES = ("--members", "members.csv", "--holdout", "holdout.csv", "--reference", "reference.csv")
PAPERS = ("--schema", "schema.toml", "--model", "model", "--ledger", "heart.ledger")

AT_SITE = ("--site", "north", "--key", "keys/north.pem")
HERE = ("--site", "north", "--declared-size", 300, "--ledger", "new.ledger")
COMMANDS = {
    "train": ("train", "members.csv", "--schema", "schema.toml", "--epsilon", 1, *HERE, "-o", "trained"),
    "generate": ("generate", "model", "-n", 20, "-o", "made.csv"),
    "audit": ("audit", *TABLES, *PAPERS, "--synthetic", "synthetic.csv", "--save", "new.json"),
    "seal": (
        *("release", "seal", *PAPERS, *AT_SITE, "--table", "synthetic.csv", "--audit", "audit.json"),
        *("-o", "candidate"),
    ),
    "approve": (
        *("release", "approve", "ready", "--site", "north", "--officer", "ada"),
        *("--key", "keys/ada.pem"),
    ),
}
MADE = ("trained", "new.ledger", "made.csv", "new.json", "candidate")


def write(folder, text=None, **changes):
    (folder / "house.toml").write_text(text or policy_text(**{**SIGNED, **changes}), encoding="utf-8")


def sign(synthkit, *more, key="ada"):
    who = ("--name", key, "--key", f"keys/{key}.pem")
    return synthkit("policy", "sign", "house.toml", *who, *more)


def under(synthkit, command, *more):
    return synthkit(*COMMANDS[command], "--policy", "house.toml", *more)


@pytest.fixture
def house(clinic, synthkit):
    for name, role in (("north", "site"), ("ada", "officer"), ("mallory", "officer")):
        folder = "keys" if name != "mallory" else "strangers"
        assert synthkit("release", "keygen", "--name", name, "--role", role, "-o", folder).code == 0
    write(clinic)
    return clinic


@pytest.fixture(scope="module")
def made_ready(tmp_path_factory):
    return tmp_path_factory.mktemp("ready")


@pytest.fixture
def ready(house, synthkit, made_ready):
    """Everything that the five commands need lies there, made once under the signed policy."""
    if not any(made_ready.iterdir()):
        make_ready(synthkit)
        shutil.copytree(house, made_ready, dirs_exist_ok=True)
    shutil.rmtree(house)
    shutil.copytree(made_ready, house)
    os.chdir(house)
    return house


def make_ready(synthkit):
    assert sign(synthkit).code == 0
    trusted = ("--policy", "house.toml", "--trust", "keys")
    audited = (*COMMANDS["audit"][:-1], "audit.json")
    assert synthkit(*audited, *trusted).code == 0
    sealed = (*COMMANDS["seal"][:-1], "ready")
    assert synthkit(*sealed, *trusted).code == 0


def refused(folder, answer, code, words):
    assert (answer.code, words in answer.error) == (code, True), answer.err
    assert answer.out == ""
    assert not [name for name in MADE if (folder / name).exists()]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_refuses_what_the_officer_did_not_sign(ready, synthkit, command):
    refused(ready, under(synthkit, command), 1, "[rule policy.signed]")
    keys = ("--trust", "keys")
    text = (ready / "house.toml").read_text()
    write(ready, text.replace("max_attempts = 3", "max_attempts = 4"))
    refused(ready, under(synthkit, command, *keys), 6, "changed after an officer signed it")
    write(ready, re.sub(r"(?m)^expires = .*$", "expires = 2020-01-01", text))
    refused(ready, under(synthkit, command, *keys), 1, "[rule policy.expires]")
    write(ready, text)
    refused(ready, under(synthkit, command, "--trust", "strangers"), 6, "unknown key")
    (ready / "house.signed.json").rename(ready / "elsewhere.json")
    refused(ready, under(synthkit, command, *keys), 6, "no officer has signed this policy")


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "train"])
def test_each_command_acts_on_what_she_signed(ready, synthkit, command):
    if command == "audit":
        (ready / "audit.json").unlink()
    answer = under(synthkit, command, "--trust", "keys")
    assert answer.code == 0, answer.err


@pytest.mark.slow
def test_training_alone_acts_on_what_she_signed(house, synthkit):
    """And, where it requires a vault, closes the model's folder: whoever reads it draws the rows."""
    write(house, min_sites="1", min_noise_multiplier="0.1", max_sample_rate="1.0", required="true")
    assert sign(synthkit).code == 0
    answer = under(synthkit, "train", "--trust", "keys")
    assert answer.code == 0, answer.err
    assert (house / "trained" / "model.json").exists()
    assert (house / "trained").stat().st_mode & 0o777 == 0o700


def test_trust_demands_a_signature_where_the_policy_does_not(house, synthkit):
    write(house, signed="false")
    assert under(synthkit, "generate").code == 0
    (house / "made.csv").unlink()
    refused(house, under(synthkit, "generate", "--trust", "keys"), 6, "no officer has signed this policy")
    assert sign(synthkit).code == 0
    assert under(synthkit, "generate", "--trust", "keys").code == 0


def test_signing_shows_the_policy_and_checking_names_the_officer(house, synthkit):
    shown = sign(synthkit)
    assert "What happens with the verdict" in shown.out
    assert "Signed by ada: house.signed.json" in shown.out
    assert (
        synthkit("policy", "check", "house.toml", "--trust", "keys", "--json").document["signed_by"] == "ada"
    )
    assert synthkit("policy", "check", "house.toml", "--json").document["signed_by"] is None
    again = sign(synthkit)
    assert (again.code, "--force" in again.error) == (4, True)
    assert sign(synthkit, "--force").code == 0
    assert sign(synthkit, "--force", key="north").code == 0
    answer = synthkit("policy", "check", "house.toml", "--trust", "keys")
    assert (answer.code, "only officer may sign this" in answer.error) == (6, True)


def test_a_policy_that_could_not_be_in_force_is_not_signed(house, synthkit):
    for text, words in (
        (policy_text(expires="2020-01-01"), "policy.expires"),
        (policy_text().replace("four_eyes = false\n", ""), "release.four_eyes"),
        (policy_text(recipients="[]"), "egress.recipients"),
    ):
        write(house, text)
        answer = sign(synthkit)
        assert (answer.code, f"[rule {words}]" in answer.error) == (1, True)
        assert not (house / "house.signed.json").exists()
    shipped = synthkit("policy", "sign", "standard", "--name", "ada", "--key", "keys/ada.pem")
    assert (shipped.code, "a shipped policy is not signed" in shipped.error) == (4, True)
