"""The tables of a policy's rules, read strictly.

Knows each rule's type, range and which rules contradict each other. Refuses defaults: every rule is
written out, or the whole policy is refused. Rule: the error names the rule.
"""

from dataclasses import fields

from synthkit.domain.policy import (
    ANY_COLUMN,
    ANYONE,
    KINDS_OF_FILE,
    READERS,
    AuditRules,
    ConditionRules,
    EgressRules,
    ReleaseRules,
    StudyRules,
    VaultRules,
)
from synthkit.domain.toml_reading import Section

ON_DOUBT = ("refuse", "officer")


def check_in_range(
    section: Section, name: str, *, low: float, above: bool = False, high: float | None = None
) -> None:
    """Refuse a number below `low` (or at it, with `above`) or over `high`."""
    value = section.number(name)
    if value < low or (above and value == low) or (high is not None and value > high):
        floor = f"{'above' if above else 'at least'} {low:g}"
        ceiling = "" if high is None else f" and at most {high:g}"
        raise section.error(f"must be {floor}{ceiling}", name)


def read_study_rules(section: Section, asset: Section) -> StudyRules:
    """The table [study]; its limits lie within the asset's."""
    section.check_keys(required=tuple(field.name for field in fields(StudyRules)))
    for name, cap in (("max_epsilon", "epsilon"), ("max_delta", "delta")):
        check_in_range(section, name, low=0, above=True)
        if section.number(name) > asset.number(cap):
            raise section.error(f"is larger than asset.{cap}, which it is a part of", name, "lower it")
    check_in_range(section, "min_noise_multiplier", low=0, above=True)
    check_in_range(section, "max_sample_rate", low=0, above=True, high=1)
    for name in ("min_sites", "min_patients"):
        section.whole(name)
        check_in_range(section, name, low=1)
    if asset.number("delta") * section.whole("min_patients") >= 1:
        raise section.error(
            "times asset.delta is 1 or more: the guarantee would let a whole patient be disclosed",
            "min_patients",
            "lower asset.delta far below one in the number of patients",
        )
    generators = section.texts("allowed_generators")
    if not generators or len(set(generators)) != len(generators) or "" in generators:
        raise section.error("must list at least one generator, each once", "allowed_generators")
    return StudyRules(
        max_epsilon=section.number("max_epsilon"),
        max_delta=section.number("max_delta"),
        min_noise_multiplier=section.number("min_noise_multiplier"),
        max_sample_rate=section.number("max_sample_rate"),
        allowed_generators=generators,
        min_sites=section.whole("min_sites"),
        min_patients=section.whole("min_patients"),
    )


def read_condition_rules(section: Section) -> ConditionRules:
    """The table [conditions]; no column allowed and no column counted have to go together."""
    section.check_keys(required=tuple(field.name for field in fields(ConditionRules)))
    check_in_range(section, "floor", low=0, above=True, high=0.5)
    check_in_range(section, "min_reliability", low=0, above=True, high=1)
    most, columns = section.whole("max_columns"), section.texts("allowed_columns")
    check_in_range(section, "max_columns", low=0)
    is_named = all(name.strip() and name.isprintable() for name in columns)
    if not is_named or len(set(columns)) != len(columns):
        raise section.error("must list columns, each once", "allowed_columns")
    if ANY_COLUMN in columns and len(columns) > 1:
        raise section.error(
            f'names columns beside "{ANY_COLUMN}", which is every column', "allowed_columns", "write either"
        )
    if bool(most) != bool(columns):
        raise section.error(
            "contradicts conditions.allowed_columns: one allows conditions, the other none",
            "max_columns",
            "write 0 and [] to allow none",
        )
    return ConditionRules(
        floor=section.number("floor"),
        min_reliability=section.number("min_reliability"),
        max_columns=most,
        allowed_columns=columns,
    )


def read_audit_rules(section: Section) -> AuditRules:
    """The table [audit]."""
    section.check_keys(required=tuple(field.name for field in fields(AuditRules)))
    section.whole("max_attempts")
    check_in_range(section, "max_attempts", low=1)
    for name, ceiling in (("max_advantage", 1.0), ("alpha", 0.5)):
        if not 0 < section.number(name) < ceiling:
            raise section.error(f"must lie between 0 and {ceiling:g}", name)
    return AuditRules(
        max_advantage=section.number("max_advantage"),
        alpha=section.number("alpha"),
        max_attempts=section.whole("max_attempts"),
    )


def read_release_rules(section: Section) -> ReleaseRules:
    """The table [release]; a FAIL is never easier to release than an INCONCLUSIVE."""
    section.check_keys(required=tuple(field.name for field in fields(ReleaseRules)))
    inconclusive, fail = (section.choice(name, ON_DOUBT) for name in ("inconclusive", "fail"))
    if fail == "officer" and inconclusive == "refuse":
        raise section.error(
            "is laxer than release.inconclusive", "fail", "a FAIL cannot be easier to release"
        )
    section.whole("valid_days")
    check_in_range(section, "valid_days", low=1, high=3650)
    return ReleaseRules(
        inconclusive=inconclusive,
        fail=fail,
        four_eyes=section.flag("four_eyes"),
        allow_non_private=section.flag("allow_non_private"),
        valid_days=section.whole("valid_days"),
    )


def read_vault_rules(section: Section) -> VaultRules:
    """The table [vault]; a vault that is required and that nobody opens is a contradiction."""
    section.check_keys(required=tuple(field.name for field in fields(VaultRules)))
    is_required, readers = section.flag("required"), _words(section, "readers", READERS)
    if is_required and not readers:
        raise section.error(
            "is empty, and vault.required = true: nobody could audit or seal a table",
            "readers",
            f"name some of {', '.join(READERS)}",
        )
    return VaultRules(required=is_required, readers=readers)


def read_egress_rules(section: Section, study: Section) -> EgressRules:
    """The table [egress]; no recipient and no file go together, and a federation sends weights."""
    section.check_keys(required=tuple(field.name for field in fields(EgressRules)))
    recipients, files = section.texts("recipients"), _words(section, "files", KINDS_OF_FILE)
    is_named = all(name == name.strip() and name and name.isprintable() for name in recipients)
    if not is_named or len(set(recipients)) != len(recipients):
        raise section.error("must list recipients, each once", "recipients")
    if ANYONE in recipients and len(recipients) > 1:
        raise section.error(
            f'names recipients beside "{ANYONE}", which is anyone', "recipients", "write either"
        )
    if bool(recipients) != bool(set(files) - {"weights"}):
        raise section.error(
            "contradicts egress.files: one lets something leave, the other nothing",
            "recipients",
            "write [] in both to let no release leave",
        )
    if "weights" not in files and study.whole("min_sites") > 1:
        raise section.error(
            "leaves out weights, and study.min_sites demands a federation, which sends them",
            "files",
            'add "weights", or lower study.min_sites to 1',
        )
    return EgressRules(recipients=recipients, files=files)


def _words(section: Section, name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """A list of known words, each once."""
    words = section.texts(name)
    if len(set(words)) != len(words) or not set(words) <= set(known):
        raise section.error("must list known words, each once", name, f"of {', '.join(known)}")
    return words
