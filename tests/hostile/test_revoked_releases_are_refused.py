"""What was taken back is refused with its reason; a list that is altered, foreign or cut refuses too."""

import copy
import datetime as dt
import json

import pytest
from release_workshop import NOW, TODAY, Workshop, packed

from synthkit.domain.canonical import canonical_json, digest_of
from synthkit.errors import BundleError, InputError, SignatureError
from synthkit.release.bundle import check, verify
from synthkit.release.revocation import (
    RevocationList,
    Subject,
    extend_list,
    parse_list,
    read_lists,
)
from synthkit.release.signing import TrustedKey, TrustStore

REASON = "A patient withdrew consent before sealing"
DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def world() -> Workshop:
    return Workshop()


@pytest.fixture(scope="module")
def clean(world):
    return world.release()


def listed(world, signer, *entries, now=NOW, by=None):
    """A signed list of `(subject, digest)`, as bytes."""
    earlier = None
    for subject, digest in entries:
        envelope = extend_list(
            earlier,
            subject=subject,
            digest=digest,
            reason=REASON,
            key=world.keys[by or signer],
            signer=signer,
            now=now,
        )
        earlier, _ = parse_list(canonical_json(envelope), where="list")
    return canonical_json(envelope)


def lists_of(folder, trust, **files):
    """Written as a recipient holds them, and read back."""
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / f"{name}.json").write_bytes(data)
    return read_lists(folder, trust)


def of_release(candidate):
    return Subject.RELEASE, candidate.manifest.digest


def of_key(world, name):
    return Subject.KEY, world.keys[name].public_key_hex


OTHER = (Subject.RELEASE, "7" * 64)


@pytest.mark.parametrize("signer", ["north", "south", "ada", "grace"])
def test_a_release_is_revoked_by_whoever_stands_for_it(world, clean, tmp_path, signer):
    lists = lists_of(tmp_path, world.trust, one=listed(world, signer, OTHER, of_release(clean)))
    with pytest.raises(BundleError, match=f"revoked by '{signer}' on 2026-03-02: {REASON}") as refusal:
        verify(packed(clean), world.trust, today=TODAY, revocations=lists)
    assert refusal.value.exit_code == 6
    assert "\n" not in str(refusal.value)
    problems = check(packed(clean), world.trust, today=TODAY, revocations=lists)
    assert len(problems) == 1
    assert REASON in problems[0]


def test_lists_about_others_refuse_nothing(world, clean, tmp_path):
    lists = lists_of(
        tmp_path, world.trust, one=listed(world, "north", OTHER), two=listed(world, "ada", OTHER)
    )
    release = verify(packed(clean), world.trust, today=TODAY, revocations=lists)
    assert release == verify(packed(clean), world.trust, today=TODAY)
    assert check(packed(clean), world.trust, today=TODAY, revocations=lists) == ()


def test_who_did_not_approve_revokes_nothing_and_the_reader_is_told(world, clean, tmp_path):
    """Edith is a trusted officer of whom this release knows nothing."""
    entries = (of_release(clean), of_key(world, "north"), of_key(world, "ada"))
    lists = lists_of(tmp_path, world.trust, edith=listed(world, "edith", *entries))
    release = verify(packed(clean), world.trust, today=TODAY, revocations=lists)
    assert any("'edith' lists this release as revoked" in warning for warning in release.warnings)


@pytest.mark.parametrize("days", [-400, -1, 0, 1, 400])
@pytest.mark.parametrize("name", ["north", "south", "ada", "grace"])
def test_a_signature_by_a_revoked_key_is_refused_whenever_it_was_made(world, clean, tmp_path, name, days):
    data = listed(world, name, of_key(world, name), now=NOW + days * DAY)
    lists = lists_of(tmp_path, world.trust, own=data)
    with pytest.raises(SignatureError, match=f"signed by a key that '{name}' revoked .*{REASON}") as refusal:
        verify(packed(clean), world.trust, today=TODAY, revocations=lists)
    assert refusal.value.exit_code == 6


@pytest.mark.parametrize("days", [-30, 30])
def test_a_release_is_refused_whether_it_was_revoked_before_or_after_its_approval(world, tmp_path, days):
    sealed = world.sealed()
    data = listed(world, "south", of_release(sealed), now=NOW + days * DAY)
    released = world.approved(world.approved(sealed, "north"), "south")
    lists = lists_of(tmp_path, world.trust, one=data)
    with pytest.raises(BundleError, match="revoked by 'south'"):
        verify(packed(released), world.trust, today=TODAY, revocations=lists)


