"""A vault opens for its readers alone, and only as it was written; each refusal is one line."""

import datetime as dt
import json
import re
from dataclasses import fields, replace

import pytest

from synthkit.errors import BundleError, InputError, SignatureError, SynthkitError
from synthkit.release.signing import generate_key
from synthkit.release.trust import TrustedKey
from synthkit.release.vault import (
    MAGIC,
    Expected,
    VaultLabel,
    check_label,
    lock,
    read_vault,
    unlock,
    vault_key_of,
)

TABLE = b"age,sex\n61,F\n72,M\n,F\n"
KEYS = {name: generate_key() for name in ("ada", "edith", "grace", "mallory")}
LABEL = VaultLabel(
    site="north",
    asset="heart",
    study_digest="1" * 64,
    model_digest="2" * 64,
    schema_digest="3" * 64,
    policy_digest="4" * 64,
    table_digest="5" * 64,
    created=dt.datetime(2026, 3, 2, 9, 30, tzinfo=dt.UTC),
)
START = len(MAGIC) + 8


def entry(name, role="officer"):
    key = KEYS[name]
    return TrustedKey(
        name=name, role=role, public_key=key.public_key_hex, site="north", vault_key=vault_key_of(key)
    )


def locked(table=TABLE, label=LABEL, readers=("ada", "edith")):
    return lock({"table.csv": table}, label, [entry(name) for name in readers])


def opened(data, name="ada"):
    return unlock(read_vault(data, where="c.vault"), KEYS[name], where="c.vault")


def header_of(data):
    length = int.from_bytes(data[len(MAGIC) : START], "big")
    return data[START : START + length], data[START + length :]


def with_header(data, edit):
    """The vault with its header edited and written in canonical form again."""
    head, rest = header_of(data)
    document = json.loads(head)
    edit(document)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return MAGIC + len(text).to_bytes(8, "big") + text + rest


def refusal(data, name="ada"):
    with pytest.raises((BundleError, SignatureError)) as caught:
        opened(data, name)
    text = str(caught.value)
    assert "\n" not in text
    assert "61" not in text
    assert caught.value.exit_code == 6
    return text


def test_each_reader_opens_it_and_no_one_else():
    data = locked()
    assert opened(data, "ada") == opened(data, "edith") == {"table.csv": TABLE}
    assert "locked for ada (officer), edith (officer)" in refusal(data, "mallory")
    assert "does not open" in refusal(data, "grace")


def test_neither_the_table_nor_its_key_lies_in_the_file():
    data = locked()
    for line in TABLE.splitlines()[1:]:
        assert line not in data
    head, _ = header_of(data)
    assert set(json.loads(head)) == {"format", "label", "files", "readers"}


def test_two_vaults_of_one_table_share_no_key_and_no_ciphertext():
    first, second = locked(), locked()
    heads = [json.loads(header_of(data)[0])["readers"] for data in (first, second)]
    for old, new in zip(*heads, strict=True):
        assert old["vault_key"] == new["vault_key"]
        assert old["ephemeral"] != new["ephemeral"]
        assert old["wrapped"] != new["wrapped"]
    assert header_of(first)[1] != header_of(second)[1]


def test_every_flipped_byte_is_refused():
    """Every byte of the file, one at a time: magic, length, header, nonce, content, tag."""
    data = locked(readers=("ada",))
    for place in range(len(data)):
        spoilt = bytearray(data)
        spoilt[place] ^= 1
        refusal(bytes(spoilt))


def test_every_truncation_is_refused_and_so_are_bytes_behind():
    data = locked(readers=("ada",))
    for length in range(len(data)):
        refusal(data[:length])
    for tail in (b"\0", data):
        refusal(data + tail)


def swap_label(old, new):
    return with_header(new, lambda document: document.update(label=json.loads(header_of(old)[0])["label"]))


OLDER = locked(b"age,sex\n40,F\n", replace(LABEL, table_digest="6" * 64, policy_digest="7" * 64))


def set_label(name, value):
    return lambda document: document["label"].update({name: value})


