"""From sealing to the opened file: what is not approved does not leave, and what leaves is unaltered."""

import datetime as dt
import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from release_workshop import (
    EXPIRES,
    NOW,
    REASON,
    RULES,
    SCHEMA,
    TABLE,
    TODAY,
    Workshop,
    packed,
    policy_of,
    spend,
    statement,
)

from synthkit.domain.audit import Verdict
from synthkit.domain.canonical import canonical_json
from synthkit.domain.privacy import EncoderProvenance
from synthkit.domain.release import Decision
from synthkit.errors import BundleError, InputError, ReleaseRefusedError, SignatureError
from synthkit.release.bundle import Candidate, ReleaseFacts, export, extract_table, policy_part, seal, verify

FOUR_EYES = replace(RULES, four_eyes=True)


@pytest.fixture(scope="module")
def world() -> Workshop:
    return Workshop()


def test_a_release_round_trips_from_seal_to_table(world, tmp_path):
    world.sealed().write(tmp_path / "candidate")
    for site in ("north", "south"):
        candidate = Candidate.read(tmp_path / "candidate")
        world.approved(candidate, site).write(tmp_path / "candidate")
    export(Candidate.read(tmp_path / "candidate"), tmp_path / "heart.synthkit")
    verified = verify(tmp_path / "heart.synthkit", world.trust, today=TODAY)
    extract_table(verified, tmp_path / "heart.csv")
    assert (tmp_path / "heart.csv").read_bytes() == TABLE
    assert verified.parts["schema.json"] == SCHEMA
    assert verified.manifest.rows == 3
    assert (verified.manifest.epsilon_disjoint, verified.manifest.epsilon_worst_overlap) == (1.5, 2.2)
    assert [one.officer for one in verified.approvals] == ["ada", "grace"]
    assert b"epsilon 1.5 at delta 1e-05" in verified.parts["README.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["candidate", "heart.csv", "heart.synthkit"]


def test_export_refuses_until_every_site_approved(world, tmp_path):
    candidate = world.sealed()
    assert len(candidate.missing) == 2
    for part_way in (candidate, world.approved(candidate, "south")):
        with pytest.raises(ReleaseRefusedError, match="site north: approvals missing: 1"):
            export(part_way, tmp_path / "out.synthkit")
    assert list(tmp_path.iterdir()) == []


def test_no_file_is_ever_overwritten(world, tmp_path):
    target = tmp_path / "out.synthkit"
    target.write_bytes(b"mine")
    with pytest.raises(InputError, match="exists"):
        export(world.release(), target)
    with pytest.raises(InputError, match="exists"):
        extract_table(world.verified(packed(world.release())), target)
    dangling = tmp_path / "link.synthkit"
    dangling.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="exists"):
        export(world.release(), dangling)
    assert target.read_bytes() == b"mine"
    assert not (tmp_path / "elsewhere").exists()


def test_four_eyes_need_two_officers_with_two_keys(world, tmp_path):
    once = world.approved(world.sealed(), "south")
    once = world.approved(once, "north", "ada", rules=FOUR_EYES)
    assert once.missing == ("site north: approvals missing: 1",)
    with pytest.raises(ReleaseRefusedError, match="approved already"):
        world.approved(once, "north", "ada", rules=FOUR_EYES)
    with pytest.raises(ReleaseRefusedError, match="not fully approved"):
        export(once, tmp_path / "out.synthkit")
    once.write(tmp_path / "candidate")
    twice = world.approved(Candidate.read(tmp_path / "candidate"), "north", "edith", rules=FOUR_EYES)
    assert twice.missing == ()
    export(twice, tmp_path / "out.synthkit")
    with pytest.raises(ReleaseRefusedError, match="all approvals are there"):
        world.approved(twice, "north", "grace", rules=FOUR_EYES)


def test_an_enclosed_policy_lets_the_recipient_check_four_eyes(world):
    policy = policy_of("north", FOUR_EYES)
    stated = statement("north", policy_digest=policy.digest)
    parts = {policy_part("north"): canonical_json(policy.to_json())}
    candidate = world.sealed(stated, statement("south"), parts=parts)
    assert candidate.missing[0] == "site north: approvals missing: 2"
    with pytest.raises(ReleaseRefusedError, match="not the rules of the policy"):
        world.approved(candidate, "north", rules=RULES)
    for site, officer, rules in (
        ("south", "grace", RULES),
        ("north", "ada", FOUR_EYES),
        ("north", "edith", FOUR_EYES),
    ):
        candidate = world.approved(candidate, site, officer, rules=rules)
    verified = world.verified(packed(candidate))
    assert not any("'north'" in warning for warning in verified.warnings)
    stripped = replace(candidate, approvals=tuple(a for a in candidate.approvals if a["signer"] != "edith"))
    with pytest.raises(BundleError, match="second officer"):
        world.verified(packed(stripped))


