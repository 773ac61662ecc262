"""The guard: may this study touch this site's rows? Asked before every round, answered from files.

Knows signatures, policies, dates and the ledger. Refuses to know rows. The coordinator's message has
no say in any of this: what it sends is a digest, and everything that decides is signed and on disk.

  1. the study is on disk, signed by a coordinator this site trusts, and has the asked digest
  2. the policy on disk is the one that the site's officer signed
  3. the site approved exactly this study under exactly this policy
  4. the policy allows the study (epsilon, noise, rate, generator, roster, dates)
  5. the roster lists this site with this site's own key
"""

import datetime as dt
from dataclasses import dataclass

from synthkit.domain.policy import SitePolicy
from synthkit.domain.policy_check import check_study_against_policy
from synthkit.domain.study import Study
from synthkit.errors import PolicyError
from synthkit.privacy.accounting import check_delta
from synthkit.privacy.plan_cost import admission_cost
from synthkit.release.signing import SigningKey, open_document, seal_document
from synthkit.training.planning import check_plan as check_plan_fits
from synthkit.training.planning import check_schema_fits
from synthkit.training.record_rounds import check_rounds_of_records
from synthkit_client.papers import read_signed_policy, read_study
from synthkit_client.site_folder import SiteFolder

__all__ = ["Admission", "approve_study", "check_plan", "check_study", "read_signed_policy", "read_study"]


@dataclass(frozen=True, kw_only=True)
class Admission:
    """What the guard admitted: the study as signed, under the policy as signed."""

    study: Study
    policy: SitePolicy
    planned_epsilon: float


def check_plan(folder: SiteFolder, study_digest: str, *, today: dt.date) -> Admission:
    """Admit a study at this site, by the five steps of the module docstring.

    Raises:
        PolicyError: A rule forbids it, or it was not approved here.
        SignatureError: A signature is missing or wrong.
        InputError: A document is missing or malformed.
    """
    study = read_study(folder, study_digest)  # 1
    policy = read_signed_policy(folder)  # 2
    _check_approval(folder, study, policy)  # 3
    planned = check_study(folder, study, policy, today=today)  # 4, 5
    return Admission(study=study, policy=policy, planned_epsilon=planned)


def check_study(folder: SiteFolder, study: Study, policy: SitePolicy, *, today: dt.date) -> float:
    """Steps 4 and 5; returns the epsilon that the whole plan costs at the asset's delta."""
    if study.schema.to_buy():
        raise PolicyError(
            f"the bounds, bins or categories of column {study.schema.to_buy()[0]} are still to be bought",
            rule="schema.provenance",
            where=f"study {study.name}",
            fix="complete the schema with `schema buy` and sign the study again",
        )
    plan = study.plan
    planned = admission_cost(plan, policy.budget.delta)
    check_study_against_policy(study, policy, planned_epsilon=planned, today=today)
    check_plan_fits(plan)
    check_schema_fits(study.schema, plan)
    check_rounds_of_records(plan)
    if plan.encoder_events():
        raise PolicyError(
            "an encoder trained with DP first is for one site on its own",
            rule="study.encoder",
            where=f"study {study.name}",
            fix='freeze a "public" or a "random" encoder, or none',
        )
    entry = study.site(folder.name)
    check_delta(policy.budget.delta, entry.declared_size)
    if entry.public_key != folder.key.public_key_hex:
        raise PolicyError(
            "the roster lists another key for this site",
            rule="roster.public_key",
            where=f"study {study.name}",
            fix="ask the coordinator to enrol this site's key",
        )
    if entry.declared_size != folder.config.declared_size:
        raise PolicyError(
            "the roster's declared size is not this site's",
            rule="roster.declared_size",
            where=f"study {study.name}",
            fix="the declared size normalises the gradient; agree on one",
        )
    return planned


def approve_study(
    folder: SiteFolder, study: Study, officer: str, key: SigningKey, *, today: dt.date
) -> float:
    """Record the officer's approval of a study whose signed file lies in the folder.

    Returns:
        The planned epsilon at the asset's delta.

    Raises:
        PolicyError: The policy forbids the study; the rule is named and nothing is written.
    """
    policy = read_signed_policy(folder)
    planned = check_study(folder, study, policy, today=today)
    document = {"study_digest": study.digest, "policy_digest": policy.digest, "site": folder.name}
    envelope = seal_document(document, "study-approval", key, officer)
    folder.write_json(folder.study_folder(study.digest) / "approval.json", envelope)
    return planned


def _check_approval(folder: SiteFolder, study: Study, policy: SitePolicy) -> None:
    path = folder.study_folder(study.digest) / "approval.json"
    if not path.is_file():
        raise PolicyError(
            "the officer has not approved this study",
            rule="study.approved",
            where=f"study {study.name}",
            fix="approve it, or leave it",
        )
    approval, _ = open_document(folder.read_json(path), "study-approval", folder.trust)
    expected = {"study_digest": study.digest, "policy_digest": policy.digest, "site": folder.name}
    if approval != expected:
        raise PolicyError(
            "the approval is of another study, policy or site",
            rule="study.approved",
            where=f"study {study.name}",
            fix="approve it again under the policy in force",
        )
