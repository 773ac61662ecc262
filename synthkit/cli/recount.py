"""Computing a verified release's epsilons anew from the events that its hospitals state.

Knows receipts; no keys and no table. A signature shows who stated a figure, not that it is right: this
shows that the figure follows from the events, by our accountant. That the events are all there were is
the hospital's word, which its ledger's head lets an auditor check.
"""

from synthkit.errors import BundleError, InputError
from synthkit.privacy.accounting import RECOMPUTED_TOLERANCE, check_spend, overlap_epsilon
from synthkit.release.bundle import VerifiedRelease


def recount(release: VerifiedRelease) -> None:
    """Refuse a release whose figures are below what its events cost. Takes seconds.

    Raises:
        BundleError: A statement's epsilon, or the one for a patient at all hospitals, is too low, or was
            computed by another accountant than ours.
    """
    spends = [statement.spend for statement in release.statements if statement.spend is not None]
    for statement in release.statements:
        if statement.spend is None:
            continue
        try:
            check_spend(statement.spend)
        except InputError as error:
            raise BundleError(error.what, where=f"statement of {statement.site}") from error
    if not spends or release.manifest.epsilon_worst_overlap is None:
        return
    try:
        overlap = overlap_epsilon(spends)
    except InputError as error:
        raise BundleError(error.what, where="manifest") from error
    if release.manifest.epsilon_worst_overlap < overlap * (1 - RECOMPUTED_TOLERANCE):
        raise BundleError("epsilon_worst_overlap is below what the sites' events cost", where="manifest")
