"""What was audited, what would leave, and what the privacy claim does and does not cover.

Knows the report, and what the site knows beside it: its policy, its ledger, its model's receipt. Refuses
to fill a gap: what nobody stated is printed as not stated.
"""

import datetime as dt
import math
from dataclasses import dataclass

from synthkit.domain.audit import AuditReport
from synthkit.domain.privacy import (
    DpSgdEvent,
    EncoderProvenance,
    GaussianThresholdEvent,
    PrivacyEvent,
    PrivacySpend,
)
from synthkit.domain.schema import Schema
from synthkit.report.page import Html, Section, bullets, callout, facts, heading, paragraph, table

NOT_STATED = "not stated"

UNIT = (
    "The unit is one patient with all their rows. Members are the patients whose rows the generator learnt "
    "from; holdout and reference are patients of the same kind that it never saw."
)

LEAVES = (
    "The synthetic table whose digest is given here, in full.",
    "Its schema, and the site's policy.",
    "The site's signed statement: what training cost (epsilon, delta, events), where the encoder's weights "
    "came from, number and hash of the ledger's last entry, the verdict.",
    "Of this audit the coarse form alone: verdict, names of the attacks on all patients, detectable effects "
    "in steps, limits, attempt, versions. The option --redacted of synthkit audit writes it as a page.",
    "The officers' decisions, with their reasons.",
)

STAYS = (
    "Stays: this page, the saved report, members, holdout and reference. The generator's weights are no part "
    "of a release; whoever is given them is another recipient, with the white-box attacker's powers. Who "
    "receives the table, and what they have signed, is not known to this program: see the last section."
)

PROVENANCE = {
    EncoderProvenance.TRAINED: "No encoder was frozen: every weight is the private training's own.",
    EncoderProvenance.PUBLIC: (
        "The frozen encoder, stated to come from public or simulated data. If it saw these patients, the "
        "epsilon does not hold."
    ),
    EncoderProvenance.DP: "No encoder outside: the frozen one was trained with privacy, and is paid for.",
    EncoderProvenance.NON_DP: (
        "The frozen encoder, trained on these patients without privacy: no epsilon can be claimed."
    ),
}

ALWAYS_OUTSIDE = (
    "Settings of the training (sizes, steps, learning rate): stated by people. Whoever chose them by looking "
    "at these patients spent privacy that nobody counted.",
    "This audit: it reads members, holdout and reference as they are. That a table passed, and at which "
    "attempt, depends on them and is charged to no budget; hence few attempts and a coarse form.",
)


@dataclass(frozen=True, kw_only=True)
class ModelClaim:
    """What a model's folder states. `spend` None: trained without privacy; `linkage` in words, or empty."""

    generator: str
    weights_digest: str
    spend: PrivacySpend | None
    encoder_provenance: EncoderProvenance
    encoder_digest: str = ""
    linkage: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AuditScope:
    """What the site knows beside the report; empty or None where it was not stated."""

    site: str = ""
    asset: str = ""
    study: str = ""
    policy: str = ""
    made: dt.date | None = None
    ledger: tuple[int, str] | None = None
    """Number and hash of the ledger's last entry after this audit was counted; None: no ledger counted it."""
    schema: Schema | None = None
    claim: ModelClaim | None = None
    egress: str = ""
    """What the policy lets leave, and to whom, in words."""


def scope_section(report: AuditReport, scope: AuditScope) -> Section:
    """Part 1: whose patients, how many, which table, when."""
    rows = (
        ("Site", scope.site or NOT_STATED),
        ("Patient population (asset)", scope.asset or NOT_STATED),
        ("Study", scope.study or NOT_STATED),
        ("Date of this audit", scope.made.isoformat() if scope.made else NOT_STATED),
        ("Unit of privacy", "one patient, all their rows"),
        *((f"Patients: {name}", _size(report, name)) for name in ("members", "holdout", "reference")),
        ("Quasi-identifiers: what others are taken to know", _known_to_others(scope.schema)),
        ("Synthetic table, SHA-256", report.table_digest),
    )
    return Section(title="Scope", blocks=(facts("", rows), paragraph(UNIT)))


def _known_to_others(schema: Schema | None) -> str:
    if schema is None:
        return NOT_STATED
    return ", ".join(schema.quasi_identifiers) or "none declared in the schema; columns were drawn instead"


