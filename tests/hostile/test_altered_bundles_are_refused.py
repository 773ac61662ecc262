"""Whatever is done to a release, by an outsider to its bytes or by an insider with a key, is refused."""

import datetime as dt
import json
import random
import struct

import pytest
from release_workshop import (
    EXPIRES,
    NOW,
    REASON,
    RULES,
    TABLE,
    TODAY,
    Workshop,
    packed,
    policy_of,
    spend,
    statement,
)

from synthkit.domain.audit import Verdict
from synthkit.domain.canonical import canonical_json, digest_of, sha256_hex
from synthkit.domain.privacy import Adjacency, EncoderProvenance
from synthkit.domain.release import Decision
from synthkit.errors import BundleError, InputError, SignatureError
from synthkit.release import framing
from synthkit.release.bundle import check
from synthkit.release.framing import MAGIC, encode
from synthkit.release.signing import TrustStore

REFUSALS = (BundleError, SignatureError)


@pytest.fixture(scope="module")
def world() -> Workshop:
    return Workshop()


@pytest.fixture(scope="module")
def clean(world: Workshop) -> bytes:
    return packed(world.release())


def test_the_clean_bundle_verifies_and_so_does_the_forgers_tool_without_a_defect(world, clean):
    assert world.verified(clean).table_csv == TABLE
    assert check(clean, world.trust, today=TODAY) == ()
    assert world.verified(world.forged()).table_csv == TABLE
    assert world.verified(world.forged()).sealed_by == "north"


def test_every_single_flipped_byte_is_refused(world, clean):
    trust = world.trust
    for position in range(len(clean)):
        altered = bytearray(clean)
        altered[position] ^= 1 << (position % 8)
        with pytest.raises(REFUSALS):
            world.verified(bytes(altered), trust=trust)


def test_case_of_every_letter_is_fixed(world, clean):
    """Upper-case hexadecimal means the same number; it must still not be the same bundle."""
    letters = [place for place, byte in enumerate(clean) if chr(byte).isalpha()]
    for position in letters:
        altered = bytearray(clean)
        altered[position] ^= 0x20
        with pytest.raises(REFUSALS):
            world.verified(bytes(altered))


def test_every_truncation_and_every_doubled_byte_is_refused(world, clean):
    for length in range(0, len(clean), 7):
        with pytest.raises(REFUSALS):
            world.verified(clean[:length])
        with pytest.raises(REFUSALS):
            world.verified(clean[: length + 1] + clean[length:])


def test_random_headers_and_noise_are_refused_in_no_other_way(world):
    rng = random.Random(7)  # noqa: S311 - a fuzzer needs a seed, not secrecy
    values = [None, True, 0, -1, 1.5, "", "x", [], {}, [{}], {"document": {}}, "\ud800", 10**400]
    for _ in range(500):
        header = {"manifest": rng.choice(values), "approvals": rng.choice(values)}
        head = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
        with pytest.raises(REFUSALS):
            world.verified(MAGIC + struct.pack(">Q", len(head)) + head + rng.randbytes(9))
    for text in (b"[" * 200_000, b'{"a":' * 100_000, b"NaN", b'{"manifest":NaN,"approvals":[]}'):
        with pytest.raises(REFUSALS):
            world.verified(MAGIC + struct.pack(">Q", len(text)) + text)


