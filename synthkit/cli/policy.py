"""`synthkit policy check|explain|diff`: a policy before it is in force."""

from typing import Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.loading import check_in_force, load_policy
from synthkit.cli.options import JsonOption
from synthkit.domain.policy_diff import differences, summary
from synthkit.domain.policy_words import explain_policy

PolicyArgument = Annotated[str, typer.Argument(metavar="FILE", help="A file, or a shipped policy's name.")]


def check(policy: PolicyArgument, as_json: JsonOption = False) -> None:
    """Check that every rule is written out, within its range, and contradicts none of the others.

    Ends with 1 and the rule's name when the policy cannot be in force.

    Example:
      synthkit policy check policy.toml
    """
    console = Console(as_json=as_json)
    rules = load_policy(policy)
    check_in_force(rules)
    console.line(f"Policy {rules.name} for {rules.asset} is complete and without contradiction.")
    console.line(f"Digest {rules.digest}")
    console.result(
        {"valid": True, "name": rules.name, "asset": rules.asset, "digest": rules.digest}
        | {"expires": rules.expires.isoformat()}
    )


def explain(policy: PolicyArgument, as_json: JsonOption = False) -> None:
    """Say in plain words what will happen under a policy, rule by rule.

    Example:
      synthkit policy explain standard
    """
    console = Console(as_json=as_json)
    rules = load_policy(policy)
    words = explain_policy(rules)
    console.line(words.rstrip())
    console.result({"digest": rules.digest, "policy": rules.to_json(), "words": words})


def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="A file, or a shipped policy's name.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The policy to compare with it.")],
    as_json: JsonOption = False,
) -> None:
    """List the rules in which two policies differ, and whether the new one is stricter or looser in each.

    Like the program of that name it ends with 0 when the two say the same, and with 1 when they differ.

    Example:
      synthkit policy diff standard policy.toml
    """
    console = Console(as_json=as_json)
    changes = differences(load_policy(old), load_policy(new))
    if changes:
        console.table(
            ("rule", "old", "new", "the new one is"),
            [(change.rule, change.old, change.new, change.direction.value) for change in changes],
        )
    console.line(summary(changes))
    console.result(
        {"same": not changes, "changed": [change.to_json() for change in changes], "words": summary(changes)}
    )
    raise typer.Exit(1 if changes else 0)
