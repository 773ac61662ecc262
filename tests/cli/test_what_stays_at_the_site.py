"""At the site's desk: uncounted audits, revoked keys and releases, and what egress rules keep back."""

import json
import os
import shutil

import pytest
from cli_clinic import policy_text

from synthkit.release.signing import read_key, read_public_key
from synthkit.release.trust import TrustStore
from synthkit.release.vault import Expected, VaultLabel, lock

TABLES = ("--members", "members.csv", "--holdout", "holdout.csv", "--reference", "reference.csv")
AUDIT = (
    "audit",
    *TABLES,
    "--schema",
    "schema.toml",
    "--synthetic",
    "synthetic.csv",
    "--policy",
    "house.toml",
)
COUNTED = ("--ledger", "heart.ledger", "--model", "model")
KEYS = ("--trust", "keys")
LISTS = ("--revocations", "revoked.json")
REASON = "A patient withdrew consent before sealing"


def done(answer):
    assert answer.code == 0, answer.err
    return answer


def refused(answer, code, words):
    assert (answer.code, words in answer.error) == (code, True), answer.err


def seal(synthkit, *more):
    papers = ("--table", "synthetic.csv", "--schema", "schema.toml", *COUNTED, "--audit", "audit.json")
    site = ("--policy", "house.toml", "--site", "north", "--key", "keys/north.pem", "-o", "candidate")
    return synthkit("release", "seal", *papers, *site, *more)


def approve(synthkit, *more, officer="ada"):
    who = ("--site", "north", "--officer", officer, "--key", f"keys/{officer}.pem")
    return synthkit("release", "approve", "candidate", *who, "--policy", "house.toml", *more)


def export(synthkit, *more):
    return synthkit("release", "export", "candidate", "-o", "heart.synthkit", *more)


def revoke(synthkit, *what, by="north"):
    who = ("--name", by, "--key", f"keys/{by}.pem", "--reason", REASON)
    return done(synthkit("release", "revoke", "revoked.json", *what, *who))


@pytest.fixture(scope="module")
def first_sealed(tmp_path_factory):
    return tmp_path_factory.mktemp("sealed")


@pytest.fixture
def sealed(clinic, synthkit, first_sealed):
    """A sealed candidate for the Cancer Registry, made once; and an audit that nobody counted."""
    if not any(first_sealed.iterdir()):
        for name, role in (("north", "site"), ("ada", "officer"), ("edith", "officer")):
            bound = () if role == "site" else ("--site", "north")
            done(synthkit("release", "keygen", "--name", name, "--role", role, *bound, "-o", "keys"))
        rules = {"max_advantage": "0.4", "recipients": '["Cancer Registry"]', "files": '["table", "weights"]'}
        (clinic / "house.toml").write_text(policy_text(**rules), encoding="utf-8")
        done(synthkit("policy", "sign", "house.toml", "--name", "ada", "--key", "keys/ada.pem"))
        done(synthkit(*AUDIT, "--save", "uncounted.json"))
        done(synthkit(*AUDIT, *COUNTED, "--save", "audit.json", "--report", "audit.html"))
        done(seal(synthkit, "--recipient", "Cancer Registry"))
        shutil.copytree(clinic, first_sealed, dirs_exist_ok=True)
    shutil.rmtree(clinic)
    shutil.copytree(first_sealed, clinic)
    os.chdir(clinic)
    return clinic


def test_an_audit_that_nobody_counted_is_not_sealed(sealed, synthkit):
    """The same table and verdict, and no entry in the ledger that the seal is given."""
    (sealed / "audit.json").unlink()
    (sealed / "uncounted.json").rename(sealed / "audit.json")
    shutil.rmtree(sealed / "candidate")
    lines = (sealed / "heart.ledger").read_bytes().splitlines(keepends=True)
    assert b'"audit"' in lines[-1]
    (sealed / "heart.ledger").write_bytes(b"".join(lines[:-1]))
    refused(seal(synthkit, "--recipient", "Cancer Registry"), 1, "the ledger does not know this audit")
    assert not (sealed / "candidate").exists()


def test_an_audit_of_another_attempt_than_was_counted_is_not_sealed(sealed, synthkit):
    document = json.loads((sealed / "audit.json").read_text())
    (sealed / "audit.json").write_text(json.dumps({**document, "attempt": 2}))
    shutil.rmtree(sealed / "candidate")
    refused(seal(synthkit, "--recipient", "Cancer Registry"), 1, "[rule audit.max_attempts]")


def test_a_revoked_officer_does_not_approve_and_another_does(sealed, synthkit):
    revoke(synthkit, "--public-key", (sealed / "keys" / "edith.pem.pub").read_text().strip())
    refused(approve(synthkit, *KEYS, *LISTS, officer="edith"), 6, "revoked by north on")
    refused(approve(synthkit, *LISTS, officer="edith"), 4, "--trust")
    answer = done(approve(synthkit, *KEYS, *LISTS))
    assert "was not asked" not in answer.out
    done(export(synthkit, *KEYS, *LISTS))