def test_the_gate_stands_before_the_signature(world):
    failed = world.sealed(statement("north", verdict=Verdict.FAIL), statement("south"))
    with pytest.raises(ReleaseRefusedError, match=r"rule release\.fail"):
        world.approved(failed, "north")
    with pytest.raises(ReleaseRefusedError, match="written reason"):
        world.approved(failed, "north", requested=Decision.OVERRIDE, reason="urgent")
    done = world.approved(failed, "north", requested=Decision.OVERRIDE, reason=REASON)
    verified = world.verified(packed(world.approved(done, "south")))
    assert any("FAILed; 'ada' overrode it" in warning for warning in verified.warnings)
    assert verified.approvals[0].reason == REASON
    invalid = world.sealed(statement("north", verdict=Verdict.INVALID), statement("south"))
    with pytest.raises(ReleaseRefusedError, match="INVALID"):
        world.approved(invalid, "north", requested=Decision.OVERRIDE, reason=REASON)


def test_what_a_recipient_should_read_first_is_a_warning(world):
    north = statement("north", verdict=Verdict.INCONCLUSIVE, ledger_head="")
    candidate = world.sealed(north, statement("south"), overlap=12.0)
    half = world.approved(candidate, "north", requested=Decision.DP_CLAIM, reason=REASON)
    data = packed(world.approved(half, "south"))
    warnings = world.verified(data, today=EXPIRES).warnings
    for text in ("above 10", "INCONCLUSIVE", "'north' names no ledger", "not enclosed", "expires on"):
        assert sum(text in warning for warning in warnings) >= 1, text
    clean = world.verified(packed(world.release())).warnings
    assert all("not enclosed" in warning for warning in clean)


def test_a_callers_slips_are_refused(world):
    with pytest.raises(TypeError, match="time zone"):
        world.approved(world.sealed(), "north", now=NOW.replace(tzinfo=None))
    with pytest.raises(InputError, match="one printable line"):
        world.approved(world.sealed(), "north", reason="two\nlines")
    assert "site north: approvals missing: 1" in repr(world.sealed())


def test_a_sites_key_cannot_be_its_officers(world):
    with pytest.raises(ReleaseRefusedError, match="site's key"):
        world.approved(world.sealed(), "north", "south")


def test_an_approval_is_refused_outside_its_time(world):
    with pytest.raises(ReleaseRefusedError, match="after it expired"):
        world.approved(world.sealed(), "north", now=NOW + dt.timedelta(days=91))
    with pytest.raises(ReleaseRefusedError, match="before it was sealed"):
        world.approved(world.sealed(), "north", now=NOW - dt.timedelta(days=1))
    with pytest.raises(ReleaseRefusedError, match="valid_days"):
        world.approved(world.sealed(), "north", rules=replace(RULES, valid_days=89))
    assert world.approved(world.sealed(), "north", rules=replace(RULES, valid_days=90))


def test_a_release_without_dp_says_so_everywhere(world):
    plain = {"spend": None, "encoder_provenance": EncoderProvenance.NON_DP}
    candidate = world.sealed(statement("north", **plain), statement("south", **plain), overlap=None)
    with pytest.raises(ReleaseRefusedError, match="allow_non_private"):
        world.approved(candidate, "north", rules=replace(RULES, allow_non_private=False))
    verified = world.verified(packed(world.approved(world.approved(candidate, "north"), "south")))
    assert any("without differential privacy" in warning for warning in verified.warnings)
    assert b"WITHOUT DIFFERENTIAL PRIVACY" in verified.parts["README.txt"]
    assert verified.manifest.epsilon_disjoint is None


def test_the_note_never_prints_less_than_the_epsilon_that_holds(world):
    candidate = world.sealed(statement("north", spend=spend(2.00001)), overlap=2.00001)
    assert b"epsilon 2.001 at delta 1e-05" in candidate.parts["README.txt"]


