"""A site's folder: where everything of one hospital lies, and nothing of another.

    site.toml            name, table (of records: and that of their static columns), declared size, split
    policy.toml          the site's rules          policy.signed.json   the officer's signature on them
    trust.json           public keys this site trusts (its officers, its coordinator)
    keys/                site.key, officer.key (mode 0600) and their .pub
    ledger.jsonl         the asset's privacy ledger
    witness.json         the newest head of it that the coordinator saw, under the coordinator's signature
    studies/DIGEST/      study.json, approval.json or refusal.json (each signed), state and stored replies
    node/                node.key, node.secret (mode 0600), and of the coordinator: ca.pem, coordinator.json
    agent.log            why a request was refused; logs/ what the two processes print

Knows paths and how to read them. Refuses to decide anything: that is `synthkit_client.guard`.
"""

import json
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from synthkit.data.connectors import read_table
from synthkit.data.sequence_reading import LARGEST, Caps, read_sequences
from synthkit.data.sequences import PatientSequences
from synthkit.data.sources import SqlTable, TableSource, is_address
from synthkit.data.table import PatientTable
from synthkit.domain.canonical import JsonObject
from synthkit.domain.documents import policy_from_toml
from synthkit.domain.policy import SitePolicy
from synthkit.domain.schema import Schema
from synthkit.errors import InputError
from synthkit.privacy.ledger import Ledger
from synthkit.release.signing import SigningKey, TrustStore, read_key
from synthkit_client.storage import write_durably
from synthkit_client.witness import stored_witness


@dataclass(frozen=True, kw_only=True)
class SiteConfig:
    """`site.toml`. `split` is the share of patients to train on, to hold out, and for reference. `patients`:
    beside a table of records, the one of their static columns; empty: they stand in every row. `table` and
    `patients` are files in the folder, or a database's address with `query` and `patients_query` beside it.
    """

    name: str
    table: str
    declared_size: int
    split: tuple[float, float, float]
    split_seed: int
    patients: str = ""
    query: str = ""
    patients_query: str = ""

    def __post_init__(self) -> None:
        if min(self.split) <= 0 or sum(self.split) > 1 + 1e-9:
            raise InputError("the split's shares must be positive and sum to at most 1", where="site.toml")


@dataclass(frozen=True, kw_only=True)
class Split:
    """A site's patients, divided once: the generator sees `members` only."""

    members: PatientTable
    holdout: PatientTable
    reference: PatientTable


@dataclass(frozen=True, kw_only=True)
class RecordSplit:
    """A site's patients with their records of visits, divided as `Split`."""

    members: PatientSequences
    holdout: PatientSequences
    reference: PatientSequences


