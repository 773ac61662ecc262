"""The officer's part: what she may decide at this verdict, and where she signs.

Knows the verdict. Refuses to decide: boxes are empty, and a pen's signature binds nothing by itself; what
binds is `synthkit release approve`, with her own key, over the sealed release.
"""

from synthkit.domain.audit import AuditReport, Verdict
from synthkit.report.page import Html, Section, blanks, bullets, paragraph

OPEN = {
    Verdict.PASS: "PASS: her signature is enough; she may still refuse.",
    Verdict.FAIL: (
        "FAIL: nothing leaves, unless the policy lets her override (release.fail) and she writes down why; "
        "the reason travels with the release."
    ),
    Verdict.INCONCLUSIVE: (
        "INCONCLUSIVE: it is not a pass. Where the policy lets her (release.inconclusive), she may rest on "
        "the privacy claim of section 3 alone, with a written reason that travels with the release."
    ),
    Verdict.INVALID: "INVALID: nobody can approve. The audit has to be repaired and run again.",
}

CHOICES = {
    Verdict.PASS: ("release, on the audit's PASS", "do not release"),
    Verdict.FAIL: ("do not release", "release nevertheless, for the reason below (override)"),
    Verdict.INCONCLUSIVE: ("release on the privacy claim, for the reason below", "do not release"),
    Verdict.INVALID: ("do not release",),
}

LINES = (
    "Recipient, and what they have signed",
    "Reason",
    "Conditions",
    "Valid until",
    "Name of the officer",
    "Place, date, signature",
    "Second officer, where the policy says four eyes",
)

BINDING = (
    "On paper this is for the file. The binding signature is Ed25519, over the sealed release that names "
    "this table: synthkit release seal, then synthkit release approve CANDIDATE --site SITE --officer NAME "
    "--key KEY --policy POLICY. What was released in error is taken back by synthkit release revoke."
)


def decision_section(report: AuditReport) -> Section:
    """Part 9: the decision, in her hand."""
    choices = tuple(f"\N{BALLOT BOX} {choice}" for choice in CHOICES[report.verdict])
    blocks: tuple[Html, ...] = (
        paragraph(OPEN[report.verdict]),
        bullets(choices, is_plain=True),
        blanks(LINES),
        paragraph(BINDING),
    )
    return Section(title="Decision and signature", blocks=blocks)
