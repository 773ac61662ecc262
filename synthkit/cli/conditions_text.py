"""A table's public conditions as the lines that sealing, approval and verification show."""

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
