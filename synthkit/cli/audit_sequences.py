"""`synthkit audit` on records of visits: a longitudinal schema, one row a code.

Knows which files belong together. Refuses tables of static columns where the schema has no records.
Imports that take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.cli.console import Progress
from synthkit.cli.vaults import OpenedVault, is_vault, read_made_records
from synthkit.domain.audit import AuditReport
from synthkit.domain.policy import SitePolicy
from synthkit.domain.schema import Schema
from synthkit.errors import InputError

if TYPE_CHECKING:
    from synthkit.data.sequences import PatientSequences
    from synthkit.data.sources import TableSource


@dataclass(frozen=True, kw_only=True)
class StaticFiles:
    """Beside each long table the table of its static columns; None: they stand in every row."""

    members: "TableSource | None" = None
    holdout: "TableSource | None" = None
    reference: "TableSource | None" = None
    synthetic: Path | None = None
    earlier: tuple[Path, ...] = ()

    def check_none(self) -> None:
        """Refuse them all, for a schema of one row a patient.

        Raises:
            InputError: One was given.
        """
        for field in fields(self):
            if getattr(self, field.name):
                option = f"option --{field.name}-patients"
                raise InputError("belongs to records of visits", where=option, fix="leave it out")


@dataclass(frozen=True, kw_only=True)
class AuditFiles:
    """The four long tables, and those released before."""

    members: "TableSource"
    holdout: "TableSource"
    reference: "TableSource"
    synthetic: Path
    earlier: tuple[Path, ...] = ()


def audit_records(
    files: AuditFiles,
    statics: StaticFiles,
    schema: Schema,
    model: Path | None = None,
    *,
    opened: OpenedVault | None = None,
    open_earlier: Callable[[Path], OpenedVault | None],
    policy: SitePolicy,
    attempt: int,
    seed: int,
    progress: Progress,
) -> AuditReport:
    """Read the records and attack them, and the weights of the model that made them where one is named.

    `opened` is the vault that the records to judge lie in; None: they lie plain. `open_earlier` opens an
    earlier release's, if it lies in one.

    Raises:
        InputError: A file cannot be read as a table, some earlier releases lack their static columns, or the
            model's folder is malformed.
        SchemaError: A record breaks the schema.
        BundleError: The vault holds something else than records.
        PolicyError: More attempts than the policy allows.
    """
    from synthkit.audit.sequences.run import run_sequence_audit
    from synthkit.training.record_models import attackable

    plain = [path for path in files.earlier if not is_vault(path)]
    if statics.earlier and len(statics.earlier) != len(plain):
        fix = "one for each --earlier that is no vault, in the same order"
        raise InputError("does not fit the earlier releases", where="option --earlier-patients", fix=fix)
    people = dict(zip(plain, statics.earlier or [None] * len(plain), strict=True))
    return run_sequence_audit(
        members=_real(files.members, schema, statics.members),
        holdout=_real(files.holdout, schema, statics.holdout),
        reference=_real(files.reference, schema, statics.reference),
        synthetic=read_made_records(files.synthetic, schema, statics.synthetic, opened),
        earlier=[
            read_made_records(path, schema, people.get(path), open_earlier(path)) for path in files.earlier
        ],
        model=None if model is None else attackable(model),
        rules=policy.audit,
        policy_digest=policy.digest,
        attempt=attempt,
        seed=seed,
        progress=progress,
    )


def _real(path: "TableSource", schema: Schema, patients: "TableSource | None") -> "PatientSequences":
    from synthkit.data.sequence_reading import LARGEST, Caps, read_sequences

    caps = Caps(visits=LARGEST, codes=len(schema.vocabulary))
    return read_sequences(path, schema, patients=patients, caps=caps)
