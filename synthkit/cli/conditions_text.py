"""A table's public conditions, its records' length, and who it is for, as three commands show them."""

from synthkit.domain.condition_statement import ConditionStatement


def condition_pairs(statement: ConditionStatement | None) -> dict[str, str]:
    """Names and values for `Console.pairs`; nothing where the rows were drawn without conditions."""
    if statement is None:
        return {}
    return {
        "conditions": " and ".join(statement.conditions),
        "share of patients who meet them": f"{statement.share_words}, by the model",
        "reliability under them": f"{statement.reliability:.2f}; 1 is as good as without conditions",
    }


def length_pairs(visits: int | None) -> dict[str, str]:
    """The same of a length that was asked for; nothing where records end as they do."""
    return {} if visits is None else {"visits of every record": f"{visits}, as was asked for"}


def recipient_pairs(recipient: str) -> dict[str, str]:
    """The same of who a release is for; nothing where it names nobody."""
    return {"for": f"{recipient} alone"} if recipient else {}