class SiteFolder:
    """One hospital's folder.

    Raises:
        InputError: The folder or its `site.toml` is missing or malformed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = _read_config(path / "site.toml")

    @property
    def name(self) -> str:
        """The site's name on rosters."""
        return self.config.name

    @property
    def policy(self) -> SitePolicy:
        """The policy as written, read anew each time; whether it is signed is the guard's question."""
        file = self.path / "policy.toml"
        return policy_from_toml(_read_text(file), f"{self.name}/policy.toml")

    @cached_property
    def key(self) -> SigningKey:
        """The site's own key."""
        return read_key(self.path / "keys" / "site.key")

    @property
    def trust(self) -> TrustStore:
        """The keys this site trusts, read anew each time: a revoked key must not live on in memory."""
        return TrustStore.read(self.path / "trust.json")

    @property
    def ledger_path(self) -> Path:
        """Where the asset's ledger lies."""
        return self.path / "ledger.jsonl"

    @property
    def node(self) -> Path:
        """What the node needs: it may lie with another user, on a machine that reads no row."""
        return self.path / "node"

    @property
    def studies(self) -> tuple[str, ...]:
        """Digests of the studies that were brought to this site, in order of their files' age."""
        files = (self.path / "studies").glob("*/study.json")
        return tuple(file.parent.name for file in sorted(files, key=lambda file: file.stat().st_mtime_ns))

    @property
    def witness_path(self) -> Path:
        """Where the coordinator's newest witness statement is kept."""
        return self.path / "witness.json"

    def open_ledger(self) -> Ledger:
        """The asset's ledger, verified, and not older than the newest stored witness.

        Raises:
            LedgerError: It is missing, broken, or of another asset.
            RollbackError: It lacks an entry that the coordinator saw.
            SignatureError: The stored witness was altered.
            InputError: Its cap is not the policy's, or the stored witness is malformed.
        """
        witness = stored_witness(self.witness_path)
        mark = witness.mark if witness else None
        ledger = Ledger.open(self.ledger_path, asset=self.policy.asset, witness=mark)
        if ledger.budget != self.policy.budget:
            raise InputError(
                "the ledger's cap is not the policy's",
                where=f"{self.name}/ledger.jsonl",
                fix="a cap is fixed for a ledger's whole life; restore the policy it was opened under",
            )
        return ledger

    def study_folder(self, study_digest: str) -> Path:
        """Where a study's files lie."""
        if len(study_digest) != 64 or not set(study_digest) <= set("0123456789abcdef"):
            raise InputError("not a study digest", where=f"site {self.name}")
        return self.path / "studies" / study_digest

    def read_split(self, schema: Schema) -> Split:
        """The site's patients, checked against the study's schema and divided.

        Raises:
            SchemaError: The table does not fit the schema.
        """
        # A one-row-per-patient generator must not meet a patient twice: their weight would double.
        table = read_table(
            self._source(self.config.table, self.config.query), schema, one_row_per_patient=True
        )
        members, holdout, reference = table.split(self.config.split, seed=self.config.split_seed)
        return Split(members=members, holdout=holdout, reference=reference)

    def read_record_split(self, schema: Schema) -> RecordSplit:
        """The site's patients with their whole records, checked against a longitudinal schema and divided.

        Raises:
            SchemaError: A record does not fit the schema.
            InputError: A file cannot be read.
        """
        config = self.config
        records = read_sequences(
            self._source(config.table, config.query),
            schema,
            patients=self._source(config.patients, config.patients_query) if config.patients else None,
            caps=Caps(visits=LARGEST, codes=len(schema.vocabulary)),
        )
        members, holdout, reference = records.split(self.config.split, seed=self.config.split_seed)
        return RecordSplit(members=members, holdout=holdout, reference=reference)

    def _source(self, table: str, query: str) -> TableSource:
        """A table of the site's; an address stands in no message, for a password may stand in it."""
        if is_address(table):
            return SqlTable(url=table, query=query, where=f"{self.name}/database")
        return self.path / table

    def write_json(self, path: Path, document: JsonObject) -> None:
        """Write a JSON object into this folder; all of it or nothing, on disk before this returns."""
        write_durably(path, (json.dumps(document, indent=1, sort_keys=True) + "\n").encode("utf-8"))

    def read_json(self, path: Path) -> JsonObject:
        """A JSON object in this folder.

        Raises:
            InputError: Missing, or not a JSON object.
        """
        where = f"{self.name}/{path.relative_to(self.path)}"
        try:
            document = json.loads(_read_text(path))
        except ValueError as error:
            raise InputError("not JSON", where=where, fix="restore the file") from error
        if not isinstance(document, dict):
            raise InputError("not a JSON object", where=where, fix="restore the file")
        return document


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "cannot be read", where=f"{path.parent.name}/{path.name}", fix="create or restore it"
        ) from error


def _read_config(path: Path) -> SiteConfig:
    where = f"{path.parent.name}/site.toml"
    try:
        document = tomllib.loads(_read_text(path))
        site, split = document["site"], document["split"]
        return SiteConfig(
            name=str(site["name"]),
            table=str(site["table"]),
            declared_size=int(site["declared_size"]),
            split=(float(split["members"]), float(split["holdout"]), float(split["reference"])),
            split_seed=int(split["seed"]),
            patients=str(site.get("patients", "")),
            query=str(site.get("query", "")),
            patients_query=str(site.get("patients_query", "")),
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError("malformed", where=where, fix="needs [site] and [split]; see the README") from error