def bound(world, site, *names):
    keys = [
        TrustedKey(name=key.name, role=key.role, public_key=key.public_key, site=site)
        if key.name in names
        else key
        for key in world.trust.keys
    ]
    return TrustStore(keys=tuple(keys))


@pytest.mark.parametrize(("signer", "name"), [("north", "ada"), ("ada", "north")])
def test_a_hospital_and_its_bound_officer_revoke_each_others_keys(world, clean, tmp_path, signer, name):
    trust = bound(world, "north", "ada")
    lists = lists_of(tmp_path, trust, one=listed(world, signer, of_key(world, name)))
    with pytest.raises(SignatureError, match=f"'{signer}' revoked"):
        verify(packed(clean), trust, today=TODAY, revocations=lists)
    unbound = lists_of(tmp_path, world.trust)
    assert verify(packed(clean), world.trust, today=TODAY, revocations=unbound)


def test_no_hospital_revokes_anothers_key(world, clean, tmp_path):
    trust = bound(world, "north", "ada")
    lists = lists_of(
        tmp_path, trust, one=listed(world, "south", of_key(world, "ada"), of_key(world, "north"))
    )
    assert verify(packed(clean), trust, today=TODAY, revocations=lists)


def test_an_officer_of_another_hospital_does_not_revoke_by_her_namesakes_approval(world, clean, tmp_path):
    other = TrustedKey(
        name="ada", role="officer", public_key=world.keys["mallory"].public_key_hex, site="elsewhere"
    )
    trust = TrustStore(keys=(*world.trust.keys, other))
    lists = lists_of(tmp_path, trust, one=listed(world, "ada", of_release(clean), by="mallory"))
    assert verify(packed(clean), trust, today=TODAY, revocations=lists)


def test_a_thief_with_a_revoked_key_revokes_nothing(world, tmp_path):
    """Ada's old key is stolen; her new one revokes it; the thief's list about the new one is refused."""
    new = TrustedKey(name="ada", role="officer", public_key=world.keys["mallory"].public_key_hex)
    trust = TrustStore(keys=(*world.trust.keys, new))
    hers = listed(world, "ada", of_key(world, "ada"), by="mallory")
    theirs = listed(world, "ada", of_release(world.release()), by="ada")
    with pytest.raises(SignatureError, match="signed by a key that 'ada' revoked"):
        lists_of(tmp_path, trust, hers=hers, theirs=theirs)


def test_a_list_by_a_key_that_the_reader_marked_as_revoked_is_refused(world, clean, tmp_path):
    with pytest.raises(SignatureError, match="revoked key"):
        lists_of(tmp_path, world.trust_with("ada", revoked=True), one=listed(world, "ada", of_release(clean)))


@pytest.mark.parametrize(
    ("role", "words"),
    [("coordinator", "of role coordinator"), ("", "unknown key"), ("officer", "belongs to")],
)
def test_a_list_by_somebody_who_may_not_sign_one_is_refused(world, clean, tmp_path, role, words):
    key = TrustedKey(
        name="mallory" if role != "officer" else "edward",
        role=role or "site",
        public_key=world.keys["mallory"].public_key_hex,
    )
    trust = TrustStore(keys=(*world.trust.keys, *((key,) if role else ())))
    with pytest.raises(SignatureError, match=words):
        lists_of(tmp_path, trust, one=listed(world, "mallory", of_release(clean)))


def test_a_list_in_anothers_name_is_refused(world, clean, tmp_path):
    with pytest.raises(SignatureError, match="belongs to 'edith'"):
        lists_of(tmp_path, world.trust, one=listed(world, "north", of_release(clean), by="edith"))


def test_every_flipped_byte_of_a_list_is_refused(world, clean, tmp_path):
    data = listed(world, "north", OTHER, of_release(clean))
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= 1 << (place % 8)
        with pytest.raises((BundleError, SignatureError)):
            parse_list(bytes(altered), where="list")
    for length in range(0, len(data), 5):
        with pytest.raises((BundleError, SignatureError)):
            parse_list(data[:length], where="list")


def resigned(world, data, change, signer="north"):
    """The list as its own signer could forge it: changed, and signed anew."""
    document = copy.deepcopy(json.loads(data)["document"])
    change(document)
    return canonical_json(world.sign(document, "revocation", signer))


def swap(document):
    document["entries"].reverse()


def renumber(document):
    document["entries"].reverse()
    for number, entry in enumerate(document["entries"], start=1):
        entry["number"] = number


