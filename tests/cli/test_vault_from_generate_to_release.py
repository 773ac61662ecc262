"""A policy that requires the vault: no plain table exists before the release is exported."""

import json
import os
import shutil

import pytest
from cli_clinic import STUDY_DIGEST, policy_text

from synthkit.privacy.ledger import Ledger

AUDIT = ("audit", "--members", "members.csv", "--holdout", "holdout.csv", "--reference", "reference.csv")
COUNTED = ("--ledger", "heart.ledger", "--model", "model")
UNDER = ("--policy", "house.toml", "--trust", "keys")
OWNERS = {"north": "site", "ada": "officer", "edith": "officer", "audrey": "auditor"}
RULES = {"max_advantage": "0.4", "required": "true", "signed": "true", "readers": '["officer", "auditor"]'}


def done(answer):
    assert answer.code == 0, answer.err
    return answer


def keygen(synthkit, name, role, folder="keys", site="north"):
    bound = () if role == "site" else ("--site", site)
    done(synthkit("release", "keygen", "--name", name, "--role", role, *bound, "-o", folder))


@pytest.fixture
def house(clinic, synthkit):
    """The site's people have keys, and an officer signed a policy that requires the vault."""
    for name, role in OWNERS.items():
        keygen(synthkit, name, role)
    keygen(synthkit, "mallory", "officer", "strangers")
    set_policy(clinic, synthkit)
    (clinic / "synthetic.csv").unlink()
    return clinic


@pytest.fixture(scope="module")
def first_audited(tmp_path_factory):
    return tmp_path_factory.mktemp("audited")


@pytest.fixture
def audited(house, synthkit, first_audited):
    """A candidate in its vault, generated and audited once for all tests."""
    if not any(first_audited.iterdir()):
        done(generate(synthkit))
        done(audit(synthkit))
        shutil.copytree(house, first_audited, dirs_exist_ok=True)
    shutil.rmtree(house)
    shutil.copytree(first_audited, house)
    os.chdir(house)
    return house


def set_policy(folder, synthkit, **changes):
    (folder / "house.toml").write_text(policy_text(**{**RULES, **changes}), encoding="utf-8")
    sign = ("policy", "sign", "house.toml", "--name", "ada", "--key", "keys/ada.pem", "--force")
    return done(synthkit(*sign))


def generate(synthkit, output="c.vault", *more, under=UNDER):
    return synthkit("generate", "model", "-n", 230, "-o", output, *under, *more)


def audit(synthkit, *more, vault="c.vault", key="keys/audrey.pem", counted=COUNTED, under=UNDER):
    given = ("--schema", "schema.toml", "--synthetic", vault, "--vault-key", key)
    return synthkit(*AUDIT, *given, *under, *counted, "--save", "audit.json", *more)


def seal(synthkit, *more, vault="c.vault", key="keys/ada.pem", under=UNDER):
    papers = ("--table", vault, "--schema", "schema.toml", "--model", "model", "--audit", "audit.json")
    site = ("--site", "north", "--ledger", "heart.ledger", "--key", "keys/north.pem", "-o", "candidate")
    opens = () if key is None else ("--vault-key", key)
    return synthkit("release", "seal", *papers, *site, *opens, *under, *more)


def approve(synthkit, officer="ada", *more, under=UNDER):
    who = ("--site", "north", "--officer", officer, "--key", f"keys/{officer}.pem")
    return synthkit("release", "approve", "candidate", *who, *under, *more)


def export(synthkit, *more, key="keys/ada.pem"):
    opens = () if key is None else ("--vault-key", key)
    return synthkit("release", "export", "candidate", "-o", "heart.synthkit", *opens, *more)


