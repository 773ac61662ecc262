"""Vaults as commands meet them: a file ending in .vault, its readers, and a key to open it.

Knows who may read under a policy. Refuses to write a vault that nobody could open, and to write what is in
one anywhere. Rules kept here: where the policy requires a vault, no plain table is written; what an opened
vault is about has to be what the papers beside it say.
"""

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.cli.keys import load_key
from synthkit.cli.loading import check_file, name_of
from synthkit.domain.canonical import sha256_hex
from synthkit.domain.policy import SitePolicy
from synthkit.domain.record_files import PATIENTS, RECORDS, RecordFiles
from synthkit.domain.schema import Schema
from synthkit.domain.toml_reading import shown
from synthkit.errors import BundleError, InputError, PolicyError
from synthkit.release.contents import TABLE
from synthkit.release.framing import read_bytes, write_atomic
from synthkit.release.signing import SigningKey
from synthkit.release.trust import TrustedKey, TrustStore
from synthkit.release.vault import ENDING, Expected, Vault, VaultLabel, check_label, lock, read_vault, unlock

if TYPE_CHECKING:
    from synthkit.data.sequences import SyntheticSequences
    from synthkit.data.table import SyntheticTable


@dataclass(frozen=True, kw_only=True)
class VaultKey:
    """What a command was given to open a vault with."""

    path: Path | None = None
    passphrase_env: str | None = None

    def load(self, where: str) -> SigningKey:
        """The reader's key.

        Raises:
            InputError: None was given, or it cannot be read.
            SignatureError: The passphrase is wrong, or this is no key.
        """
        if self.path is None:
            raise InputError("is locked", where=where, fix="add --vault-key, a reader's own key")
        return load_key(self.path, self.passphrase_env)


@dataclass(frozen=True, kw_only=True, repr=False)
class OpenedVault:
    """A vault whose content is authentic, in memory, and the bytes it was opened from."""

    vault: Vault
    files: Mapping[str, bytes]
    locked: bytes

    @property
    def table(self) -> bytes:
        """The table's canonical CSV bytes.

        Raises:
            BundleError: It holds something else, or another table than its label says.
        """
        if set(self.files) != {TABLE}:
            raise BundleError("holds something else than one table", where="vault", fix="generate anew")
        if sha256_hex(self.files[TABLE]) != self.vault.label.table_digest:
            raise BundleError("holds another table than its label says", where="vault", fix="generate anew")
        return self.files[TABLE]

    @property
    def records(self) -> RecordFiles:
        """The canonical files of records of visits.

        Raises:
            BundleError: It holds something else, or other records than its label says.
        """
        if set(self.files) not in ({RECORDS}, {RECORDS, PATIENTS}):
            raise BundleError("holds no records of visits", where="vault", fix="generate anew")
        files = RecordFiles(records=self.files[RECORDS], patients=self.files.get(PATIENTS))
        if files.digest != self.vault.label.table_digest:
            raise BundleError("holds other records than its label says", where="vault", fix="generate anew")
        return files


def is_vault(path: Path) -> bool:
    """Whether that name is a vault's."""
    return path.name.lower().endswith(ENDING)


def check_inside(patients: Path | None, option: str) -> None:
    """Refuse a table of static columns beside a vault, which holds them.

    Raises:
        InputError: That option was given.
    """
    if patients is not None:
        what = "the static columns lie in the vault, with the visits"
        raise InputError(what, where=f"option {option}", fix="leave it out")


def check_may_be_plain(policy: SitePolicy, what: str) -> None:
    """Refuse a plain table where the policy requires a vault.

    Raises:
        PolicyError: Rule `vault.required`.
    """
    if policy.vault.required:
        raise PolicyError(
            "a table under this policy lies in a vault, not in plain text",
            rule="vault.required",
            where=what,
            fix="generate it with -o NAME.vault --policy POLICY --trust KEYS",
        )


