"""A table of a rare group: not sealed, not approved, and refused by whoever receives a forged one."""

from dataclasses import replace

import pytest
from release_workshop import (
    CONDITION_RULES,
    NOW,
    RULES,
    SCHEMA,
    TABLE,
    Workshop,
    packed,
    policy_of,
    statement,
)

from synthkit.domain.canonical import canonical_json, digest_of
from synthkit.domain.condition_statement import ConditionStatement
from synthkit.domain.condition_text import parse_text
from synthkit.errors import BundleError, ReleaseRefusedError
from synthkit.release.bundle import ReleaseFacts, policy_part, seal
from synthkit.release.candidate import build_candidate
from synthkit.release.verification import check


@pytest.fixture(scope="module")
def world():
    return Workshop()


def stated(text="age >= 70 and sex = F", *, mass=0.25, reliability=0.9):
    return ConditionStatement.of(parse_text(text), mass=mass, reliability=reliability)


POLICIES = {
    policy_part(site): canonical_json(policy_of(site, RULES).to_json()) for site in ("north", "south")
}


def sealed(world, conditions, *, statements=None, parts=None):
    facts = ReleaseFacts(
        release="heart-2026-03",
        study="heart",
        study_digest="1" * 64,
        generator="medvae-sgd",
        model_digest="2" * 64,
        epsilon_worst_overlap=2.2,
        expires=NOW.date(),
        version="0.1.0",
        conditions=conditions,
    )
    return seal(
        table_csv=TABLE,
        parts={"schema.json": SCHEMA, **(POLICIES if parts is None else parts)},
        statements=[world.stated(one) for one in statements or (statement("north"), statement("south"))],
        facts=facts,
        key=world.keys["north"],
        signer="north",
        now=NOW,
    )


def test_conditions_within_every_policy_travel_to_the_recipient(world):
    candidate = sealed(world, stated())
    released = world.approved(world.approved(candidate, "north"), "south")
    found = world.verified(packed(released), today=NOW.date())
    assert found.manifest.conditions == stated()
    note = found.parts["README.txt"].decode()
    assert "age >= '70'" in note
    assert "25 % of patients" in note
    assert "0.90" in note


def test_a_release_without_conditions_is_byte_for_byte_as_before(world):
    document = world.release().envelope["document"]
    assert "conditions" not in document
    assert "conditions" not in world.release().parts["README.txt"].decode()


@pytest.mark.parametrize(
    ("conditions", "rule"),
    [
        (stated(mass=0.0094), "floor"),
        (stated(reliability=0.3), "min_reliability"),
        (stated("dose = 1"), "allowed_columns"),
    ],
)
def test_sealing_refuses_what_one_sites_policy_refuses(world, conditions, rule):
    with pytest.raises(ReleaseRefusedError, match=rf"site 'north'.*\[rule conditions.{rule}\]"):
        sealed(world, conditions)


def test_the_strictest_site_decides(world):
    hard = replace(policy_of("south", RULES), conditions=replace(CONDITION_RULES, floor=0.5))
    parts = {**POLICIES, policy_part("south"): canonical_json(hard.to_json())}
    statements = (statement("north"), statement("south", policy_digest=hard.digest))
    with pytest.raises(ReleaseRefusedError, match="site 'south'"):
        sealed(world, stated(), statements=statements, parts=parts)


@pytest.mark.parametrize("site", ["north", "south"])
def test_sealing_refuses_conditions_beside_a_missing_policy(world, site):
    parts = {name: data for name, data in POLICIES.items() if name != policy_part(site)}
    with pytest.raises(ReleaseRefusedError, match=f"site '{site}'.*no policy that allows them"):
        sealed(world, stated(), parts=parts)


def test_a_policy_from_before_there_were_such_rules_allows_no_conditions(world):
    old = policy_of("north", RULES).to_json()
    del old["conditions"]
    statements = (statement("north", policy_digest=digest_of(old)), statement("south"))
    parts = {**POLICIES, policy_part("north"): canonical_json(old)}
    with pytest.raises(ReleaseRefusedError, match=r"site 'north'.*no policy that allows them"):
        sealed(world, stated(), statements=statements, parts=parts)


def test_no_officer_approves_a_forged_manifest(world):
    """The sealing site signs a manifest that its own desk would have refused."""
    candidate = sealed(world, stated())
    document = {**candidate.envelope["document"], "conditions": stated(mass=0.0001).to_json()}
    forged = build_candidate(world.sign(document, "manifest", "north"), candidate.parts)
    with pytest.raises(ReleaseRefusedError, match=r"conditions\.floor"):
        world.approved(forged, "south")


def forged(world, document, *, parts=POLICIES):
    """Signed by every insider, through no gate."""

    def edit(manifest):
        manifest["conditions"] = document

    return world.forged(edit, parts=parts)


FORGED = {
    "below the floor": (stated(mass=0.0094).to_json(), POLICIES, "[rule conditions.floor]"),
    "unreliable": (stated(reliability=0.49).to_json(), POLICIES, "[rule conditions.min_reliability]"),
    "too many columns": (
        stated("age = 1 and sex = F and ward = A").to_json(),
        POLICIES,
        "[rule conditions.allowed_columns]",
    ),
    "without policies": (stated().to_json(), {}, "no policy that allows them is enclosed"),
    "null": (None, POLICIES, "malformed"),
    "a text": ("age >= 70", POLICIES, "malformed"),
    "no condition": ({**stated().to_json(), "all_of": []}, POLICIES, "malformed"),
    "not as it is written": ({**stated().to_json(), "all_of": ["age>=70"]}, POLICIES, "malformed"),
    "a share above one": ({**stated().to_json(), "mass": 25.0}, POLICIES, "malformed"),
    "a share of many digits": ({**stated().to_json(), "mass": 0.251234}, POLICIES, "malformed"),
    "no share": ({"all_of": ["age = '1'"], "reliability": 1.0}, POLICIES, "malformed"),
    "one field more": ({**stated().to_json(), "rows": 12}, POLICIES, "unknown or not in canonical form"),
    "a control character": ({**stated().to_json(), "all_of": ["age = '\x1b[2J'"]}, POLICIES, "malformed"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_recipient_refuses(world, name):
    document, parts, words = FORGED[name]
    data = forged(world, document, parts=parts)
    with pytest.raises(BundleError) as caught:
        world.verified(data)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert str(caught.value) in check(data, world.trust, today=NOW.date())


@pytest.mark.parametrize(
    "rules",
    [{}, None, {"floor": 0.001}, {**CONDITION_RULES.to_json(), "floor": "none"}, "any"],
)
def test_a_recipient_refuses_rules_that_cannot_be_read(world, rules):
    """A site's own key signs for a policy whose rules for conditions are of another form."""
    policy = {**policy_of("south", RULES).to_json(), "conditions": rules}
    envelopes = [
        world.stated(statement("north")),
        world.stated(statement("south", policy_digest=digest_of(policy))),
    ]
    parts = {**POLICIES, policy_part("south"): canonical_json(policy)}

    def edit(manifest):
        manifest["conditions"] = stated().to_json()

    with pytest.raises(BundleError, match="malformed"):
        world.verified(world.forged(edit, statements=envelopes, parts=parts))