HEADER_EDITS = {
    **{
        f"label {field.name} edited": set_label(
            field.name, "2027-01-01T00:00:00+00:00" if field.name == "created" else "f" * 64
        )
        for field in fields(VaultLabel)
    },
    "a label field dropped": lambda document: document["label"].pop("asset"),
    "a label field added": set_label("ward", "7"),
    "a reader renamed": lambda document: document["readers"][0].update(name="mallory"),
    "a reader of another role": lambda document: document["readers"][0].update(role="site"),
    "the other reader dropped": lambda document: document["readers"].pop(1),
    "a reader's copy swapped": lambda document: document["readers"][0].update(
        wrapped=document["readers"][1]["wrapped"]
    ),
    "an ephemeral key of low order": lambda document: document["readers"][0].update(ephemeral="0" * 64),
    "a stranger put in": lambda document: document["readers"].append(
        {**document["readers"][0], "name": "mallory", "vault_key": vault_key_of(KEYS["mallory"])}
    ),
    "no reader": lambda document: document.update(readers=[]),
    "another size": lambda document: document["files"][0].update(size_bytes=3),
    "a size that is none": lambda document: document["files"][0].update(size_bytes=-3),
    "another file's name": lambda document: document["files"][0].update(name="../../etc/passwd"),
    "no file": lambda document: document.update(files=[]),
    "another format": lambda document: document.update(format=2),
    "a field beside": lambda document: document.update(plain=True),
    "readers that are none": lambda document: document.update(readers=3),
}


@pytest.mark.parametrize("name", HEADER_EDITS)
def test_an_edited_header_opens_nothing(name):
    refusal(with_header(locked(), HEADER_EDITS[name]))


def test_a_stranger_put_into_the_header_reads_nothing():
    refusal(with_header(locked(), HEADER_EDITS["a stranger put in"]), "mallory")


def test_another_vaults_header_content_or_label_is_refused():
    fresh = locked()
    (old_head, old_rest), (new_head, new_rest) = header_of(OLDER), header_of(fresh)
    for head, rest in ((old_head, new_rest), (new_head, old_rest)):
        refusal(MAGIC + len(head).to_bytes(8, "big") + head + rest)
    refusal(swap_label(OLDER, fresh))
    refusal(swap_label(fresh, OLDER))


@pytest.mark.parametrize("name", [field.name for field in fields(Expected)])
def test_a_vault_about_something_else_is_refused_by_name(name):
    """A vault of another site, population, schema, policy or model, and an older candidate, replayed."""
    about = {field.name: getattr(LABEL, field.name) for field in fields(Expected)}
    check_label(LABEL, Expected(**about), where="c.vault")
    with pytest.raises(BundleError) as caught:
        check_label(LABEL, Expected(**{**about, name: "e" * 64}), where="c.vault")
    words = {"site": "another site", "asset": "population", "table_digest": "another candidate"}
    assert words.get(name, f"another {name.removesuffix('_digest')}") in str(caught.value)
    assert (caught.value.exit_code, "\n" in str(caught.value)) == (6, False)


@pytest.mark.parametrize("data", [b"", b"PK\3\4", MAGIC, MAGIC + b"\0" * 8, MAGIC + b"\xff" * 4096])
def test_what_is_no_vault_is_refused(data):
    refusal(data)


def test_a_vault_for_nobody_or_for_a_key_that_is_none_is_not_written():
    with pytest.raises(InputError, match="no reader"):
        lock({"table.csv": TABLE}, LABEL, [])
    with pytest.raises(InputError, match="no vault key"):
        lock({"table.csv": TABLE}, LABEL, [replace(entry("ada"), vault_key="")])
    with pytest.raises(InputError, match="no public key"):
        lock({"table.csv": TABLE}, LABEL, [replace(entry("ada"), vault_key="0" * 64)])


def test_the_vault_key_is_neither_the_signing_key_nor_anothers():
    keys = {vault_key_of(key) for key in KEYS.values()}
    assert len(keys) == len(KEYS)
    assert keys.isdisjoint(key.public_key_hex for key in KEYS.values())
    assert all(re.fullmatch("[0-9a-f]{64}", key) for key in keys)
    assert vault_key_of(KEYS["ada"]) == vault_key_of(KEYS["ada"])


@pytest.mark.parametrize("name", HEADER_EDITS)
def test_no_message_carries_a_cell_or_a_secret(name):
    with pytest.raises(SynthkitError) as caught:
        opened(with_header(locked(), HEADER_EDITS[name]))
    assert KEYS["ada"].derive(b"vault").hex() not in str(caught.value)
    assert "61,F" not in str(caught.value)
