"""An officer's yes to a study: against the policy and the budget, before it is written.

Knows the study as signed, the policy as signed, and the ledger. Refuses to record a yes that either forbids.
"""

import datetime as dt
from dataclasses import dataclass

from synthkit.domain.policy import SitePolicy
from synthkit.domain.privacy import Budget, PrivacyEvent
from synthkit.domain.study import Study
from synthkit.release.signing import SigningKey, TrustedKey
from synthkit_client.decisions import APPROVAL, REFUSAL, check_officers_key, log_decision
from synthkit_client.guard import approve_study, check_study
from synthkit_client.papers import read_signed_policy
from synthkit_client.site_folder import SiteFolder


@dataclass(frozen=True, kw_only=True)
class Room:
    """A study's price at a site, and what its patients' budget has room for."""

    planned_epsilon: float
    spent_epsilon: float
    """By the admission's own bound, before the study."""
    left_epsilon: float
    """Of the cap, by the same bound, before the study."""


def approve(folder: SiteFolder, study: Study, officer: TrustedKey, key: SigningKey) -> float:
    """Record the officer's approval, if policy and budget allow the whole study.

    Returns:
        The epsilon that the whole plan costs at the asset's delta.

    Raises:
        PolicyError: A rule forbids it.
        BudgetExceededError: The asset's cap or the study's quota has no room for it.
        SignatureError: The key is not the officer's, or the policy is not signed.
    """
    check_officers_key(officer, key)
    policy, ledger = read_signed_policy(folder), folder.open_ledger()
    check_study(folder, study, policy, today=_today())
    if not ledger.history(study.digest):  # of a study that has begun, the rounds are judged one by one
        ledger.check_room(_round_by_round(study), quota=_quota(policy))
    planned = approve_study(folder, study, officer.name, key, today=_today())
    place = folder.study_folder(study.digest)
    (place / REFUSAL).unlink(missing_ok=True)
    log_decision(folder, folder.read_json(place / APPROVAL))
    return planned


def room_for(folder: SiteFolder, study: Study) -> Room:
    """What a study costs here, and what there is. Asks no permission and changes nothing.

    Raises:
        PolicyError: The policy forbids the study.
        LedgerError: The ledger does not verify.
    """
    policy, ledger = read_signed_policy(folder), folder.open_ledger()
    planned = check_study(folder, study, policy, today=_today())
    spent = ledger.planned_epsilon()
    return Room(
        planned_epsilon=planned,
        spent_epsilon=spent,
        left_epsilon=max(0.0, policy.budget.epsilon - spent),
    )


def _round_by_round(study: Study) -> tuple[PrivacyEvent, ...]:
    """The plan's events in the order in which a ledger will meet them."""
    plan = study.plan
    rounds = range(1, plan.server_rounds + 1)
    return tuple(event for server_round in rounds for event in plan.round_events(server_round))


def _quota(policy: SitePolicy) -> Budget:
    cap = policy.budget
    return Budget(epsilon=policy.study.max_epsilon, delta=cap.delta, adjacency=cap.adjacency)


def _today() -> dt.date:
    return dt.date.today()
