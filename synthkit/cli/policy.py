"""`synthkit policy check|explain|diff`: a policy before it is in force."""

from collections.abc import Iterator
from typing import Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.loading import check_in_force, load_policy
from synthkit.cli.options import JsonOption
from synthkit.domain.canonical import JsonObject
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
    """List the rules in which two policies differ.

    Example:
      synthkit policy diff standard policy.toml
    """
    console = Console(as_json=as_json)
    before, after = (dict(_flat(load_policy(name).to_json())) for name in (old, new))
    changed = [(rule, before[rule], after[rule]) for rule in before if before[rule] != after[rule]]
    if changed:
        console.table(("rule", "old", "new"), changed)
    else:
        console.line("The two policies say the same.")
    console.result({"changed": [{"rule": rule, "old": a, "new": b} for rule, a, b in changed]})


def _flat(document: JsonObject, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted rule names and their values as text."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{name}", f"{value:g}" if isinstance(value, float) else str(value)