def cells_in(folder, rows):
    """Files in which a row of the table stands in plain text."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(path.name for path in files if any(row in path.read_bytes() for row in rows))


def refused(answer, code, words):
    assert (answer.code, words in answer.error) == (code, True), answer.err


def test_the_table_is_nowhere_in_plain_before_it_is_exported(house, synthkit):
    made = done(generate(synthkit, "c.vault", "--json"))
    assert made.document["readers"] == ["ada", "audrey", "edith"]
    done(audit(synthkit))
    done(seal(synthkit))
    done(approve(synthkit))
    assert not (house / "candidate" / "parts" / "table.csv").exists()
    candidate = tuple(house.rglob("*"))
    done(export(synthkit))
    done(synthkit("release", "open", "heart.synthkit", "--trust", "keys", "-o", "table.csv"))
    rows = [row for row in (house / "table.csv").read_bytes().splitlines()[1:] if len(row) > 20][:50]
    assert cells_in(house, rows[:1]) == ["heart.synthkit", "table.csv"]
    assert all(cells_in(house, [row]) == ["heart.synthkit", "table.csv"] for row in rows)
    assert not set(house.rglob("*")) - set(candidate) - {house / "heart.synthkit", house / "table.csv"}


def test_generate_refuses_a_plain_table_and_a_vault_without_readers(house, synthkit):
    for output in ("plain.csv", "plain.csv.gz", "plain.parquet"):
        refused(generate(synthkit, output), 1, "[rule vault.required]")
        assert not (house / output).exists()
    refused(generate(synthkit, under=("--trust", "keys")), 4, "--policy")
    refused(generate(synthkit, under=("--policy", "house.toml")), 4, "--trust")
    shutil.copytree(house / "keys", house / "few")
    for name in ("ada", "edith", "audrey"):
        (house / "few" / f"{name}.trust.json").unlink()
    refused(generate(synthkit, under=("--policy", "house.toml", "--trust", "few")), 6, "unknown key")
    set_policy(house, synthkit, readers='["auditor"]')
    shutil.copy(house / "keys" / "ada.trust.json", house / "few")
    refused(generate(synthkit, under=("--policy", "house.toml", "--trust", "few")), 1, "[rule vault.readers]")
    assert not (house / "c.vault").exists()


def test_officers_of_other_hospitals_and_revoked_ones_read_nothing(house, synthkit):
    keygen(synthkit, "olga", "officer", site="south")
    trust = json.loads((house / "keys" / "edith.trust.json").read_text())
    trust["keys"][0]["revoked"] = True
    (house / "keys" / "edith.trust.json").write_text(json.dumps(trust))
    assert done(generate(synthkit, "c.vault", "--json")).document["readers"] == ["ada", "audrey"]
    for name in ("olga", "edith", "north"):
        refused(audit(synthkit, key=f"keys/{name}.pem"), 6, "does not open")
    assert not (house / "audit.json").exists()


def test_a_vault_is_audited_only_with_its_key_and_only_counted(house, synthkit):
    done(generate(synthkit))
    refused(audit(synthkit, key="strangers/mallory.pem"), 6, "this key does not open it")
    refused(audit(synthkit, counted=()), 1, "[rule audit.max_attempts]")
    given = ("--schema", "schema.toml", "--synthetic", "c.vault")
    refused(synthkit(*AUDIT, *given, *UNDER, *COUNTED), 4, "--vault-key")
    assert Ledger.open("heart.ledger").audit_attempts(STUDY_DIGEST) == 0
    assert done(audit(synthkit, "--json")).document["counted"] is True
    assert Ledger.open("heart.ledger").audit_attempts(STUDY_DIGEST) == 1


def test_a_passphrase_opens_it_and_a_wrong_one_does_not(house, synthkit, monkeypatch):
    monkeypatch.setenv("OTTO", "correct horse battery staple")
    bound = ("--name", "otto", "--role", "auditor", "--site", "north", "--passphrase-env", "OTTO")
    done(synthkit("release", "keygen", *bound, "-o", "keys"))
    done(generate(synthkit))
    refused(audit(synthkit, key="keys/otto.pem"), 4, "--passphrase-env")
    monkeypatch.setenv("WRONG", "incorrect horse")
    wrong = ("--vault-passphrase-env", "WRONG")
    refused(audit(synthkit, *wrong, key="keys/otto.pem"), 6, "passphrase is wrong")
    done(audit(synthkit, "--vault-passphrase-env", "OTTO", key="keys/otto.pem"))


def test_a_plain_table_is_neither_sealed_nor_approved(house, synthkit):
    plain = ("--policy", "standard")
    done(generate(synthkit, "plain.csv", under=plain))
    given = ("--schema", "schema.toml", "--synthetic", "plain.csv", "--save", "audit.json")
    answer = done(synthkit(*AUDIT, *given, *UNDER, *COUNTED))
    assert "vault.required" in answer.out
    refused(seal(synthkit, vault="plain.csv", key=None), 1, "[rule vault.required]")
    assert not (house / "candidate").exists()
    done(generate(synthkit))
    done(seal(synthkit))
    shutil.copy(house / "plain.csv", house / "candidate" / "parts" / "table.csv")
    (house / "candidate" / "parts" / "drawn.vault").unlink()
    refused(approve(synthkit), 1, "[rule vault.required]")


def test_an_older_candidate_in_the_newer_ones_place_is_refused(audited, synthkit):
    house = audited
    done(generate(synthkit, "old.vault", "--seed", 1))
    refused(
        seal(synthkit, "--seed", 1, vault="old.vault"), 6, "another candidate than the one that was audited"
    )
    done(seal(synthkit))
    shutil.copy(house / "old.vault", house / "candidate" / "parts" / "drawn.vault")
    refused(approve(synthkit), 6, "hash differs")
    assert not (house / "heart.synthkit").exists()


def test_a_vault_under_another_policy_or_of_another_schema_is_refused(house, synthkit):
    done(generate(synthkit))
    set_policy(house, synthkit, max_advantage="0.3")
    refused(audit(synthkit), 6, "was made under another policy")
    assert Ledger.open("heart.ledger").audit_attempts(STUDY_DIGEST) == 0


def test_a_reader_whom_the_user_of_generate_slipped_in_is_found_at_sealing(house, synthkit):
    """Her own key among the keys she names herself opens the vault; no table out of it is sealed."""
    shutil.copytree(house / "keys", house / "mine")
    keygen(synthkit, "eve", "auditor", "mine")
    mine = ("--policy", "house.toml", "--trust", "mine")
    assert "eve" in done(generate(synthkit, "c.vault", "--json", under=mine)).document["readers"]
    done(audit(synthkit))
    refused(seal(synthkit), 1, "locked for eve, too")
    assert not (house / "candidate").exists()


def test_sealing_and_export_need_a_readers_key(audited, synthkit):
    refused(seal(synthkit, key=None), 6, "this key does not open it")
    refused(seal(synthkit, key="strangers/mallory.pem"), 6, "this key does not open it")
    done(seal(synthkit))
    done(approve(synthkit))
    refused(export(synthkit, key=None), 4, "--vault-key")
    refused(export(synthkit, key="strangers/mallory.pem"), 6, "this key does not open it")
    done(export(synthkit))


def test_a_vault_that_was_cut_or_spoilt_stops_every_command(audited, synthkit):
    house = audited
    data = (house / "c.vault").read_bytes()
    for spoilt in (data[:-1], data[: len(data) // 2], data[:-1] + bytes([data[-1] ^ 1]), b"", data + b"\0"):
        (house / "spoilt.vault").write_bytes(spoilt)
        assert seal(synthkit, vault="spoilt.vault").code == 6
        (house / "audit.json").rename(house / "kept.json")
        assert audit(synthkit, vault="spoilt.vault").code == 6
        (house / "kept.json").rename(house / "audit.json")
    assert Ledger.open("heart.ledger").audit_attempts(STUDY_DIGEST) == 1


@pytest.mark.slow
def test_evaluate_reads_a_vault_in_memory(house, synthkit):
    done(generate(synthkit))
    before = sorted(house.rglob("*"))
    given = ("--real", "members.csv", "--schema", "schema.toml", "--synthetic", "c.vault", "--json")
    answer = done(synthkit("evaluate", *given, "--vault-key", "keys/edith.pem"))
    assert 0 < answer.document["quality"]["overall"] <= 1
    assert sorted(house.rglob("*")) == before
    refused(synthkit("evaluate", *given, "--vault-key", "strangers/mallory.pem"), 6, "does not open")
    refused(synthkit("evaluate", *given), 4, "--vault-key")


def test_who_can_read_the_models_folder_is_told(house, synthkit):
    for path in (house / "model", *(house / "model").iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert "others on this machine may read the folder model" in done(generate(synthkit)).out
    (house / "model").chmod(0o700)
    closed = done(generate(synthkit, "d.vault"))
    assert "others on this machine" not in closed.out
    assert "Locked. It opens with the key of ada (officer)" in closed.out


def test_a_vault_may_be_chosen_where_the_policy_leaves_it_open(house, synthkit):
    set_policy(house, synthkit, required="false", readers='["site"]')
    assert done(generate(synthkit, "c.vault", "--json")).document["readers"] == ["north"]
    done(generate(synthkit, "plain.csv"))
    done(audit(synthkit, key="keys/north.pem"))
    done(seal(synthkit, key=None))


def test_an_earlier_release_in_a_vault_is_attacked_as_if_it_lay_plain(house, synthkit):
    done(generate(synthkit))
    done(generate(synthkit, "e.vault", "--seed", 9))
    plain_policy = policy_text(max_advantage="0.4")
    (house / "plain.toml").write_text(plain_policy, encoding="utf-8")
    done(synthkit("generate", "model", "-n", 230, "--seed", 9, "-o", "e.csv", "--policy", "plain.toml"))
    locked = audit(synthkit, "--earlier", "e.vault", "--json").document
    (house / "audit.json").unlink()
    plain = audit(synthkit, "--earlier", "e.csv", "--json").document
    assert len(locked["earlier"]) == 1
    assert locked["earlier"] == plain["earlier"]
    assert locked["attacks"] == plain["attacks"]
    assert any(one["name"].startswith("several releases together") for one in locked["attacks"])


def test_an_earlier_vault_is_no_way_around_counting_keys_or_papers(house, synthkit):
    """Named as an earlier release, a candidate could be looked at beside a table that nobody counts."""
    done(generate(synthkit, "e.vault"))
    (house / "plain.toml").write_text(policy_text(max_advantage="0.4"), encoding="utf-8")
    done(synthkit("generate", "model", "-n", 230, "-o", "c.csv", "--policy", "plain.toml"))
    command = (*AUDIT, "--schema", "schema.toml", "--synthetic", "c.csv", *UNDER, "--earlier", "e.vault")
    before = attempts(house)
    answer = synthkit(*command, "--vault-key", "keys/ada.pem")
    assert answer.code == 1
    assert "e.vault" in answer.error
    assert "only where the attempt is counted" in answer.error
    for key, code in ((None, 4), ("keys/north.pem", 6), ("strangers/mallory.pem", 6)):
        given = () if key is None else ("--vault-key", key)
        assert synthkit(*command, *COUNTED, *given).code == code
    assert attempts(house) == before
    (house / "e.vault").write_bytes((house / "e.vault").read_bytes()[:-1])
    assert synthkit(*command, *COUNTED, "--vault-key", "keys/ada.pem").code == 6
    assert attempts(house) == before


def attempts(folder):
    return Ledger.open(folder / "heart.ledger").audit_attempts(STUDY_DIGEST)
