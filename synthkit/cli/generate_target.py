"""Where `synthkit generate` writes a table: plain, or into a vault that its readers alone can open.

Knows the policy and the model's papers. Refuses, before anything is drawn, a plain table where the policy
requires a vault, and a vault that no trusted reader could open. Imports that take a second or more stand
inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.cli.console import Console
from synthkit.cli.loading import name_of
from synthkit.cli.model_header import read_model_header
from synthkit.cli.policy_in_force import policy_in_force, trusted_keys
from synthkit.cli.vaults import check_may_be_plain, is_open_to_others, is_vault, readers_of, write_vault
from synthkit.domain.policy import ConditionRules, SitePolicy
from synthkit.errors import InputError
from synthkit.release.contents import TABLE
from synthkit.release.trust import TrustedKey
from synthkit.release.vault import VaultLabel

if TYPE_CHECKING:
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

        if self.policy is None or not self.readers:
            write_table(table, self.path)
            return
        header = read_model_header(self.model)
        label = VaultLabel(
            site=header.site,
            asset=self.policy.asset,
            study_digest=header.study_digest,
            model_digest=header.weights_sha256,
            schema_digest=table.schema.digest,
            policy_digest=self.policy.digest,
            table_digest=table.digest,
            created=dt.datetime.now(dt.UTC).replace(microsecond=0),
        )
        write_vault(self.path, {TABLE: table.to_csv_bytes()}, label, self.readers, force=self.force)

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
