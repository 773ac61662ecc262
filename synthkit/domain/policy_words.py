"""A site policy in plain words: what will happen under it, rule by rule.

Knows the rules' meaning for the person who signs. Refuses to soften: each sentence states what is
allowed and what is refused, and every rule of the policy appears with its name, so that a figure can
be found again in the document.
"""

import math
import textwrap

from synthkit.domain.condition_statement import share_text
from synthkit.domain.policy import (
    ANY_COLUMN,
    AuditRules,
    ConditionRules,
    EgressRules,
    ReleaseRules,
    SitePolicy,
    StudyRules,
    VaultRules,
)

MEANINGLESS_EPSILON = 15.0
"""Beyond it the odds may rise more than three million times."""

KIND_WORDS = {
    "table": "released tables",
    "records": "released records of visits",
    "annex": "further files in a release",
    "audit-page": "redacted audit pages",
    "weights": "weights and noisy tables of a federated study",
}

OFFICER = {
    "inconclusive": "a privacy officer may release it on the differential-privacy guarantee alone; "
    "her decision is recorded and travels with the table",
    "fail": "a privacy officer may override it with a written reason, which travels with the table",
}


def explain_policy(policy: SitePolicy) -> str:
    """One page for the person who signs; plain text, lines ending in LF.

    Epsilon is put into words by its odds: someone who knows everything but whether one patient took
    part can raise their odds of being right by at most a factor of e to the epsilon.
    """
    blocks = (
        _heading(policy),
        _asset_words(policy),
        _study_words(policy.study),
        _condition_words(policy.conditions),
        _audit_words(policy.audit),
        _release_words(policy.release),
        _keeping_words(policy.vault, policy.egress),
        _wrapped(
            "Whatever a rule does not allow is refused, and the refusal names the rule. What a study may ask "
            "is decided before training begins; nobody outside this site can change it.",
            "",
        ),
    )
    return "\n\n".join(blocks) + "\n"


def _heading(policy: SitePolicy) -> str:
    return (
        f"Policy {policy.name} for the patients of {policy.asset}\n"
        f"Digest {policy.digest}\n"
        f"In force through {policy.expires.isoformat()}; from the day after, everything is refused "
        "(policy.expires).\n" + _signed_words(policy.signed)
    )


def _signed_words(signed: bool) -> str:
    if signed:
        return "No command acts on it without a trusted officer's signature (policy.signed)."
    return "A single site's commands act on it unsigned, a federation's never (policy.signed)."


def _asset_words(policy: SitePolicy) -> str:
    budget = policy.budget
    return _block(
        "In total, over all studies and for ever",
        f"At most epsilon {budget.epsilon:g} at delta {budget.delta:g} is spent on any one patient "
        "(asset.epsilon, asset.delta).",
        f"In words: {_odds_words(budget.epsilon)}, except with a probability of about {budget.delta:g}.",
        "Unspent budget stays; spent budget never comes back, and a new copy of the file is not a new asset.",
        "The guarantee compares the data with and without one whole patient, all their rows included.",
    )


def _odds_words(epsilon: float) -> str:
    """The factor is rounded up: an understated risk would be a false promise."""
    if epsilon > MEANINGLESS_EPSILON:
        return "this epsilon is so large that it promises nothing"
    factor = math.exp(epsilon)
    unit = 10.0 ** (math.floor(math.log10(factor)) - 1)
    return (
        "someone who knows everything but whether one patient took part can raise their odds of guessing "
        f"right by at most a factor of {math.ceil(factor / unit - 1e-9) * unit:.8g}"
    )


def _study_words(rules: StudyRules) -> str:
    generators = ", ".join(rules.allowed_generators)
    return _block(
        "What one study may ask",
        f"At most epsilon {rules.max_epsilon:g} over all its rounds (study.max_epsilon), at a delta of "
        f"at most {rules.max_delta:g} (study.max_delta).",
        f"Noise of at least {rules.min_noise_multiplier:g} times the largest influence of one patient, "
        "at every training step and in the final fit of the prior (study.min_noise_multiplier).",
        f"A patient is drawn with probability at most {rules.max_sample_rate:g} at each step "
        "(study.max_sample_rate).",
        f"Only these generators: {generators} (study.allowed_generators).",
        _sites_words(rules.min_sites),
        f"With fewer than {rules.min_patients} patients this site takes no part (study.min_patients).",
    )