def without_the_first(document):
    del document["entries"][0]


def with_another_reason(document):
    document["entries"][0]["reason"] = "Something quite different"


CHANGES = {
    "swapped": swap,
    "swapped and renumbered": renumber,
    "first taken out": without_the_first,
    "an old reason rewritten": with_another_reason,
    "empty": lambda document: document["entries"].clear(),
    "another format": lambda document: document.update(format=2),
    "an unknown field": lambda document: document.update(more=1),
    "an unknown subject": lambda document: document["entries"][0].update(subject="officer"),
    "no reason": lambda document: document["entries"][0].update(reason=""),
    "a reason in two lines": lambda document: document["entries"][1].update(reason="Two lines\nof reason"),
    "no digest": lambda document: document["entries"][0].update(digest="abc"),
    "a local time": lambda document: document["entries"][0].update(revoked="2026-03-02T09:30:00+02:00"),
    "entries no list": lambda document: document.update(entries="x"),
    "an entry no object": lambda document: document.update(entries=[1]),
    "a field dropped": lambda document: document["entries"][0].pop("previous"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_list_whose_own_signer_rewrote_it_is_refused(world, clean, name):
    data = listed(world, "north", OTHER, of_release(clean), (Subject.RELEASE, "8" * 64))
    assert parse_list(resigned(world, data, len), where="list")[0].counter == 3
    with pytest.raises(BundleError):
        parse_list(resigned(world, data, CHANGES[name]), where="list")


def test_an_older_list_beside_the_newer_one_changes_nothing(world, clean, tmp_path):
    """Read in either order; a recipient who has only the older one cannot know, and is told its number."""
    old, new = listed(world, "north", OTHER), listed(world, "north", OTHER, of_release(clean))
    for number, files in enumerate(({"a": old, "b": new}, {"a": new, "b": old})):
        (one,) = lists_of(tmp_path / str(number), world.trust, **files)
        assert one.counter == 2
        assert one.as_of == TODAY
    (alone,) = lists_of(tmp_path / "alone", world.trust, a=old)
    assert alone.counter == 1
    assert verify(packed(clean), world.trust, today=TODAY, revocations=(alone,))


def test_two_histories_by_one_key_are_refused(world, clean, tmp_path):
    one, two = listed(world, "north", OTHER), listed(world, "north", of_release(clean), OTHER)
    with pytest.raises(BundleError, match="contradicts another list"):
        lists_of(tmp_path, world.trust, a=one, b=two)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff", b'{"entries":[]}'])
def test_no_list_at_all_is_refused(world, tmp_path, data):
    with pytest.raises((BundleError, SignatureError)):
        lists_of(tmp_path, world.trust, a=data)


def test_an_empty_folder_and_a_missing_file_are_refused(world, tmp_path):
    with pytest.raises(InputError, match="no revocation list"):
        read_lists(tmp_path, world.trust)
    with pytest.raises(InputError, match="cannot be read"):
        read_lists(tmp_path / "none.json", world.trust)


def test_a_list_of_another_kind_of_document_is_refused(world, clean):
    with pytest.raises(SignatureError, match="another kind"):
        parse_list(canonical_json(clean.envelope), where="list")


def test_a_list_grows_and_nothing_else(world, clean):
    first, _ = parse_list(listed(world, "north", OTHER), where="list")
    again = {"subject": OTHER[0], "digest": OTHER[1], "reason": REASON, "now": NOW}
    with pytest.raises(InputError, match="revoked already"):
        extend_list(first, key=world.keys["north"], signer="north", **again)
    for key, signer in (("south", "north"), ("north", "south")):
        with pytest.raises(InputError, match="another key's list"):
            extend_list(first, key=world.keys[key], signer=signer, **again | {"digest": "9" * 64})
    with pytest.raises(InputError, match="hexadecimal"):
        extend_list(None, key=world.keys["north"], signer="north", **again | {"digest": "9" * 63})
    for reason in ("", "short", "two\nlines of reason", "x" * 501):
        with pytest.raises(InputError, match="reason"):
            extend_list(None, key=world.keys["north"], signer="north", **again | {"reason": reason})
    longer = extend_list(
        first, key=world.keys["north"], signer="north", **again | {"digest": clean.manifest.digest}
    )
    read, _ = parse_list(canonical_json(longer), where="list")
    assert read.entries[0] == first.entries[0]
    assert read.entries[1].previous == first.head == digest_of(first.entries[0].to_json())
    assert isinstance(read, RevocationList)