def test_what_would_not_verify_is_not_sealed(world):
    cases = {
        "below epsilon_disjoint": ((statement("north"), statement("south")), {"overlap": 1.0}),
        "keeps an epsilon": ((statement("north"), statement("south")), {"overlap": None}),
        "made for another table": ((statement("north"), statement("south", table=b"x\n1\n")), {}),
        "states twice": ((statement("north"), statement("north")), {}),
        "others none": ((statement("north"), statement("south", spend=None)), {}),
        "without DP": ((statement("north", encoder_provenance=EncoderProvenance.NON_DP),), {"overlap": 1.5}),
        "not within": ((statement("north", spend=spend(1.0, delta=0.0)),), {"overlap": 1.0}),
    }
    for reason, (statements, options) in cases.items():
        with pytest.raises(BundleError, match=reason):
            world.sealed(*statements, **options)
    with pytest.raises(InputError, match="sealing site has no statement"):
        world.sealed(statement("south"))
    with pytest.raises(InputError, match="past"):
        world.sealed(expires=TODAY - dt.timedelta(days=1))
    with pytest.raises(InputError, match="schema is missing"):
        seal(
            table_csv=TABLE,
            parts={},
            statements=[world.stated(statement("north"))],
            facts=_facts(world.sealed()),
            key=world.keys["north"],
            signer="north",
            now=NOW,
        )
    with pytest.raises(InputError, match="writes this part itself"):
        world.sealed(parts={"audit.json": b"{}"})
    with pytest.raises(BundleError, match="plain file name"):
        world.sealed(parts={"../evil": b""})


def test_an_unsigned_or_altered_statement_is_not_sealed(world):
    envelope = world.stated(statement("north"))
    envelope["document"] = {**envelope["document"], "ledger_counter": 0}
    facts_of = world.sealed()
    with pytest.raises(SignatureError, match="signature is wrong"):
        seal(
            table_csv=TABLE,
            parts={"schema.json": SCHEMA},
            statements=[envelope],
            facts=_facts(facts_of),
            key=world.keys["north"],
            signer="north",
            now=NOW,
        )


def test_a_tampered_candidate_folder_is_refused(world, tmp_path):
    folder = tmp_path / "candidate"
    world.release().write(folder)
    (folder / "parts" / "table.csv").write_bytes(TABLE.replace(b"61", b"62"))
    with pytest.raises(BundleError, match=r"table\.csv: was altered"):
        Candidate.read(folder)
    world_two = tmp_path / "two"
    world.release().write(world_two)
    header = (world_two / "candidate.json").read_bytes()
    (world_two / "candidate.json").write_bytes(header.replace(b'"rows":3', b'"rows":4'))
    with pytest.raises(SignatureError, match="signature is wrong"):
        Candidate.read(world_two)
    with pytest.raises(InputError, match="cannot be read"):
        Candidate.read(tmp_path / "nowhere")
    clean = json.loads(header)
    for change, reason in (
        ({"note": "x"}, "not a candidate"),
        ({"approvals": {}}, "wrong type"),
        ({"four_eyes": "north"}, "wrong type"),
    ):
        (world_two / "candidate.json").write_bytes(canonical_json({**clean, **change}))
        with pytest.raises(BundleError, match=reason):
            Candidate.read(world_two)


def test_a_site_that_states_nothing_cannot_be_approved_for(world):
    with pytest.raises(InputError, match="no statement of this site"):
        world.approved(world.sealed(), "west", "ada")


def test_a_folder_that_cannot_be_written_is_said_in_one_line(world, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be written"):
        world.sealed().write(tmp_path / "file" / "candidate")
    with pytest.raises(InputError, match="cannot be written"):
        export(world.release(), tmp_path / "nowhere" / "out.synthkit")
    with pytest.raises(InputError, match="cannot be read"):
        verify(tmp_path / "nowhere.synthkit", world.trust, today=TODAY)


def test_a_folder_holds_one_candidate(world, tmp_path):
    world.sealed().write(tmp_path / "candidate")
    with pytest.raises(InputError, match="another candidate"):
        world.sealed(expires=EXPIRES - dt.timedelta(days=1)).write(tmp_path / "candidate")


def test_verification_is_fast_and_light(world):
    """10,000 rows of 30 columns in well under 0.3 s, in a process without torch, pandas or numpy."""
    header = ",".join(f"column_{i}" for i in range(30)) + "\n"
    table = (header + (",".join(["12.345"] * 30) + "\n") * 10_000).encode()
    stated = statement("north", table=table)
    candidate = seal(
        table_csv=table,
        parts={"schema.json": SCHEMA},
        statements=[world.stated(stated)],
        facts=replace(_facts(world.sealed()), epsilon_worst_overlap=1.5),
        key=world.keys["north"],
        signer="north",
        now=NOW,
    )
    data = packed(world.approved(candidate, "north"))
    durations = []
    for _ in range(3):
        start = time.process_time()
        world.verified(data)
        durations.append(time.process_time() - start)
    assert min(durations) < 0.3
    code = (
        "import sys, synthkit.release.bundle; print(sorted({'torch','pandas','opacus'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _facts(candidate: Candidate):
    return ReleaseFacts(**{name: getattr(candidate.manifest, name) for name in ReleaseFacts.__annotations__})
