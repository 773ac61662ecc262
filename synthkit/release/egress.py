"""May these files leave, and to this recipient? Asked of every site's enclosed policy.

Knows a manifest, its statements and the parts by name; knows no keys. Rules kept here: the writer asks before
sealing and before each approval, and the reader asks again on arrival; a policy that is enclosed and says
nothing readable about egress lets nothing leave.
"""

from collections.abc import Mapping, Sequence

from synthkit.domain.policy import EgressRules
from synthkit.domain.policy_check import check_egress_against_policy
from synthkit.domain.record_files import RECORDS
from synthkit.domain.release import BundleManifest, SiteStatement
from synthkit.errors import BundleError, PolicyError, ReleaseRefusedError
from synthkit.release.claims import REQUIRED_PARTS, enclosed_policy, policy_part
from synthkit.release.contents import DRAWN
from synthkit.release.documents import quoted

_FIRST_FORMAT = 1
"""Policies of this form had no rules for egress; releases under them keep what was promised then."""


def kinds_of(parts: Mapping[str, bytes], statements: Sequence[SiteStatement]) -> frozenset[str]:
    """The kinds of file in a release, of `KINDS_OF_FILE`."""
    usual = {*DRAWN, *REQUIRED_PARTS, *(policy_part(statement.site) for statement in statements)}
    drawn = "records" if RECORDS in parts else "table"
    return frozenset({drawn, "annex"} if set(parts) - usual else {drawn})


def check_allowed_egress(
    manifest: BundleManifest, statements: Sequence[SiteStatement], parts: Mapping[str, bytes]
) -> None:
    """Refuse a release whose kind of file or recipient a site's enclosed policy does not allow.

    Raises:
        ReleaseRefusedError: A site's policy refuses it.
        BundleError: A policy is not the one its site states, or its rules are malformed.
    """
    kinds = kinds_of(parts, statements)
    for statement in statements:
        rules = read_egress_rules(statement, parts)
        if rules is None:
            continue
        try:
            check_egress_against_policy(rules, recipient=manifest.recipient, kinds=kinds, site=statement.site)
        except PolicyError as error:
            raise ReleaseRefusedError(error.what, where=error.where, fix=error.fix) from error


def read_egress_rules(statement: SiteStatement, parts: Mapping[str, bytes]) -> EgressRules | None:
    """The egress rules of the site's policy; None where it is not enclosed, or of the first form.

    Raises:
        BundleError: The part is not the policy whose digest the site states, or the rules are malformed.
    """
    policy = enclosed_policy(statement, parts)
    if policy is None or ("egress" not in policy and policy.get("format") == _FIRST_FORMAT):
        return None
    try:
        return EgressRules.from_json(policy["egress"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        where = quoted(policy_part(statement.site))
        raise BundleError("its rules for egress are malformed", where=where) from error