def readers_of(policy: SitePolicy, trust: TrustStore, *sites: str) -> tuple[TrustedKey, ...]:
    """Whose keys may open a vault at this site, or in a joint release at these.

    Raises:
        PolicyError: No trusted key of this site has a role that the policy lets read.
    """
    readers = tuple(
        key
        for key in trust.keys
        if key.role in policy.vault.readers
        and key.vault_key
        and not key.revoked
        and any(_belongs(key, site) for site in sites)
    )
    if not readers:
        raise PolicyError(
            "no trusted key could open the vault",
            rule="vault.readers",
            where="--trust",
            fix=f"put trust files of {' or '.join(policy.vault.readers) or 'a reader'} in, by release keygen",
        )
    return tuple({key.vault_key: key for key in readers}.values())


def check_readers(
    vault: Vault, policy: SitePolicy, trust: TrustStore, where: str, *, sites: Sequence[str] = ()
) -> None:
    """Refuse a vault that was locked for somebody whom the policy does not let read.

    Who generates names the trusted keys; a key of one's own among them would open the vault. `sites` are
    those whose people may read it; empty: the one that made it.

    Raises:
        PolicyError: Rule `vault.readers`.
    """
    allowed = {key.vault_key for key in readers_of(policy, trust, *(sites or (vault.label.site,)))}
    for reader in vault.readers:
        if reader.vault_key not in allowed:
            raise PolicyError(
                f"it was locked for {shown(reader.name)}, too, who is none of the trusted readers",
                rule="vault.readers",
                where=where,
                fix="generate it anew with this site's trusted keys alone",
            )


def write_vault(
    path: Path, files: Mapping[str, bytes], label: VaultLabel, readers: tuple[TrustedKey, ...], *, force: bool
) -> None:
    """Write files locked for these readers, whole or not at all.

    Raises:
        InputError: The file exists (unless `force`), or cannot be written.
    """
    write_atomic(path, lock(files, label, readers), overwrite=force)


def open_vault(path: Path, key: VaultKey, expected: Expected) -> OpenedVault:
    """Open a vault in memory, and check that it is about what the papers beside it say.

    Raises:
        InputError: The file or key cannot be read, or no key was given.
        BundleError: No vault, altered, truncated, or about something else.
        SignatureError: It was not written for this key.
    """
    check_file(path)
    data, where = read_bytes(path), name_of(path)
    vault = read_vault(data, where=where)
    files = unlock(vault, key.load(where), where=where)
    # After opening: only now is the label authentic, and a wrong one not merely a damaged one.
    check_label(vault.label, expected, where=where)
    return OpenedVault(vault=vault, files=files, locked=data)


def read_made(
    path: Path, schema: Schema, key: VaultKey, expected: Expected | None = None
) -> "SyntheticTable":
    """A generated table, out of a vault where it lies in one; `expected` is what that has to be about.

    Raises:
        InputError: The file or key cannot be read, or no key was given.
        SchemaError: It does not fit.
        BundleError: No vault, altered, truncated, or of another schema.
        SignatureError: It was not written for this key.
    """
    from synthkit.data.connectors import read_synthetic  # noqa: PLC0415

    if not is_vault(path):
        return read_synthetic(path, schema)
    vault = open_vault(path, key, expected or Expected(schema_digest=schema.digest))
    return read_synthetic(vault.table, schema, where=name_of(path))


def read_made_records(
    path: Path, schema: Schema, patients: Path | None, opened: OpenedVault | None
) -> "SyntheticSequences":
    """Generated records, out of an opened vault where they lie in one.

    Args:
        path: The long table, or the vault.
        schema: A longitudinal schema.
        patients: The table of static columns beside a plain long table.
        opened: The vault; None: the records lie plain.

    Raises:
        InputError: A file cannot be read as a table.
        SchemaError: A record breaks the schema.
        BundleError: The vault holds something else.
    """
    from synthkit.data.sequence_reading import read_synthetic_sequences  # noqa: PLC0415

    if opened is None:
        return read_synthetic_sequences(path, schema, patients=patients)
    files, where = opened.records, name_of(path)
    return read_synthetic_sequences(files.records, schema, patients=files.patients, where=where)


def is_open_to_others(folder: Path) -> bool:
    """Whether others on this machine may read a model's folder, and draw its rows themselves."""
    files = [folder, *folder.iterdir()]
    is_closed = folder.stat().st_mode & (stat.S_IXGRP | stat.S_IXOTH) == 0
    return not is_closed and any(file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH) for file in files[1:])


def _belongs(key: TrustedKey, site: str) -> bool:
    return key.name == site if key.role == "site" else key.site in ("", site)
