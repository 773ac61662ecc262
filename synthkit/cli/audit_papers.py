"""What `synthkit audit` writes: the saved report, the officer's page, and the page that may leave.

Knows what the site states beside a report. Refuses to redact: what may leave is `AuditReport.coarse`, the
form that a sealed release carries. Imports that take a second or more stand inside the functions that need
them; see the package's docstring.
"""

# ruff: noqa: PLC0415

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.cli.loading import check_target, name_of, save_text
from synthkit.cli.model_header import read_model_header
from synthkit.domain.audit import AuditReport
from synthkit.domain.canonical import canonical_json
from synthkit.domain.policy import SitePolicy
from synthkit.domain.policy_words import egress_words
from synthkit.domain.schema import Schema
from synthkit.errors import InputError
from synthkit.privacy.ledger import Ledger

if TYPE_CHECKING:
    from synthkit.report.documents import AuditScope

ENDINGS = (".html", ".json")


@dataclass(frozen=True, kw_only=True)
class AuditTargets:
    """Where the papers go; None and empty: not asked for."""

    report: Path | None = None
    redacted: Sequence[Path] = ()
    save: Path | None = None

    def check(self) -> None:
        """Refuse before any work what could not be written.

        Raises:
            InputError: A folder is missing, the saved report exists, two papers have one name, or the ending
                of a redacted one is neither of the two.
        """
        for path in self.redacted:
            if path.suffix not in ENDINGS:
                raise InputError("is neither .html nor .json", where=name_of(path), fix="name it so")
        replaced = [path for path in (self.report, *self.redacted) if path is not None]
        for path in replaced:
            check_target(path, force=True)
        if self.save is not None:
            check_target(self.save)
        everything = [path.resolve() for path in (*replaced, self.save) if path is not None]
        if len(set(everything)) != len(everything):
            # The private page under the name of the one that leaves would be the worst of mistakes.
            raise InputError(
                "two papers have one name", where="--report, --redacted, --save", fix="name them apart"
            )


@dataclass(frozen=True, kw_only=True)
class SiteFacts:
    """What the site knows of this audit beside its report."""

    policy: SitePolicy
    schema: Schema
    model: Path | None
    ledger: Ledger | None
    study: str = ""


def write_papers(result: AuditReport, targets: AuditTargets, facts: SiteFacts) -> None:
    """Write what was asked for, each file whole or not at all.

    Raises:
        InputError: A file cannot be written, or the model's folder is malformed.
    """
    if targets.save is not None:
        save_text(targets.save, canonical_json(result.to_json()).decode("utf-8"))
    if targets.report is not None:
        from synthkit.report.documents import audit_page

        save_text(targets.report, audit_page(result, _scope_of(facts)), force=True)
    for path in targets.redacted:
        save_text(path, _redacted(result, path), force=True)


def _redacted(result: AuditReport, path: Path) -> str:
    if path.suffix == ".json":
        return canonical_json(result.coarse()).decode("utf-8")
    from synthkit.report.documents import redacted_page

    return redacted_page(result.coarse())


def _scope_of(facts: SiteFacts) -> "AuditScope":
    from synthkit.report.documents import AuditScope, ModelClaim

    header = None if facts.model is None else read_model_header(facts.model)
    claim = None
    if header is not None:
        claim = ModelClaim(
            generator=header.generator,
            weights_digest=header.weights_sha256,
            spend=header.spend,
            encoder_provenance=header.encoder_provenance,
            encoder_digest=header.encoder_digest,
            linkage=tuple(one.words for one in (*header.linkage, header.verbatim) if one is not None),
        )
    book = facts.ledger
    return AuditScope(
        site=header.site if header is not None else book.site if book is not None else "",
        asset=facts.policy.asset,
        study=header.study if header is not None else facts.study,
        policy=facts.policy.name,
        made=dt.datetime.now().astimezone().date(),
        ledger=book.head if book is not None else None,
        schema=facts.schema,
        claim=claim,
        egress=egress_words(facts.policy.egress),
    )
