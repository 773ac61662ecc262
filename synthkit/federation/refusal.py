"""RefusalCode: the only thing a site says about why it did not train.

Knows a handful of words. Refuses to carry text: a site's reasons may describe its data, so they stay
in the site's own log and the coordinator learns the class of the reason alone.
"""

from enum import StrEnum

from synthkit.errors import (
    BudgetExceededError,
    InputError,
    LedgerError,
    PolicyError,
    RollbackError,
    SignatureError,
)


class RefusalCode(StrEnum):
    """Why there is no reply from a site.

    The first six are said by the site; `rollback` means that its ledger lacks an entry which a witness
    saw. The others are the coordinator's own findings: the site was not connected, could not be
    reached, missed the deadline, or sent a reply that was rejected.
    """

    POLICY = "policy"
    BUDGET = "budget"
    INPUT = "input"
    LEDGER = "ledger"
    ROLLBACK = "rollback"
    INTERNAL = "internal"
    OFFLINE = "offline"
    UNREACHABLE = "unreachable"
    DEADLINE = "deadline"
    INVALID = "invalid"


SITE_CODES = frozenset(
    {
        RefusalCode.POLICY,
        RefusalCode.BUDGET,
        RefusalCode.INPUT,
        RefusalCode.LEDGER,
        RefusalCode.ROLLBACK,
        RefusalCode.INTERNAL,
    }
)
"""The codes that a site may send."""

_BY_ERROR: tuple[tuple[type[Exception], RefusalCode], ...] = (
    (BudgetExceededError, RefusalCode.BUDGET),
    (RollbackError, RefusalCode.ROLLBACK),
    (LedgerError, RefusalCode.LEDGER),
    (PolicyError, RefusalCode.POLICY),
    (SignatureError, RefusalCode.POLICY),
    (InputError, RefusalCode.INPUT),
)


def code_of(error: BaseException) -> RefusalCode:
    """The code that stands for this error on the wire; anything unforeseen is `internal`."""
    for kind, code in _BY_ERROR:
        if isinstance(error, kind):
            return code
    return RefusalCode.INTERNAL
