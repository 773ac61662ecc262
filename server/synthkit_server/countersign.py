"""The coordinator's witness statements: what it accepted of a site's ledger, under its own signature.

Knows the coordinator's key and the mirror's entries. Refuses to state anything that the mirror has not
recorded: a statement is made from an entry that is on disk, so that a coordinator which comes back after
a crash states the same again, to the byte. A coordinator without a key has no Countersigner and states
nothing; its mirror still notices a ledger that went back, its sites cannot prove one.
"""

from dataclasses import dataclass
from pathlib import Path

from synthkit.domain.canonical import canonical_json
from synthkit.domain.witness import WitnessStatement
from synthkit.release.signing import SigningKey, seal_document
from synthkit_server.mirror import BudgetMirror, MirrorEntry
from synthkit_server.storage import write_atomically

KIND = "witness"

WITNESSES = "witnesses"
"""Folder beside the mirror: one file per site, the newest statement, to be handed over if ever asked for."""


@dataclass(frozen=True, kw_only=True)
class Countersigner:
    """The key that signed the study, which every site of it trusts, and the name they list it under."""

    key: SigningKey
    name: str

    def statement(self, entry: MirrorEntry) -> str:
        """The signed statement on an accepted reply: canonical JSON, equal for equal entries."""
        stated = WitnessStatement(
            study_digest=entry.study_digest,
            server_round=entry.server_round,
            site=entry.site,
            ledger_counter=entry.ledger_counter,
            ledger_head=entry.ledger_head,
        )
        return canonical_json(seal_document(stated.to_json(), KIND, self.key, self.name)).decode("utf-8")

    def keep(self, mirror: BudgetMirror, folder: Path) -> None:
        """Write each site's newest statement to `witnesses/SITE.json` in this folder."""
        for site in mirror.sites:
            write_atomically(folder / WITNESSES / f"{site}.json", self.of(mirror, site).encode() + b"\n")

    def of(self, mirror: BudgetMirror, site: str) -> str:
        """The statement on the last reply accepted from a site; empty if there was none."""
        entry = mirror.last(site)
        return "" if entry is None else self.statement(entry)
