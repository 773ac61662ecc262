"""What `synthkit generate` says of conditions, and where a policy stops it.

Knows the model's own figures on public conditions. Refuses to know rows: a table and records of visits are
told the same, before and after they are drawn.
"""

from collections.abc import Sequence

from synthkit.cli.console import Console
from synthkit.domain.condition_statement import ConditionStatement
from synthkit.domain.conditions import Condition
from synthkit.domain.policy import ConditionRules
from synthkit.domain.policy_check import check_conditions_against_policy

FEW_LATENT_DRAWS = 0.2
"""Below this reliability the person is told."""

RARE = 0.001
"""Below this share of patients the person is told."""


def stated_of(
    conditions: Sequence[Condition], rules: ConditionRules | None, *, mass: float, reliability: float = 1.0
) -> ConditionStatement | None:
    """What the model states of the conditions; None: there are none.

    Args:
        conditions: Checked against the model's schema.
        rules: The policy's; None: no policy was given.
        mass: Share of patients who meet them by the model, 0 to 1.
        reliability: Of what was drawn under them, in (0, 1]; 1 before anything was drawn.

    Raises:
        PolicyError: The rules forbid them.
    """
    if not conditions:
        return None
    stated = ConditionStatement.of(conditions, mass=mass, reliability=reliability)
    if rules is not None:
        check_conditions_against_policy(stated, rules)
    return stated


def show_stated(console: Console, stated: ConditionStatement | None, reliability: str) -> None:
    """Say it, `reliability` in words; nothing where there are no conditions."""
    if stated is None:
        return
    if stated.reliability < FEW_LATENT_DRAWS:
        console.note(
            f"the model hardly knows these conditions: reliability {stated.reliability:.2f}, where 1 is "
            "as good as an unconditional row; expect repeated patterns"
        )
    if stated.mass < RARE:
        console.note("so few patients meet these conditions that a policy's floor may keep the rows back")
    console.line(f"By the model {stated.share_words} of patients meet the conditions; {reliability}.")
