"""Does a site's policy allow this study, or this table under conditions? Decided before a row is touched.

Knows the study, the policy, the epsilon the study was priced at, and today's date; of a conditional
table its public conditions and the model's figures on them. Refuses to negotiate: nothing is adjusted;
the first broken rule is named with what was asked and what is allowed.
Rules kept: pure, no I/O; a figure that is not a number refuses.
"""

import datetime as dt
from typing import NoReturn

from synthkit.domain.condition_statement import ConditionStatement, share_text
from synthkit.domain.policy import ConditionRules, EgressRules, SitePolicy, StudyRules
from synthkit.domain.study import Study, TrainingPlan
from synthkit.domain.toml_reading import shown
from synthkit.errors import PolicyError

ASK_AGAIN = "ask for a new draft of the study, or change the policy and sign it again"


def check_study_against_policy(
    study: Study, policy: SitePolicy, *, planned_epsilon: float, today: dt.date
) -> None:
    """Raise at the first rule that forbids the study.

    Args:
        study: The study as drafted or signed.
        policy: This site's policy.
        planned_epsilon: Epsilon of the study's whole plan at `policy.budget.delta`.
        today: The date at the site.

    Raises:
        PolicyError: A rule forbids it; `rule` names which.
    """
    _check_dates(study, policy, today)
    not_public = study.schema.not_public()
    if not_public:
        _refuse(
            study,
            "schema.provenance",
            f"the bounds or categories of column {not_public[0]} were read off patients' rows",
            "give public ones and sign again",
        )
    _check_company(study, policy.study)
    _check_plan(study, study.plan, policy.study)
    if not 0 <= planned_epsilon <= policy.study.max_epsilon:
        _refuse(
            study,
            "study.max_epsilon",
            f"the study costs epsilon {planned_epsilon:.6g}, at most {policy.study.max_epsilon:g} is allowed",
            "plan fewer rounds, more noise or a lower sample rate",
        )
    if len(study.roster) > 1 and "weights" not in policy.egress.files:
        _refuse(
            study,
            "egress.files",
            "a study of several sites sends weights or noisy tables, and none may leave this site",
            'add "weights" to egress.files and sign the policy again, or train alone',
        )


def check_egress_against_policy(
    rules: EgressRules, *, recipient: str, kinds: frozenset[str], site: str = ""
) -> None:
    """Raise at the first rule that forbids a release of these kinds of file to this recipient.

    Args:
        rules: The site's rules.
        recipient: Who the release says it is for; empty: it names nobody.
        kinds: Kinds of file in it, of `KINDS_OF_FILE`.
        site: Whose rules they are, for the message.

    Raises:
        PolicyError: A rule forbids it; `rule` names which.
    """
    check_kinds_may_leave(rules, kinds, site=site)
    if rules.is_for_anyone or (recipient and recipient in rules.recipients):
        return
    known = ", ".join(map(shown, rules.recipients)) or "nobody"
    what = f"{shown(recipient)} is no recipient" if recipient else "the release names no recipient"
    raise PolicyError(
        f"{what} that this policy allows",
        rule="egress.recipients",
        where=_egress_of(site),
        fix=f"seal it with --recipient; allowed: {known}",
    )


def check_kinds_may_leave(rules: EgressRules, kinds: frozenset[str], *, site: str = "") -> None:
    """Raise if a file of one of these kinds may not leave.

    Raises:
        PolicyError: Rule `egress.files`.
    """
    forbidden = sorted(kinds - set(rules.files))
    if forbidden:
        raise PolicyError(
            f"a file of the kind {shown(forbidden[0])} may not leave",
            rule="egress.files",
            where=_egress_of(site),
            fix=f"allowed: {', '.join(rules.files) or 'nothing'}; leave it out, or change the policy",
        )


def _egress_of(site: str) -> str:
    return f"site {shown(site)}" if site else "egress"


def _refuse(study: Study, rule: str, what: str, fix: str = ASK_AGAIN) -> NoReturn:
    raise PolicyError(what, rule=rule, where=f"study {study.name}", fix=fix)


def _check_dates(study: Study, policy: SitePolicy, today: dt.date) -> None:
    if today > policy.expires:
        _refuse(
            study,
            "policy.expires",
            f"the site's policy expired on {policy.expires.isoformat()}",
            "review it and sign it again",
        )
    if today > study.expires:
        _refuse(study, "study.expires", f"the study expired on {study.expires.isoformat()}")


def _check_company(study: Study, rules: StudyRules) -> None:
    if study.plan.generator not in rules.allowed_generators:
        _refuse(
            study,
            "study.allowed_generators",
            f"generator {study.plan.generator} is asked for, allowed: {', '.join(rules.allowed_generators)}",
        )
    if len(study.roster) < rules.min_sites:
        _refuse(
            study,
            "study.min_sites",
            f"the roster names {len(study.roster)} sites, at least {rules.min_sites} are required",
            "enrol more sites",
        )


def _check_plan(study: Study, plan: TrainingPlan, rules: StudyRules) -> None:
    noises = {"prior_noise_multiplier": plan.prior_noise_multiplier}
    if plan.total_steps:
        noises["noise_multiplier"] = plan.noise_multiplier
    if plan.encoder_events():
        noises["encoder_noise_multiplier"] = plan.encoder_noise_multiplier
    for name, noise in noises.items():
        if not noise >= rules.min_noise_multiplier:
            _refuse(
                study,
                "study.min_noise_multiplier",
                f"{name} {noise:g} is asked for, at least {rules.min_noise_multiplier:g} is required",
            )
    if plan.total_steps and not plan.sample_rate <= rules.max_sample_rate:
        _refuse(
            study,
            "study.max_sample_rate",
            f"sample_rate {plan.sample_rate:g} is asked for, at most {rules.max_sample_rate:g} is allowed",
        )
    if not plan.delta <= rules.max_delta:
        _refuse(
            study,
            "study.max_delta",
            f"delta {plan.delta:g} is asked for, at most {rules.max_delta:g} is allowed",
        )


def check_conditions_against_policy(statement: ConditionStatement, rules: ConditionRules) -> None:
    """Raise at the first rule that forbids a table under these conditions.

    Raises:
        PolicyError: A rule forbids it; `rule` names which.
    """
    columns = statement.columns
    forbidden = [column for column in columns if not rules.allows(column)]
    if forbidden:
        _refuse_conditions(
            "allowed_columns",
            f"conditions on {shown(forbidden[0])} are not allowed",
            "drop that condition, or have the policy name the column",
        )
    if not len(columns) <= rules.max_columns:
        _refuse_conditions(
            "max_columns",
            f"the conditions name {len(columns)} columns, at most {rules.max_columns} are allowed",
            "drop a condition",
        )
    if not statement.mass >= rules.floor:
        _refuse_conditions(
            "floor",
            f"by the model {statement.share_words} of patients meet the conditions, at least "
            f"{share_text(rules.floor)} are required",
            "widen a condition or drop one",
        )
    if not statement.reliability >= rules.min_reliability:
        _refuse_conditions(
            "min_reliability",
            f"the model states reliability {statement.reliability:.2f} of these rows, at least "
            f"{rules.min_reliability:g} is required",
            "widen a condition, or train with more patients or a larger epsilon",
        )


def _refuse_conditions(rule: str, what: str, fix: str) -> NoReturn:
    raise PolicyError(what, rule=f"conditions.{rule}", where="conditions", fix=fix)
