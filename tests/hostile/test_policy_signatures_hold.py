"""An officer's signature stands for one policy, rule by rule; whatever else it is put under is refused."""

import copy
import datetime as dt
import json
import re
from pathlib import Path

import pytest

from synthkit.domain.documents import policy_from_toml
from synthkit.errors import SignatureError
from synthkit.release.policy_signature import check_policy_signature, sign_policy
from synthkit.release.revocation import Subject, extend_list, parse_list
from synthkit.release.signing import generate_key, seal_document
from synthkit.release.trust import TrustedKey, TrustStore

TEXT = (Path(__file__).parents[2] / "policies" / "standard.toml").read_text("utf-8")
POLICY = policy_from_toml(TEXT, "p.toml")
KEYS = {name: generate_key() for name in ("ada", "olga", "north", "hub", "audrey", "mallory")}
ROLES = {
    "ada": ("officer", "north"),
    "olga": ("officer", "south"),
    "north": ("site", ""),
    "hub": ("coordinator", ""),
    "audrey": ("auditor", "north"),
}
NOW = dt.datetime(2026, 3, 2, 9, 30, tzinfo=dt.UTC)

OTHERWISE = {
    "name": '"other"',
    "signed": "true",
    "expires": "2029-01-01",
    "epsilon": "6.5",
    "delta": "2e-5",
    "max_epsilon": "2.5",
    "max_delta": "1e-7",
    "min_noise_multiplier": "1.1",
    "max_sample_rate": "0.4",
    "allowed_generators": '["medvae"]',
    "min_sites": "5",
    "min_patients": "101",
    "floor": "0.002",
    "min_reliability": "0.6",
    "max_columns": "7",
    "allowed_columns": '["age"]',
    "max_advantage": "0.06",
    "alpha": "0.04",
    "max_attempts": "4",
    "inconclusive": '"refuse"',
    "four_eyes": "true",
    "allow_non_private": "true",
    "valid_days": "181",
    "required": "true",
    "readers": '["officer"]',
    "recipients": '["registry"]',
    "files": '["table", "weights"]',
}
"""Every rule of the document with another value; `fail` alone cannot change without `inconclusive`."""


def trust(**changes):
    keys = [
        TrustedKey(name=name, role=role, public_key=KEYS[name].public_key_hex, site=site)
        for name, (role, site) in ROLES.items()
    ]
    return TrustStore(keys=tuple(changes.get(key.name, key) for key in keys))


def signed(by="ada", policy=POLICY):
    return sign_policy(policy, KEYS[by], by)


def check(envelope, policy=POLICY, store=None, **options):
    return check_policy_signature(policy, envelope, store or trust(), where="p.toml", **options)


def refused(words, envelope, **options):
    with pytest.raises(SignatureError) as caught:
        check(envelope, **options)
    assert words in str(caught.value)
    assert ("\n" in str(caught.value), caught.value.exit_code) == (False, 6)


def test_what_she_signed_stands():
    assert check(signed()) == "ada"
    assert check(json.loads(json.dumps(signed(), indent=2)), site="north") == "ada"
    assert check(signed(), policy=policy_from_toml("# a comment\n" + TEXT, "p.toml")) == "ada"


def test_the_mutations_below_are_of_every_rule():
    keys = set(re.findall(r"(?m)^(\w+) = ", TEXT))
    assert keys - set(OTHERWISE) == {"fail"}


@pytest.mark.parametrize("rule", OTHERWISE)
def test_a_rule_changed_afterwards_is_not_what_she_signed(rule):
    text, count = re.subn(rf"(?m)^{rule} = .*$", f"{rule} = {OTHERWISE[rule]}", TEXT, count=1)
    changed = policy_from_toml(text, "p.toml")
    assert (count, changed != POLICY) == (1, True)
    refused("changed after an officer signed it [rule policy.signed]", signed(), policy=changed)


@pytest.mark.parametrize("by", ["north", "hub", "audrey"])
def test_a_site_a_coordinator_or_an_auditor_signs_no_policy(by):
    refused("only officer may sign this", signed(by))


def test_strangers_other_hospitals_and_revoked_officers_sign_nothing():
    refused("unknown key", signed("mallory"))
    refused("an officer of south", signed("olga"), site="north")
    entry = trust().find(KEYS["ada"].public_key_hex)
    gone = trust(ada=TrustedKey(**{**vars(entry), "revoked": True}))
    refused("revoked key", signed(), store=gone)
    refused("unknown key", signed(), store=TrustStore(keys=trust().keys[1:]))
    refused("belongs to 'ada'", sign_policy(POLICY, KEYS["ada"], "olga"))


def test_a_key_on_a_revocation_list_signs_nothing():
    revoked = extend_list(
        None,
        subject=Subject.KEY,
        digest=KEYS["ada"].public_key_hex,
        reason="She left the hospital",
        key=KEYS["ada"],
        signer="ada",
        now=NOW,
    )
    data = json.dumps(revoked, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    lists = (parse_list(data, where="list")[0],)
    refused("revoked", signed(), revocations=lists)
    assert check(signed("olga"), revocations=lists) == "olga"


def test_no_other_document_passes_for_a_signed_policy():
    for kind in ("approval", "study-approval", "revocation"):
        refused("another kind", seal_document(POLICY.to_json(), kind, KEYS["ada"], "ada"))


@pytest.mark.parametrize("field", ["kind", "signer", "public_key", "document", "signature"])
def test_every_field_dropped_emptied_or_swapped_is_refused(field):
    clean, other = signed(), signed("olga")
    for value in (None, "", {}, other[field] if other[field] != clean[field] else "x"):
        spoilt = {**copy.deepcopy(clean), field: value}
        with pytest.raises(SignatureError):
            check(spoilt)
    with pytest.raises(SignatureError):
        check({name: value for name, value in clean.items() if name != field})


def test_every_flipped_digit_of_the_signature_is_refused():
    clean = signed()
    for place in range(0, 128, 3):
        digit = "0" if clean["signature"][place] != "0" else "1"
        spoilt = clean["signature"][:place] + digit + clean["signature"][place + 1 :]
        refused("signature is wrong", {**clean, "signature": spoilt})
