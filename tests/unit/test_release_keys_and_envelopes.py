"""Keys on disk, signed documents and trust stores: what is kept, and what is refused."""

import copy
import json
import pickle
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from synthkit.errors import InputError, SignatureError
from synthkit.release.signing import (
    SigningKey,
    TrustedKey,
    TrustStore,
    check_signature,
    generate_key,
    open_document,
    public_path,
    read_key,
    read_public_key,
    seal_document,
    write_key,
)

KEY = generate_key()


def trusting(key: SigningKey = KEY, **changes) -> TrustStore:
    entry = {"name": "north", "role": "site", "public_key": key.public_key_hex, **changes}
    return TrustStore(keys=(TrustedKey(**entry),))


@pytest.mark.parametrize("passphrase", [None, "correct horse battery staple", "Blutdruck größer"])
def test_a_key_comes_back_as_written(tmp_path, passphrase):
    path = tmp_path / "north.key"
    write_key(KEY, path, passphrase)
    again = read_key(path, passphrase)
    assert again.sign(b"data") == KEY.sign(b"data")
    assert read_public_key(public_path(path)) == KEY.public_key_hex == again.public_key_hex
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (b"ENCRYPTED" in path.read_bytes()) == (passphrase is not None)


def test_neither_half_is_ever_overwritten(tmp_path):
    path = tmp_path / "north.key"
    write_key(KEY, path, None)
    before = path.read_bytes()
    with pytest.raises(InputError, match="exists"):
        write_key(generate_key(), path, None)
    public_path(path).unlink()
    with pytest.raises(InputError, match="never overwritten"):
        write_key(generate_key(), path, None)
    assert path.read_bytes() == before
    other = tmp_path / "south.key"
    public_path(other).write_text("mine")
    with pytest.raises(InputError, match="exists"):
        write_key(KEY, other, None)
    assert not other.exists()
    (tmp_path / "west.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="exists"):
        write_key(KEY, tmp_path / "west.key", None)


def test_unusable_key_files_are_refused_in_one_line(tmp_path):
    write_key(KEY, tmp_path / "locked.key", "a long passphrase")
    write_key(KEY, tmp_path / "open.key", None)
    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "curve.key").write_bytes(curve)
    (tmp_path / "noise.key").write_bytes(b"\x00\xff not a key")
    cases = [
        ("missing.key", None, InputError, "cannot be read"),
        ("locked.key", None, InputError, "encrypted"),
        ("locked.key", "", InputError, "encrypted"),
        ("locked.key", "another passphrase", SignatureError, "passphrase is wrong"),
        ("open.key", "superfluous", InputError, "not encrypted"),
        ("curve.key", None, SignatureError, "not an Ed25519 key"),
        ("noise.key", None, SignatureError, "not a private key"),
        ("open.key.pub", None, SignatureError, "not a private key"),
    ]
    for name, passphrase, error, reason in cases:
        with pytest.raises(error, match=reason) as refusal:
            read_key(tmp_path / name, passphrase)
        assert "\n" not in str(refusal.value)
        assert str(tmp_path) not in str(refusal.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_public_key(tmp_path / "missing.pub")
    with pytest.raises(InputError, match="cannot be written"):
        write_key(KEY, tmp_path / "nowhere" / "north.key", None)
    with pytest.raises(InputError, match="passphrase is empty"):
        write_key(KEY, tmp_path / "empty.key", "")
    (tmp_path / "bad.pub").write_text(KEY.public_key_hex.upper() + "x")
    with pytest.raises(InputError, match="not a public key"):
        read_public_key(tmp_path / "bad.pub")


def test_a_private_key_is_neither_shown_nor_pickled():
    secret = KEY._private.private_bytes_raw().hex()
    assert secret not in repr(KEY)
    assert secret not in str(vars(KEY))
    with pytest.raises(TypeError):
        pickle.dumps(KEY)


def test_signatures_agree_with_rfc_8032():
    """Section 7.1, test 2: a key, a message and the signature, from the standard."""
    seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
    key = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)))
    assert key.public_key_hex == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    signature = (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert key.sign(b"\x72").hex() == signature
    check_signature(key.public_key_hex, b"\x72", signature, where="test")
    with pytest.raises(SignatureError, match="is wrong"):
        check_signature(key.public_key_hex, b"\x73", signature, where="test")
    with pytest.raises(SignatureError, match="is wrong"):
        check_signature("ff" * 32, b"\x72", signature, where="test")


def test_an_envelope_opens_to_its_document():
    envelope = seal_document({"rows": 3, "name": "Zürich"}, "statement", KEY, "north")
    assert set(envelope) == {"kind", "signer", "public_key", "document", "signature"}
    travelled = json.loads(json.dumps(envelope))
    assert open_document(travelled, "statement", trusting()) == ({"rows": 3, "name": "Zürich"}, "north")


def test_every_change_of_an_envelope_is_refused():
    clean = seal_document({"rows": 3}, "statement", KEY, "north")
    other = generate_key()
    changes = [
        ({"kind": "manifest"}, "another kind"),
        ({"signer": "south"}, "signature is wrong|belongs to"),
        ({"public_key": other.public_key_hex}, "signature is wrong"),
        ({"public_key": KEY.public_key_hex.upper()}, "lower-case"),
        ({"document": {"rows": 4}}, "signature is wrong"),
        ({"document": {"rows": 3.0}}, "signature is wrong"),
        ({"document": {"rows": float("nan")}}, "canonical form"),
        ({"document": [3]}, "wrong type"),
        ({"signature": clean["signature"][:-2]}, "lower-case"),
        ({"signature": "00" * 64}, "signature is wrong"),
        ({"note": "x"}, "exactly the five"),
    ]
    for change, reason in changes:
        with pytest.raises(SignatureError, match=reason):
            open_document({**copy.deepcopy(clean), **change}, "statement", trusting())
    for name in clean:
        with pytest.raises(SignatureError, match="exactly the five"):
            open_document({k: v for k, v in clean.items() if k != name}, "statement", trusting())
    for nonsense in (None, [], "x", 3):
        with pytest.raises(SignatureError, match="exactly the five"):
            open_document(nonsense, "statement", trusting())


def test_a_signature_of_one_kind_serves_no_other():
    """The kind is inside the signature: relabelling a statement as a manifest does not help."""
    relabelled = {**seal_document({"a": 1}, "statement", KEY, "north"), "kind": "manifest"}
    with pytest.raises(SignatureError, match="signature is wrong"):
        open_document(relabelled, "manifest", trusting())
    with pytest.raises(RuntimeError, match="unknown kind"):
        seal_document({}, "letter", KEY, "north")


def test_only_the_readers_own_trust_counts():
    envelope = seal_document({"a": 1}, "statement", KEY, "north")
    cases = [
        (TrustStore(), "unknown key"),
        (trusting(generate_key()), "unknown key"),
        (trusting(revoked=True), "revoked key of 'north'"),
        (trusting(role="officer"), "a key of role officer"),
        (trusting(name="south"), "belongs to 'south'"),
    ]
    for trust, reason in cases:
        with pytest.raises(SignatureError, match=reason) as refusal:
            open_document(envelope, "statement", trust)
        assert "\n" not in str(refusal.value)


def test_a_trust_store_reads_json_toml_and_folders(tmp_path):
    store = trusting()
    (tmp_path / "a.json").write_text(json.dumps(store.to_json()))
    other = generate_key()
    toml = (
        f'[[keys]]\nname = "ada"\nrole = "officer"\npublic_key = "{other.public_key_hex}"\nsite = "north"\n'
    )
    (tmp_path / "b.toml").write_text(toml)
    (tmp_path / "notes.txt").write_text("not a list of keys")
    assert TrustStore.read(tmp_path / "a.json") == store
    both = TrustStore.read(tmp_path)
    assert [key.name for key in both.keys] == ["north", "ada"]
    assert TrustStore.from_json(both.to_json()) == both
    assert TrustStore.read(_folder(tmp_path / "empty")) == TrustStore()


def test_a_doubtful_trust_store_is_refused_whole(tmp_path):
    good = trusting().to_json()["keys"][0]
    documents = [
        {"keys": [good, {**good, "revoked": True}]},
        {"keys": [good, {**good, "role": "officer"}]},
        {"keys": [{**good, "role": "root"}]},
        {"keys": [{**good, "name": ""}]},
        {"keys": [{**good, "name": "a\nb"}]},
        {"keys": [{**good, "public_key": good["public_key"].upper() + "f"}]},
        {"keys": [{**good, "revoked": "no"}]},
        {"keys": [{**good, "name": 3}]},
        {"keys": [{"name": "north"}]},
        {"keys": [{**good, "extra": 1}]},
        {"keys": ["north"]},
        {"keys": 3},
        {"keys": [], "more": 1},
        [],
    ]
    for number, document in enumerate(documents):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(document))
        with pytest.raises(InputError) as refusal:
            TrustStore.read(path)
        assert "\n" not in str(refusal.value)
    for name, text in (
        ("x.json", "{"),
        ("x.toml", "keys = ["),
        ("x.txt", "{}"),
        ("deep.json", "[" * 100_000),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError):
            TrustStore.read(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read"):
        TrustStore.read(tmp_path / "missing.json")
    with pytest.raises(InputError):
        TrustStore.read(tmp_path)


def _folder(path):
    path.mkdir()
    return path