def test_a_trusted_signer_cannot_crash_the_reader_with_odd_values(world):
    """Every field of manifest, statement and approval takes every odd value; the outcome is a refusal."""
    odd = [None, True, -1, 1.5, 10**400, "", "x\n\x1b[2J", [], {}, [None], {"a": 1}]
    manifest = world.sealed().envelope["document"]
    for name in manifest:
        for value in odd:
            if name in {"epsilon_worst_overlap", "epsilon_disjoint"} and value == 1.5:
                continue  # the legitimate figure
            with pytest.raises(REFUSALS) as refusal:
                world.verified(world.forged(lambda doc, n=name, v=value: doc.update({n: v})))
            assert "\n" not in str(refusal.value)
            assert "\x1b" not in str(refusal.value)
    for name, value in ((n, v) for n in statement("south").to_json() for v in odd):
        document = {**statement("south").to_json(), name: value}
        if name == "spend" and value is None:
            continue  # a legitimate value; contradicting the other site, see the named mutations
        envelopes = [world.stated(statement("north")), world.sign(document, "statement", "south")]
        if name in {"ledger_head"} and isinstance(value, str):
            continue  # free text
        with pytest.raises(REFUSALS):
            world.verified(world.forged(statements=envelopes))
    for name in ("manifest_digest", "site", "officer", "decision", "reason", "approved"):
        for value in odd:
            if name == "reason" and value == "":
                continue
            with pytest.raises(REFUSALS):
                world.verified(
                    world.forged(
                        approvals=lambda doc, n=name, v=value: [
                            world.approval(doc, "north"),
                            world.approval(doc, "south", **{n: v}),
                        ]
                    )
                )


# ---- named mutations -------------------------------------------------------------------------------


def edited_header(change):
    """An outsider's change of the header, framed anew; nothing is signed again."""

    def make(world):
        candidate = world.release()
        header = json.loads(canonical_json(candidate.header()))
        change(header)
        return encode(header, list(candidate.parts.values()))

    return make


def resealed(**fields):
    """An insider's change of the manifest, signed and approved anew."""
    return lambda world: world.forged(lambda document: document.update(fields))


def restated(**changes):
    """Both sites state anew, the south with changes; the manifest is signed and approved anew."""
    return lambda world: world.forged(
        statements=[world.stated(statement("north")), world.stated(statement("south", **changes))]
    )


def reapproved(**changes):
    """The north's officer approves with changes."""
    return lambda world: world.forged(
        approvals=lambda doc: [world.approval(doc, "north", **changes), world.approval(doc, "south")]
    )


def with_header(make_head):
    def make(world):
        head = make_head(world.release())
        return MAGIC + struct.pack(">Q", len(head)) + head + b"".join(world.release().parts.values())

    return make


def drop(document, name):
    del document[name]


def other_approval(world, **changes):
    """An approval of some earlier release."""
    earlier = world.sealed(expires=EXPIRES - dt.timedelta(days=1)).envelope["document"]
    return world.approval(earlier, "north", **changes)


def verdict_south(verdict, **approval):
    """The south's audit has this verdict; its officer approves as told."""
    return lambda world: world.forged(
        statements=[world.stated(statement("north")), world.stated(statement("south", verdict=verdict))],
        approvals=lambda doc: [
            world.approval(doc, "north"),
            world.approval(doc, "south", **approval),
        ],
    )


def with_policy(rules, **changes):
    """The south's policy is enclosed; both approve a PASS."""

    def make(world):
        policy = policy_of("south", rules)
        envelopes = [
            world.stated(statement("north")),
            world.stated(statement("south", policy_digest=policy.digest, **changes)),
        ]
        return world.forged(
            statements=envelopes, parts={"policy-south.json": canonical_json(policy.to_json())}
        )

    return make


def policy_without_rules(world):
    """A policy that the site states, and that has no release rules."""
    policy = {"name": "south"}
    south = statement("south", policy_digest=digest_of(policy))
    return world.forged(
        statements=[world.stated(statement("north")), world.stated(south)],
        parts={"policy-south.json": canonical_json(policy)},
    )


def rules(**changes):
    return RULES.__class__(**{**vars(RULES), **changes})


def part_swap(name, data):
    """A part is exchanged and only the manifest's own list of parts follows."""
    return lambda world: world.forged(parts={name: data})


def table_swap(data):
    """Another table, with manifest and statements made for it."""
    return lambda world: world.forged(
        lambda document: document.update(table_digest=sha256_hex(data)),
        statements=[world.stated(statement(site, table=data)) for site in ("north", "south")],
        parts={"table.csv": data},
    )


def reorder_parts(world):
    candidate = world.release()
    blobs = list(candidate.parts.values())
    return encode(candidate.header(), [*blobs[1:], blobs[0]])


def swap_signatures(header):
    first, second = header["approvals"]
    first["signature"], second["signature"] = second["signature"], first["signature"]


