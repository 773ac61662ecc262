"""An asset's ledger, opened or begun as its policy says; shared by the commands that spend.

Knows the policy's asset and cap. Refuses a ledger of another site or cap.
"""

from pathlib import Path

from synthkit.cli.loading import check_target, name_of
from synthkit.domain.policy import SitePolicy
from synthkit.domain.privacy import PrivacyEvent
from synthkit.errors import LedgerError
from synthkit.privacy.ledger import Ledger

TEMPLATE_ASSET = "name-of-your-patient-population"
"""What the shipped policies call the asset, until a hospital names its own."""

TEMPLATE_NOTE = "this policy names no patient population: copy it, name yours, sign it"


def open_ledger(path: Path, policy: SitePolicy, site: str, *, reference: PrivacyEvent) -> Ledger:
    """The asset's ledger; a new one with the policy's cap when there is none yet.

    Args:
        path: The ledger's file.
        policy: Names the asset and the cap.
        site: This hospital.
        reference: For a new ledger: the kind of event that most of its budget will go to.

    Raises:
        LedgerError: The ledger is broken, of another asset or site, or of another cap.
        InputError: A new one cannot be written there.
    """
    if not path.exists():
        check_target(path)
        return Ledger.create(path, asset=policy.asset, site=site, budget=policy.budget, reference=reference)
    ledger = Ledger.open(path, asset=policy.asset)
    if ledger.site != site:
        raise LedgerError("the ledger is another site's", where=name_of(path), fix="name its --site")
    if ledger.budget != policy.budget:
        raise LedgerError(
            "its cap is not the policy's",
            where=name_of(path),
            fix="a cap is fixed for a ledger's whole life; use the policy it was opened under",
        )
    return ledger