def _sites_words(min_sites: int) -> str:
    if min_sites == 1:
        return "This site may train on its own, without others (study.min_sites)."
    return f"At least {min_sites} sites take part, this one included (study.min_sites)."


def _condition_words(rules: ConditionRules) -> str:
    title = 'When a table is made under conditions, such as "age >= 70 and sex = Female"'
    if not rules.allowed_columns:
        return _block(
            title,
            "None is made and none leaves (conditions.max_columns, conditions.allowed_columns); floor and "
            "reliability have nothing to limit (conditions.floor, conditions.min_reliability).",
        )
    is_any = ANY_COLUMN in rules.allowed_columns
    columns = "any column" if is_any else f"only these columns: {', '.join(rules.allowed_columns)}"
    return _block(
        title,
        "Conditions are public and cost no privacy budget: no patient's row is read again. They may name "
        f"{columns} (conditions.allowed_columns), at most {rules.max_columns} of them for one table "
        "(conditions.max_columns).",
        f"At least {share_text(rules.floor)} of patients, about 1 in {round(1 / rules.floor):,}, have to "
        "meet all of them together, by the model's own estimate; a table about a rarer group is not sealed, "
        "and a recipient's check refuses it (conditions.floor).",
        f"The model has to state a reliability of at least {rules.min_reliability:g} for such rows; 1 is as "
        "good as rows without conditions, near 0 they are mostly noise (conditions.min_reliability).",
    )


def _audit_words(rules: AuditRules) -> str:
    return _block(
        "How a synthetic table is tested before it may leave",
        f"It passes only if attacks show that knowing the table helps an attacker to tell a member from a "
        f"stranger by less than {rules.max_advantage * 100:g} percentage points (audit.max_advantage): with "
        "confidence for exact matches and for attackers who rarely accuse a stranger (1 in 100), by the "
        "best estimate for bolder ones.",
        f"All attacks together raise a false alarm with probability at most {rules.alpha:g} (audit.alpha).",
        f"Candidate tables tested per study: at most {rules.max_attempts}; trying until one passes is not "
        "allowed (audit.max_attempts).",
    )


def _release_words(rules: ReleaseRules) -> str:
    eyes = "two different officers sign" if rules.four_eyes else "one officer signs"
    private = "may leave, marked as such" if rules.allow_non_private else "never leaves"
    return _block(
        "What happens with the verdict",
        f"PASS: {eyes}, and the table may leave (release.four_eyes).",
        f"INCONCLUSIVE: {_on_doubt('inconclusive', rules.inconclusive)} (release.inconclusive).",
        f"FAIL: {_on_doubt('fail', rules.fail)} (release.fail).",
        "INVALID: the table stays; the test has to be repaired and run again. No rule changes this.",
        f"A table made without differential privacy {private} (release.allow_non_private).",
        f"An approval lapses after {rules.valid_days} days (release.valid_days).",
    )


def _keeping_words(vault: VaultRules, egress: EgressRules) -> str:
    readers = f"the key of {' or '.join(vault.readers)}" if vault.readers else "no key at all"
    plain = "never plain" if vault.required else "or plain"
    return _block(
        "Where a table lies until it leaves, and who may have it",
        f"Encrypted in a vault, {plain} (vault.required). A vault opens with {readers} (vault.readers); "
        "whoever may read the model's folder draws the rows again.",
        egress_words(egress),
    )


def egress_words(rules: EgressRules) -> str:
    """What may leave, and to whom, in two sentences; also for the page of an audit."""
    kinds = "; ".join(KIND_WORDS[kind] for kind in rules.files) or "nothing"
    whom = "anyone" if rules.is_for_anyone else "; ".join(rules.recipients) or "nobody"
    return f"What may leave: {kinds} (egress.files). A release may be given to: {whom} (egress.recipients)."


def _on_doubt(name: str, choice: str) -> str:
    return "the table stays" if choice == "refuse" else OFFICER[name]


def _block(title: str, *sentences: str) -> str:
    return "\n".join((title, *(_wrapped(sentence, "  - ") for sentence in sentences)))


def _wrapped(sentence: str, mark: str) -> str:
    indent = " " * len(mark)
    return textwrap.fill(sentence, 100, initial_indent=mark, subsequent_indent=indent, break_on_hyphens=False)