def test_what_a_revoked_officer_approved_is_not_exported(sealed, synthkit):
    assert "was not asked" in done(approve(synthkit, officer="edith")).out
    revoke(synthkit, "--public-key", (sealed / "keys" / "edith.pem.pub").read_text().strip())
    refused(export(synthkit, *KEYS, *LISTS), 6, REASON)
    assert not (sealed / "heart.synthkit").exists()


def test_a_policy_signed_by_a_revoked_officer_approves_nothing(sealed, synthkit):
    revoke(synthkit, "--public-key", (sealed / "keys" / "ada.pem.pub").read_text().strip())
    refused(approve(synthkit, *KEYS, *LISTS, officer="edith"), 6, "[rule policy.signed]")


def test_a_revoked_release_is_neither_approved_nor_exported(sealed, synthkit):
    header = json.loads((sealed / "candidate" / "candidate.json").read_text())
    approved = done(approve(synthkit, "--json")).document
    assert header["approvals"] == []
    revoke(synthkit, "--release", approved["manifest_digest"])
    refused(export(synthkit, *KEYS, *LISTS), 1, REASON)
    refused(approve(synthkit, *KEYS, *LISTS, officer="edith"), 1, "all approvals are there already")
    (sealed / "candidate" / "candidate.json").write_text(
        json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    )
    refused(approve(synthkit, *KEYS, *LISTS, officer="edith"), 1, REASON)
    assert not (sealed / "heart.synthkit").exists()


def test_the_recipient_is_named_from_sealing_to_verification(sealed, synthkit):
    shutil.rmtree(sealed / "candidate")
    refused(seal(synthkit), 1, "[rule egress.recipients]")
    refused(seal(synthkit, "--recipient", "An Insurer"), 1, "An Insurer is no recipient")
    assert not (sealed / "candidate").exists()
    assert done(seal(synthkit, "--recipient", "Cancer Registry")).out.count("Cancer Registry alone") == 1
    assert "Cancer Registry alone" in done(approve(synthkit)).out
    assert "It is for Cancer Registry alone." in done(export(synthkit)).out
    answer = done(synthkit("release", "verify", "heart.synthkit", *KEYS, "--json"))
    assert answer.document["recipient"] == "Cancer Registry"
    assert "Cancer Registry alone" in done(synthkit("release", "verify", "heart.synthkit", *KEYS)).out


def test_a_redacted_page_stays_where_the_policy_keeps_it(sealed, synthkit):
    for name in ("page.html", "page.json"):
        refused(synthkit(*AUDIT, *COUNTED, "--redacted", name), 1, "[rule egress.files]")
        assert not (sealed / name).exists()
    text = (sealed / "house.toml").read_text()
    (sealed / "house.toml").write_text(
        text.replace('["table", "weights"]', '["table", "audit-page", "weights"]')
    )
    done(synthkit(*AUDIT, *COUNTED, "--redacted", "page.html"))


def test_the_audit_page_states_what_may_leave_and_to_whom(sealed):
    page = (sealed / "audit.html").read_text()
    assert "released tables; weights and noisy tables of a federated study (egress.files)" in page
    assert "A release may be given to: Cancer Registry (egress.recipients)" in page


def test_a_vault_that_an_outsider_wrote_for_the_officer_is_refused(sealed, synthkit):
    """Anyone can lock a file for a public key: what is in it has to be what its label says, at the least."""
    from synthkit.cli.vaults import VaultKey, open_vault
    from synthkit.errors import BundleError

    reader = TrustStore.read(sealed / "keys" / "ada.trust.json").keys[0]
    assert reader.public_key == read_public_key(sealed / "keys" / "ada.pem.pub")
    assert reader.public_key == read_key(sealed / "keys" / "ada.pem").public_key_hex
    manifest = json.loads((sealed / "candidate" / "candidate.json").read_text())["manifest"]
    digest = manifest["document"]["table_digest"]
    label = VaultLabel.from_json(
        {
            **dict.fromkeys(("study_digest", "model_digest", "schema_digest", "policy_digest"), "1" * 64),
            **{"site": "north", "asset": "heart-patients", "table_digest": digest},
            "created": "2026-03-02T09:30:00+00:00",
        }
    )
    (sealed / "f.vault").write_bytes(lock({"table.csv": b"age\n1\n"}, label, [reader]))
    opened = open_vault(sealed / "f.vault", VaultKey(path=sealed / "keys" / "ada.pem"), Expected())
    with pytest.raises(BundleError, match="another table than its label says"):
        assert opened.table
