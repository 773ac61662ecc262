"""Attacks as a table: every rate with its interval.

Knows results. Refuses to choose among them: the caller says which stand together.
"""

from synthkit.domain.audit import AttackResult, Interval
from synthkit.report.charts import attack_name
from synthkit.report.page import Html, table

COLUMNS = (
    "Attack",
    "Attack rate",
    "Control rate",
    "Baseline",
    "Advantage",
    "Detectable from",
    "p adjusted",
)


def attack_table(caption: str, attacks: tuple[AttackResult, ...]) -> Html:
    """One row an attack."""
    rows = tuple(
        (
            attack_name(attack, most=200),
            _rate(attack.attack_rate, attack.attack_interval),
            _rate(attack.control_rate, attack.control_interval),
            f"{attack.baseline_rate:.3f}",
            _rate(attack.advantage, attack.advantage_interval),
            f"{attack.minimum_detectable_effect:.3f}",
            _p(attack.p_adjusted),
        )
        for attack in attacks
    )
    return table(caption, COLUMNS, rows)


def _rate(value: float, interval: Interval) -> str:
    return f"{value:.3f} [{interval.lower:.3f}, {interval.upper:.3f}]"


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"
