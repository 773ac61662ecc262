"""What a whole plan costs one patient of a site, before anything is drawn. Knows plans; refuses to know rows.

Two figures, never confused: the admission's bound decides whether a ledger lets the plan through; the
reported one is tight and describes what was done.
"""

from synthkit.domain.study import TrainingPlan
from synthkit.privacy.accounting import admission_epsilon, spend_of


def admission_cost(plan: TrainingPlan, delta: float) -> float:
    """Epsilon of the plan as an empty ledger's admission counts it, at this delta.

    A ledger's leading order follows from what is reserved first. Where that is not a step, the whole plan
    costs a little more, and a site would run out of its quota in the last round.
    """
    reference = plan.round_events(1)[0] if plan.prior_first else None
    return admission_epsilon(plan.total_events(), delta, reference=reference)


def reported_cost(plan: TrainingPlan, delta: float) -> float:
    """Epsilon of the plan as a receipt states it, at this delta.

    Raises:
        InputError: No finite figure exists.
    """
    return spend_of(plan.total_events(), delta).epsilon