def claim_dp_over_non_dp(world):
    return restated(encoder_provenance=EncoderProvenance.NON_DP)(world)


def other_tables_statement(world):
    return restated(table_digest=sha256_hex(b"other"))(world)


def reason_removed(world):
    sealed = world.sealed(statement("north"), statement("south", verdict=Verdict.FAIL))
    half = world.approved(sealed, "north")
    candidate = world.approved(half, "south", requested=Decision.OVERRIDE, reason=REASON)
    header = json.loads(canonical_json(candidate.header()))
    header["approvals"][1]["document"]["reason"] = ""
    return encode(header, list(candidate.parts.values()))


def dp_claim_without_dp(world):
    plain = {"spend": None, "verdict": Verdict.INCONCLUSIVE}
    return world.forged(
        lambda doc: doc.update(epsilon_disjoint=None, epsilon_worst_overlap=None, delta=None),
        statements=[world.stated(statement(site, **plain)) for site in ("north", "south")],
        approvals=lambda doc: [
            world.approval(doc, site, decision="dp_claim", reason=REASON) for site in ("north", "south")
        ],
    )


def constant(data):
    """These bytes, whoever makes them."""
    return lambda _: data


MUTATIONS = {
    # outsiders: bytes
    "empty file": (constant(b""), "not a release bundle"),
    "another magic": (lambda world: b"PK\x03\x04" + packed(world.release()), "not a release bundle"),
    "later format": (lambda w: packed(w.release()).replace(b"E 1\n", b"E 2\n", 1), "format 1"),
    "only the magic line": (constant(MAGIC), "truncated within the frame"),
    "truncated header": (lambda world: packed(world.release())[:100], "truncated within the header"),
    "truncated part": (lambda world: packed(world.release())[:-1], "truncated within the parts"),
    "appended byte": (lambda world: packed(world.release()) + b"\n", "bytes follow the last part"),
    "appended bundle": (lambda world: packed(world.release()) * 2, "bytes follow the last part"),
    "oversize header": (
        constant(MAGIC + struct.pack(">Q", 2**40) + b"{}"),
        "header is larger than any release needs",
    ),
    "reordered parts": (reorder_parts, "its hash differs"),
    "altered table": (lambda w: packed(w.release()).replace(b"72,M", b"73,M"), "table.csv: was altered"),
    "altered note": (
        lambda w: (
            packed(w.release())
            .replace(b"WITHOUT", b"With   ")
            .replace(b"Differential privacy for", b"Differential privacy fir")
        ),
        "README.txt: was altered",
    ),
    "header with spaces": (with_header(lambda c: json.dumps(c.header()).encode()), "canonical form"),
    "header with a key twice": (
        with_header(lambda c: canonical_json(c.header())[:-1] + b',"approvals":[]}'),
        "canonical form",
    ),
    "header a list": (with_header(constant(b"[]")), "not a JSON object"),
    "header not JSON": (with_header(constant(b"\xff\xfe")), "not a JSON document"),
    "header with one more field": (
        edited_header(lambda header: header.update(note="hello")),
        "holds more or less than manifest and approvals",
    ),
    "header without manifest": (
        edited_header(lambda header: drop(header, "manifest")),
        "holds more or less than manifest and approvals",
    ),
    # outsiders: signed documents
    "dropped envelope field": (
        edited_header(lambda header: drop(header["manifest"], "signer")),
        "manifest: not a signed document",
    ),
    "dropped manifest field": (
        edited_header(lambda header: drop(header["manifest"]["document"], "rows")),
        "manifest: the signature is wrong",
    ),
    "swapped signatures": (edited_header(swap_signatures), "approval 1: the signature is wrong"),
    "upper-case signature": (
        edited_header(lambda h: h["manifest"].update(signature=h["manifest"]["signature"].upper())),
        "not lower-case hexadecimal",
    ),
    "manifest under another name": (
        edited_header(lambda header: header["manifest"].update(signer="south")),
        "manifest: the signature is wrong",
    ),
    "wrong kind": (
        edited_header(lambda header: header["approvals"].insert(0, header["manifest"])),
        "approval 1: signed as another kind",
    ),
    "statement as approval": (
        edited_header(lambda h: h["approvals"].append(h["manifest"]["document"]["statements"][0])),
        "approval 3: signed as another kind",
    ),
    "missing approval": (
        edited_header(lambda header: header["approvals"].pop()),
        "'south': lacks its officer's approval",
    ),
    "no approvals": (edited_header(lambda h: h["approvals"].clear()), "lacks its officer's approval"),
    "approvals out of order": (edited_header(lambda h: h["approvals"].reverse()), "out of order"),
    "an approval twice": (
        edited_header(lambda header: header["approvals"].insert(0, header["approvals"][0])),
        "one officer approves twice",
    ),
    "reason removed": (
        reason_removed,
        "the signature is wrong",
    ),
    # insiders: keys
    "manifest by an unknown key": (lambda w: w.forged(by="mallory"), "signed by an unknown key"),
    "manifest by an officer": (lambda w: w.forged(by="ada"), "a key of role officer"),
    "approval of another manifest": (
        lambda w: w.forged(approvals=lambda d: [other_approval(w), w.approval(d, "south")]),
        "approves another manifest",
    ),
    "approval by a site key": (
        lambda w: w.forged(approvals=lambda d: [w.approval(d, "north", by="north"), w.approval(d, "south")]),
        "a key of role site",
    ),
    "approval by an unknown key": (
        lambda w: w.forged(
            approvals=lambda d: [w.approval(d, "north", by="mallory"), w.approval(d, "south")]
        ),
        "approval 1: signed by an unknown key",
    ),
    "approval in another officer's name": (reapproved(officer="edith"), "names another officer"),
    "approval for a site that states nothing": (
        lambda w: w.forged(approvals=lambda d: [w.approval(d, "north"), w.approval(d, "south", site="west")]),
        "approves for a site that states nothing",
    ),
    "approval before the sealing": (
        reapproved(approved=(NOW - dt.timedelta(days=3)).isoformat()),
        "approved before it was sealed",
    ),
    "approval in the future": (
        reapproved(approved=(NOW + dt.timedelta(days=3)).isoformat()),
        "approved in the future",
    ),
    "approval after the expiry": (
        lambda w: w.forged(
            lambda doc: doc.update(expires=TODAY.isoformat()),
            approvals=lambda d: [
                w.approval(d, "north", approved=(NOW + dt.timedelta(days=1)).isoformat()),
                w.approval(d, "south"),
            ],
        ),
        "approved after it had expired",
    ),
    "approval with an extra field": (reapproved(note="x"), "approval 1: a field is unknown"),
    # insiders: statements
    "empty statements": (lambda w: w.forged(statements=[]), "states nothing: no site"),
    "duplicate site": (
        lambda w: w.forged(statements=[w.stated(statement(s)) for s in ("north", "south", "south")]),
        "a site states twice",
    ),
    "statement for another table": (other_tables_statement, "'south': made for another table"),
    "statement by another site": (
        lambda w: w.forged(
            statements=[w.stated(statement("north")), w.stated(statement("south"), by="north")]
        ),
        "statement 2: speaks for another site",
    ),
    "statement by an unknown key": (
        lambda w: w.forged(
            statements=[w.stated(statement("north")), w.stated(statement("south"), by="mallory")]
        ),
        "statement 2: signed by an unknown key",
    ),
    "statement altered after signing": (
        lambda w: w.forged(lambda doc: doc["statements"][1]["document"].update(ledger_counter=0)),
        "statement 2: the signature is wrong",
    ),
    "statement dropped, sealing site's own": (
        lambda w: w.forged(
            lambda doc: doc.update(epsilon_disjoint=1.0),
            statements=[w.stated(statement("south"))],
            approvals=lambda d: [w.approval(d, "south")],
        ),
        "the sealing site states nothing",
    ),
    "audit of another table": (
        restated(audit={"verdict": "PASS", "table_digest": "0" * 64}),
        "the audit judged another table",
    ),
    "verdict changed, audit not": (
        restated(audit={"verdict": "FAIL", "table_digest": sha256_hex(TABLE)}),
        "the audit's verdict differs",
    ),
    "audit.json rewritten": (part_swap("audit.json", b"{}"), "audit.json: differs from the audits"),
    # insiders: the gate's outcome
    "INVALID approved": (verdict_south(Verdict.INVALID), "the audit is INVALID"),
    "INVALID overridden": (
        verdict_south(Verdict.INVALID, decision="override", reason=REASON),
        "the audit is INVALID",
    ),
    "FAIL as audit passed": (verdict_south(Verdict.FAIL), "audit_passed does not fit FAIL"),
    "FAIL as DP claim": (
        verdict_south(Verdict.FAIL, decision="dp_claim", reason=REASON),
        "dp_claim does not fit FAIL",
    ),
    "FAIL overridden without a reason": (
        verdict_south(Verdict.FAIL, decision="override"),
        "the written reason is missing",
    ),
    "FAIL overridden in one word": (
        verdict_south(Verdict.FAIL, decision="override", reason="urgent"),
        "the written reason is missing",
    ),
    "INCONCLUSIVE as audit passed": (
        verdict_south(Verdict.INCONCLUSIVE),
        "audit_passed does not fit INCONCLUSIVE",
    ),
    "INCONCLUSIVE without a reason": (
        verdict_south(Verdict.INCONCLUSIVE, decision="dp_claim"),
        "the written reason is missing",
    ),
    "DP claim without DP": (dp_claim_without_dp, "rests on a DP claim"),
    # insiders: figures and dates
    "epsilon lowered": (resealed(epsilon_disjoint=0.5), "not the largest of the sites' epsilons"),
    "overlap below disjoint": (resealed(epsilon_worst_overlap=1.4), "below epsilon_disjoint"),
    "epsilon kept back": (
        resealed(epsilon_disjoint=None, epsilon_worst_overlap=None, delta=None),
        "keeps an epsilon or delta back",
    ),
    "delta lowered": (resealed(delta=1e-9), "delta is not the largest"),
    "one site without DP": (restated(spend=None), "some sites state a spend and others none"),
    "adjacency mixed": (
        restated(
            spend=spend(1.0).__class__(**{**vars(spend(1.0)), "adjacency": Adjacency.REPLACE_ONE_PATIENT})
        ),
        "adjacencies differ",
    ),
    "spend without events": (
        restated(spend=spend(1.0).__class__(**{**vars(spend(1.0)), "events": ()})),
        "a spend needs events",
    ),
    "non-DP encoder under a DP claim": (claim_dp_over_non_dp, "encoder was trained on patients without DP"),
    "expired": (resealed(expires=(TODAY - dt.timedelta(days=1)).isoformat()), "expired on"),
    "sealed in the future": (
        resealed(created=(NOW + dt.timedelta(days=3)).isoformat()),
        "sealed in the future",
    ),
    "created without a zone": (resealed(created="2026-03-02T09:30:00"), "created is not a time in UTC"),
    "rows inflated": (resealed(rows=3000), "number of rows differs"),
    "another table's digest": (resealed(table_digest="3" * 64), "not the one in table_digest"),
    "another schema's digest": (resealed(schema_digest="3" * 64), "not the one in schema_digest"),
    "schema exchanged": (part_swap("schema.json", b'{"columns":[]}'), "not the one in schema_digest"),
    "manifest with one more field": (resealed(comment="x"), "manifest: a field is missing or malformed"),
    "manifest of a later format": (resealed(format=2), "manifest: a field is missing or malformed"),
    "part named like a path": (
        lambda w: w.forged(lambda doc: doc["parts"][3].update(name="../../etc/passwd")),
        "no plain file name",
    ),
    "part listed twice": (
        lambda w: w.forged(lambda doc: doc["parts"].append(doc["parts"][0])),
        "a part is listed twice",
    ),
    "more parts than any release": (
        lambda w: w.forged(parts={f"extra-{number}.txt": b"" for number in range(61)}),
        "more parts than any release needs",
    ),
    "more approvals than any release": (
        edited_header(lambda header: header.update(approvals=header["approvals"] * 257)),
        "more approvals than any release needs",
    ),
    "empty table": (table_swap(b""), "table.csv: has no columns"),
    "ragged table": (table_swap(b"age,sex\n61\n"), "table.csv: rows of different widths"),
    "binary table": (table_swap(b"PAR1\xff\xfe"), "table.csv: not a CSV table"),
    "schema a list": (part_swap("schema.json", b"[]"), "'schema.json': not a JSON object"),
    "schema not JSON": (part_swap("schema.json", b"{"), "'schema.json': not a JSON document"),
    "epsilon that no site states": (
        lambda w: w.forged(statements=[w.stated(statement(site, spend=None)) for site in ("north", "south")]),
        "claims an epsilon that no site states",
    ),
    "release without its note": (
        lambda w: w.forged(drop="README.txt"),
        "the parts are not those of a release",
    ),
    "part dropped": (lambda w: w.forged(lambda doc: doc["parts"].pop()), "bytes follow the last part"),
    # insiders: the enclosed policy
    "policy exchanged": (
        lambda w: w.forged(
            parts={"policy-south.json": canonical_json(policy_of("south", rules(fail="refuse")).to_json())}
        ),
        "is not the policy that the site states",
    ),
    "four eyes with one officer": (with_policy(rules(four_eyes=True)), "[rule release.four_eyes]"),
    "policy without release rules": (policy_without_rules, "'policy-south.json': has no release rules"),
    "valid for longer than the policy": (with_policy(rules(valid_days=30)), "[rule release.valid_days]"),
    "policy with an unknown word": (
        with_policy(rules(fail="perhaps")),
        "own policy forbids it, rule release.fail",
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_named_mutation_is_refused_with_its_own_reason(world, name):
    make, reason = MUTATIONS[name]
    data = make(world)
    with pytest.raises(REFUSALS) as refusal:
        world.verified(data)
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert any(reason in problem for problem in check(data, world.trust, today=TODAY))


def test_no_more_than_a_bundle_may_hold_is_read(world, clean, tmp_path, monkeypatch):
    monkeypatch.setattr(framing, "MAX_BUNDLE_BYTES", len(clean) - 1)
    (tmp_path / "large.synthkit").write_bytes(clean)
    with pytest.raises(BundleError, match="larger than 1 GiB"):
        world.verified(clean)
    with pytest.raises(BundleError, match="larger than 1 GiB"):
        world.verified(tmp_path / "large.synthkit")
    with pytest.raises(InputError, match="larger than 1 GiB"):
        packed(world.release())
    monkeypatch.setattr(framing, "MAX_HEADER_BYTES", 100)
    with pytest.raises(InputError, match="too large"):
        packed(world.release())


def test_the_recipients_own_trust_decides(world, clean):
    cases = {
        "unknown key": TrustStore(),
        "revoked key of 'north'": world.trust_with("north", revoked=True),
        "revoked key of 'south'": world.trust_with("south", revoked=True),
        "revoked key of 'ada'": world.trust_with("ada", revoked=True),
        "a key of role coordinator": world.trust_with("ada", role="coordinator"),
        "belongs to 'nord'": world.trust_with("north", name="nord"),
        "officer of another hospital": world.trust_with("ada", site="south"),
    }
    for reason, trust in cases.items():
        with pytest.raises(SignatureError, match=reason):
            world.verified(clean, trust=trust)
    assert world.verified(clean, trust=world.trust_with("ada", site="north"))


def test_dates_decide_to_the_day(world, clean):
    assert world.verified(clean, today=EXPIRES)
    with pytest.raises(BundleError, match="expired on"):
        world.verified(clean, today=EXPIRES + dt.timedelta(days=1))
    assert world.verified(clean, today=TODAY - dt.timedelta(days=1))
    with pytest.raises(BundleError, match="future"):
        world.verified(clean, today=TODAY - dt.timedelta(days=2))


def test_check_names_every_failing_step_at_once(world):
    def spoil(document):
        document.update(rows=5, epsilon_disjoint=0.1, expires="2026-03-02")

    data = world.forged(spoil, approvals=lambda _: [])
    problems = check(data, world.trust, today=TODAY + dt.timedelta(days=1))
    for reason in ("number of rows", "lacks its officer", "expired", "largest of the sites' epsilons"):
        assert any(reason in problem for problem in problems)
