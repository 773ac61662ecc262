"""A release of a kind, or for a recipient, that a site's policy does not let leave: sealed, approved and
accepted nowhere.
"""

import pytest
from release_workshop import RULES, TABLE, TODAY, Workshop, policy_of, statement

from synthkit.domain.canonical import canonical_json, digest_of
from synthkit.domain.policy import EgressRules
from synthkit.errors import BundleError, ReleaseRefusedError, SignatureError
from synthkit.release.bundle import ReleaseFacts, policy_part, seal, verify

REGISTRY = EgressRules(recipients=("Cancer Registry", "Ministry"), files=("table",))
NOTHING = EgressRules(recipients=(), files=())
RECORDS = EgressRules(recipients=("*",), files=("records", "weights"))


@pytest.fixture(scope="module")
def world() -> Workshop:
    return Workshop()


def policy_bytes(egress):
    return canonical_json(policy_of("north", RULES, egress).to_json())


def stated(policy):
    return statement("north", policy_digest=digest_of(policy))


def sealing(world, egress, *, recipient="", more=None):
    """Sealed by one site whose policy with these rules is enclosed."""
    policy = policy_of("north", RULES, egress).to_json()
    facts = ReleaseFacts(
        release="heart-2026-03",
        study="heart",
        study_digest="1" * 64,
        generator="medvae-sgd",
        model_digest="2" * 64,
        epsilon_worst_overlap=1.5,
        expires=TODAY,
        version="0.1.0",
        recipient=recipient,
    )
    clean = world.sealed(statement("north"))
    return seal(
        table_csv=TABLE,
        parts={
            "schema.json": clean.parts["schema.json"],
            policy_part("north"): policy_bytes(egress),
            **(more or {}),
        },
        statements=[world.stated(stated(policy))],
        facts=facts,
        key=world.keys["north"],
        signer="north",
        now=clean.manifest.created,
    )


def test_a_named_recipient_and_kind_are_sealed_approved_and_verified(world, tmp_path):
    candidate = world.approved(sealing(world, REGISTRY, recipient="Ministry"), "north")
    assert candidate.manifest.to_json()["recipient"] == "Ministry"
    assert candidate.missing == ()


def test_without_a_recipient_the_manifest_keeps_its_old_form(world):
    assert "recipient" not in world.sealed().manifest.to_json()


CASES = {
    "names nobody": (REGISTRY, {}, "names no recipient"),
    "for somebody else": (REGISTRY, {"recipient": "Insurer"}, "Insurer is no recipient"),
    "one letter off": (REGISTRY, {"recipient": "ministry"}, "ministry is no recipient"),
    "the star taken at its word": (REGISTRY, {"recipient": "*"}, "* is no recipient"),
    "nothing may leave": (NOTHING, {}, "of the kind table may not leave"),
    "records alone": (RECORDS, {}, "of the kind table may not leave"),
    "a file beside": (REGISTRY, {"recipient": "Ministry", "more": {"notes.txt": b"x"}}, "of the kind annex"),
    "another site's policy beside": (
        REGISTRY,
        {"recipient": "Ministry", "more": {policy_part("south"): b"{}"}},
        "of the kind annex",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_may_not_leave_is_not_sealed(world, name):
    egress, changes, words = CASES[name]
    with pytest.raises(ReleaseRefusedError) as caught:
        sealing(world, egress, **changes)
    assert words in str(caught.value)
    assert "[rule egress." in str(caught.value)
    assert "\n" not in str(caught.value)


def forged(world, policy, edit=None):
    """A bundle as an insider with every key could make it, with this policy enclosed and stated."""
    return world.forged(
        edit,
        statements=[world.stated(stated(policy)), world.stated(statement("south"))],
        parts={policy_part("north"): canonical_json(policy)},
    )


@pytest.mark.parametrize(
    ("egress", "recipient", "words"),
    [
        (REGISTRY, "", "names no recipient"),
        (REGISTRY, "Insurer", "Insurer is no recipient"),
        (NOTHING, "", "may not leave"),
        (RECORDS, "", "may not leave"),
    ],
)
def test_a_recipient_refuses_what_an_insider_sealed_anyway(world, egress, recipient, words):
    def edit(document):
        if recipient:
            document["recipient"] = recipient

    data = forged(world, policy_of("north", RULES, egress).to_json(), edit)
    with pytest.raises(BundleError, match=words):
        verify(data, world.trust, today=TODAY)


def test_a_recipient_changed_after_sealing_is_refused(world):
    policy = policy_of("north", RULES, REGISTRY).to_json()
    good = forged(world, policy, lambda document: document.update(recipient="Ministry"))
    assert verify(good, world.trust, today=TODAY).manifest.recipient == "Ministry"
    with pytest.raises(SignatureError, match="signature is wrong"):
        verify(good.replace(b"Ministry", b"ministry", 1), world.trust, today=TODAY)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda policy: policy.pop("egress"),
        lambda policy: policy.update(egress=None),
        lambda policy: policy["egress"].pop("files"),
        lambda policy: policy["egress"].update(files="table"),
        lambda policy: policy["egress"].update(recipients=[3]),
        lambda policy: policy["egress"].update(extra=[]),
    ],
)
def test_rules_that_cannot_be_read_let_nothing_leave(world, spoil):
    policy = policy_of("north", RULES).to_json()
    spoil(policy)
    with pytest.raises(BundleError, match="egress are malformed"):
        verify(forged(world, policy), world.trust, today=TODAY)


def test_a_release_under_a_policy_of_the_first_form_still_verifies(world):
    policy = policy_of("north", RULES).to_json()
    for name in ("egress", "vault", "signed"):
        policy.pop(name)
    assert verify(forged(world, policy | {"format": 1}), world.trust, today=TODAY)


@pytest.mark.parametrize("recipient", ["x" * 201, "two\nlines", 3, ["Ministry"], None])
def test_a_recipient_that_is_no_name_is_refused(world, recipient):
    data = world.forged(lambda document: document.update(recipient=recipient))
    with pytest.raises(BundleError):
        verify(data, world.trust, today=TODAY)