def leaving_section(report: AuditReport, scope: AuditScope) -> Section:
    """Part 2: what leaves if the officer approves, and what stays."""
    rows = (
        ("Rows of the synthetic table, or its patients where they have visits", _size(report, "synthetic")),
        ("Earlier releases from the same patients, attacked along", str(len(report.earlier))),
        ("The policy's rules for egress", scope.egress or NOT_STATED),
    )
    return Section(
        title="What would leave",
        blocks=(facts("", rows), bullets(LEAVES), paragraph(STAYS)),
    )


def claim_section(scope: AuditScope) -> Section:
    """Part 3: the privacy claim, and everything that was fitted outside it."""
    claim = scope.claim
    if claim is None:
        words = "No model was named (--model): this audit states no epsilon, and nothing here rests on one."
        return Section(title="The privacy claim", blocks=(callout(paragraph(words), is_warning=True),))
    blocks: list[Html] = [_claimed(claim, scope)]
    if claim.spend is not None:
        blocks.append(_events(claim.spend))
    blocks += [heading("Fitted or chosen outside the claim"), bullets(outside_the_claim(claim, scope.schema))]
    return Section(title="The privacy claim", blocks=tuple(blocks))


def outside_the_claim(claim: ModelClaim, schema: Schema | None) -> tuple[str, ...]:
    """Everything that differential privacy does not cover, a sentence each."""
    lines: list[str] = []
    if claim.spend is None:
        lines.append("Everything: the generator was trained on the patients without differential privacy.")
    lines += [f"Made of real rows: {words}." for words in claim.linkage]
    encoder = f" Its weights: {claim.encoder_digest[:16]}." if claim.encoder_digest else ""
    lines.append(PROVENANCE[claim.encoder_provenance] + encoder)
    lines += _bounds(schema)
    return (*lines, *ALWAYS_OUTSIDE)


def _bounds(schema: Schema | None) -> list[str]:
    if schema is None:
        return ["Bounds and categories: the schema is not at hand."]
    read, bought = schema.not_public(), schema.bought()
    lines = []
    if read:
        names = ", ".join(read)
        lines.append(f"Bounds or categories read off the patients' rows: {names}. No epsilon covers them.")
    if bought:
        lines.append(f"Inside the claim, bought with budget: bounds or categories of {', '.join(bought)}.")
    if set(schema.names) - {*read, *bought}:
        which = "the other" if lines else "all"
        lines.append(
            f"Bounds and categories of {which} columns: stated in the schema as known without the rows. "
            "Whoever wrote it vouches for that."
        )
    return lines


def _claimed(claim: ModelClaim, scope: AuditScope) -> Html:
    spend = claim.spend
    figures = (
        (("Differential privacy", "none: no epsilon limits what the table reveals"),)
        if spend is None
        else (
            ("Epsilon", f"{_rounded_up(spend.epsilon)} at delta {spend.delta:g}"),
            ("Neighbouring data", spend.adjacency.value.replace("_", " ")),
            ("Accountant", spend.accountant),
        )
    )
    ledger = "no ledger counted this audit" if scope.ledger is None else _ledger(*scope.ledger)
    rows = (
        ("Generator", claim.generator),
        *figures,
        ("Ledger of the asset", ledger),
        ("Weights, SHA-256", claim.weights_digest),
    )
    return facts("What is claimed for the model", rows)


def _ledger(counter: int, head: str) -> str:
    return f"entry {counter}, {head}"


def _events(spend: PrivacySpend) -> Html:
    columns = ("What was released of the patients", "Noise multiplier", "Sampling rate", "Times")
    return table("What the epsilon is made of", columns, tuple(_event(event) for event in spend.events))


def _event(event: PrivacyEvent) -> tuple[str, str, str, str]:
    noise = f"{event.noise_multiplier:.4g}"
    if isinstance(event, DpSgdEvent):
        return "steps of training (DP-SGD)", noise, f"{event.sample_rate:.4g}", str(event.steps)
    if isinstance(event, GaussianThresholdEvent):
        return f"names above a threshold (failure {event.failure_delta:.1g})", noise, "everyone", "1"
    return "tables of counts or sums (Gaussian)", noise, "everyone", str(event.count)


def _size(report: AuditReport, name: str) -> str:
    return f"{report.sizes[name]:,}" if name in report.sizes else NOT_STATED


def _rounded_up(epsilon: float) -> str:
    """Three decimals, never rounded down."""
    return f"{math.ceil(epsilon * 1000 - 1e-9) / 1000:.3f}"
