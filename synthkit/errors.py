"""Every error a user can cause, with the exit code the command line gives it.

Knows nothing of the rest of the package. Rules kept here: one root; a message is one line that says
what is wrong, where, and what to do; it never carries a cell value, a row count or a patient's id,
because some of these texts cross the wire.
"""


class SynthkitError(Exception):
    """Root of all errors that are the input's fault, not the program's.

    Args:
        what: What is wrong.
        where: The file, column, rule or option concerned.
        fix: What the reader should do next.
    """

    exit_code = 4

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f" ({self.fix})" if self.fix else ""
        return f"{place}{self.what}{remedy}"


class InputError(SynthkitError):
    """A file, option or value cannot be used as given."""


class SchemaError(InputError):
    """A schema is wrong, or a table does not fit it."""


class ConditionError(InputError):
    """A `where` condition cannot be parsed or contradicts the schema."""


class PolicyError(SynthkitError):
    """A site policy forbids what was asked; `rule` names the deciding rule."""

    exit_code = 1

    def __init__(self, what: str, *, rule: str, where: str = "", fix: str = "") -> None:
        self.rule = rule
        super().__init__(f"{what} [rule {rule}]", where=where, fix=fix)


class ReleaseRefusedError(SynthkitError):
    """The gate does not let this table leave."""

    exit_code = 1


class BudgetExceededError(SynthkitError):
    """The asset's privacy budget does not cover what was asked."""

    exit_code = 5


class LedgerError(SynthkitError):
    """A ledger is broken, belongs to another asset, or was rolled back."""

    exit_code = 6


class RollbackError(LedgerError):
    """A ledger does not contain an entry that a witness saw: an older copy, or another history."""


class SignatureError(SynthkitError):
    """A signature is missing, by an unknown key, or does not verify."""

    exit_code = 6


class BundleError(SynthkitError):
    """A release bundle is malformed or was altered."""

    exit_code = 6


class PeerError(SynthkitError):
    """The coordinator or a site cannot be reached or did not answer."""

    exit_code = 7
