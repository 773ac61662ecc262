"""At the site, before anything left: who was revoked approves nothing, what was revoked is not exported."""

import datetime as dt
from dataclasses import replace

import pytest
from release_workshop import NOW, RULES, TODAY, Workshop, statement

from synthkit.domain.canonical import canonical_json
from synthkit.errors import BundleError, ReleaseRefusedError, SignatureError
from synthkit.release.bundle import approve, export
from synthkit.release.revocation import Subject, extend_list, parse_list
from synthkit.release.signing import TrustStore

REASON = "A patient withdrew consent before sealing"


@pytest.fixture(scope="module")
def world() -> Workshop:
    return Workshop()


@pytest.fixture(scope="module")
def sealed(world):
    return world.sealed(statement("north"))


@pytest.fixture(scope="module")
def ready(world, sealed):
    return world.approved(sealed, "north")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out.synthkit"


def bound(world, **sites):
    """The trusted keys, officers bound to their hospitals."""
    officers = {"ada": "north", "edith": "north", "grace": "south", **sites}
    return TrustStore(keys=tuple(replace(key, site=officers.get(key.name, "")) for key in world.trust.keys))


def revoking(world, signer, subject, digest):
    envelope = extend_list(
        None, subject=subject, digest=digest, reason=REASON, key=world.keys[signer], signer=signer, now=NOW
    )
    return (parse_list(canonical_json(envelope), where="list")[0],)


def of_key(world, signer, name):
    return revoking(world, signer, Subject.KEY, world.keys[name].public_key_hex)


def of_release(world, signer, candidate):
    return revoking(world, signer, Subject.RELEASE, candidate.manifest.digest)


def approving(world, candidate, officer="ada", *, key=None, trust=None, revocations=()):
    return approve(
        candidate,
        statement_site="north",
        officer=officer,
        key=world.keys[key or officer],
        rules=RULES,
        requested=None,
        reason="",
        now=NOW,
        trust=trust or bound(world),
        revocations=revocations,
    )


def refused(kind, words, act):
    with pytest.raises(kind) as caught:
        act()
    assert words in str(caught.value)
    assert REASON in str(caught.value) or "revoked" not in words
    assert "\n" not in str(caught.value)


def test_a_known_officer_of_the_site_approves(world, sealed):
    assert approving(world, sealed).missing == ()
    unbound = approving(world, sealed, "edith", trust=bound(world, edith=""))
    assert unbound.missing == ()


def test_strangers_others_officers_and_borrowed_names_do_not_approve(world, sealed):
    refused(SignatureError, "unknown key", lambda: approving(world, sealed, "mallory"))
    refused(SignatureError, "an officer of south", lambda: approving(world, sealed, "grace"))
    borrowed = lambda: approving(world, sealed, "edith", key="ada")  # noqa: E731
    refused(SignatureError, "belongs to 'ada'", borrowed)


@pytest.mark.parametrize("by", ["ada", "north", "edith"])
def test_a_revoked_key_does_not_approve(world, sealed, by):
    """Revoked by herself, by her hospital, or by another officer of it."""
    lists = of_key(world, by, "ada")
    refused(SignatureError, f"revoked by {by}", lambda: approving(world, sealed, revocations=lists))


def test_one_who_may_not_revoke_her_stops_nothing(world, sealed):
    lists = of_key(world, "south", "ada")
    assert approving(world, sealed, revocations=lists).missing == ()


def test_what_a_revoked_site_sealed_is_not_approved(world, sealed):
    lists = of_key(world, "ada", "north")
    refused(SignatureError, "revoked by ada", lambda: approving(world, sealed, revocations=lists))


def test_a_second_officer_does_not_approve_beside_a_revoked_first(world, ready):
    """Four eyes: one of the two pairs was taken back."""
    two = replace(ready, four_eyes=frozenset({"north"}))
    assert approving(world, two, "edith").missing == ()
    lists = of_key(world, "north", "ada")
    refused(SignatureError, "revoked by north", lambda: approving(world, two, "edith", revocations=lists))


@pytest.mark.parametrize("by", ["north", "ada", "edith"])
def test_a_revoked_release_is_neither_approved_nor_exported(world, sealed, ready, target, by):
    lists, trust = of_release(world, by, sealed), bound(world)
    refused(
        ReleaseRefusedError, f"revoked by {by}", lambda: approving(world, sealed, "edith", revocations=lists)
    )
    refused(
        ReleaseRefusedError, f"revoked by {by}", lambda: export(ready, target, trust=trust, revocations=lists)
    )
    assert not target.exists()


@pytest.mark.parametrize("name", ["ada", "north"])
def test_what_a_revoked_key_signed_is_not_exported(world, ready, target, name):
    lists = of_key(world, "edith", name)
    refused(
        SignatureError,
        "revoked by edith",
        lambda: export(ready, target, trust=bound(world), revocations=lists),
    )
    assert not target.exists()


def test_a_list_about_something_else_stops_nothing(world, sealed, ready, target):
    other = revoking(world, "north", Subject.RELEASE, "7" * 64)
    foreign = of_release(world, "south", sealed)
    for lists in (other, foreign):
        assert approving(world, sealed, revocations=lists).missing == ()
    export(ready, target, trust=bound(world), revocations=other)
    assert world.verified(target).manifest == ready.manifest


def test_only_what_recipients_would_accept_is_exported(world, ready, target):
    refused(SignatureError, "unknown key", lambda: export(ready, target, trust=TrustStore()))
    late = TODAY + dt.timedelta(days=91)
    refused(BundleError, "expired", lambda: export(ready, target, trust=bound(world), today=late))
    assert not target.exists()
