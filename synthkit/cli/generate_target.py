"""Where `synthkit generate` writes a table, or records of visits: plain, or into a vault for its readers.

Knows the policy and the model's papers. Refuses, before anything is drawn, a plain table where the policy
requires a vault, a vault that no trusted reader could open, and a second file beside a vault of records.
Imports that take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.cli.console import Console
from synthkit.cli.loading import check_target, name_of
from synthkit.cli.model_header import read_model_header
from synthkit.cli.policy_in_force import policy_in_force, trusted_keys
from synthkit.cli.vaults import (
    check_inside,
    check_may_be_plain,
    is_open_to_others,
    is_vault,
    readers_of,
    write_vault,
)
from synthkit.domain.policy import ConditionRules, SitePolicy
from synthkit.domain.schema import Schema
from synthkit.errors import InputError
from synthkit.release.contents import TABLE
from synthkit.release.trust import TrustedKey
from synthkit.release.vault import VaultLabel

if TYPE_CHECKING:
    from synthkit.data.sequences import SyntheticSequences
    from synthkit.data.table import SyntheticTable


@dataclass(frozen=True, kw_only=True)
class Target:
    """A file to be written. `readers` are those of a vault; empty: the table is plain."""

    path: Path
    model: Path
    policy: SitePolicy | None
    readers: tuple[TrustedKey, ...]
    force: bool

    @property
    def conditions(self) -> ConditionRules | None:
        """The policy's rules for conditions; None: no policy was given."""
        return None if self.policy is None else self.policy.conditions

    def write(self, table: "SyntheticTable") -> None:
        """Write the table, whole or not at all.

        Raises:
            InputError: It cannot be written, or the model's folder is malformed.
        """
        from synthkit.data.connectors import write_table

        if self.policy is not None and self.readers:
            self._lock(self.policy, {TABLE: table.to_csv_bytes()}, table.schema, table.digest)
        else:
            write_table(table, self.path)

    def check_patients(self, patients: Path | None) -> None:
        """Refuse names for records before any is drawn: of two files, or of one beside a vault.

        Raises:
            InputError: A name cannot be used, or the static columns lie in the vault.
        """
        from synthkit.data.reading import format_of

        if self.readers:
            check_inside(patients, "--patients")
            return
        if patients is not None:
            if patients == self.path:
                fix = "name them apart"
                raise InputError("two results would have one name", where=name_of(self.path), fix=fix)
            check_target(patients, force=self.force)
            format_of(patients)
        format_of(self.path)

    def write_records(self, records: "SyntheticSequences", patients: Path | None) -> None:
        """Write records, each file whole or not at all; in a vault both are one file.

        Args:
            records: What was drawn.
            patients: Where plain static columns go; None: into every row.

        Raises:
            InputError: They cannot be written, or the model's folder is malformed.
        """
        from synthkit.data.sequence_writing import write_sequences

        if self.policy is not None and self.readers:
            files = records.files
            self._lock(self.policy, files.parts, records.schema, files.digest)
        else:
            write_sequences(records, self.path, patients=patients)

    def _lock(self, policy: SitePolicy, files: Mapping[str, bytes], schema: Schema, digest: str) -> None:
        header = read_model_header(self.model)
        label = VaultLabel(
            site=header.site,
            asset=policy.asset,
            study_digest=header.study_digest,
            model_digest=header.weights_sha256,
            schema_digest=schema.digest,
            policy_digest=policy.digest,
            table_digest=digest,
            created=dt.datetime.now(dt.UTC).replace(microsecond=0),
        )
        write_vault(self.path, files, label, self.readers, force=self.force)

    def show(self, console: Console) -> None:
        """Say who can open it, and who can draw the same rows anyway."""
        if not self.readers:
            return
        names = ", ".join(f"{reader.name} ({reader.role})" for reader in self.readers)
        console.line(f"Locked. It opens with the key of {names}, and with no other.")
        if is_open_to_others(self.model):
            name = name_of(self.model)
            console.note(
                f"others on this machine may read the folder {name} and draw the rows themselves: "
                f"chmod -R go= {name}"
            )


def target_of(path: Path, model: Path, policy: str | None, trust: Path | None, *, force: bool) -> Target:
    """Where to write, under the policy in force.

    Raises:
        InputError: A vault without a policy or without trusted keys.
        PolicyError: The policy requires a vault, or no trusted key could open one.
        SignatureError: The policy is not signed as it has to be.
    """
    if not is_vault(path):
        rules = None if policy is None else policy_in_force(policy, trust)
        if rules is not None:
            check_may_be_plain(rules, name_of(path))
        return Target(path=path, model=model, policy=rules, readers=(), force=force)
    if policy is None or trust is None:
        missing = "--policy" if policy is None else "--trust"
        fix = "a vault is locked for those whom the policy lets read, with the keys in --trust"
        raise InputError("is missing", where=f"option {missing}", fix=fix)
    site = read_model_header(model).site
    rules = policy_in_force(policy, trust, site=site)
    readers = readers_of(rules, trusted_keys(trust), site)
    return Target(path=path, model=model, policy=rules, readers=readers, force=force)
