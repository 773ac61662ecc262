"""`synthkit policy check|explain|diff|sign`: a policy before it is in force, and her word that it is.

Rule kept here: who signs is shown what will happen under it, and signs nothing that could not be in force.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.keys import load_key
from synthkit.cli.loading import check_in_force, check_target, load_policy, name_of, policy_path, save_text
from synthkit.cli.options import ForceOption, JsonOption, KeyOption, PassphraseOption, PolicyTrustOption
from synthkit.cli.policy_in_force import check_signed, signature_path
from synthkit.domain.policy_diff import differences, summary
from synthkit.domain.policy_words import explain_policy
from synthkit.errors import InputError
from synthkit.release.policy_signature import sign_policy

PolicyArgument = Annotated[str, typer.Argument(metavar="FILE", help="A file, or a shipped policy's name.")]


def check(policy: PolicyArgument, trust: PolicyTrustOption = None, as_json: JsonOption = False) -> None:
    """Check that every rule is written out, within its range, and contradicts none of the others.

    With --trust also that an officer whose key is trusted signed exactly these rules. Ends with 1 and the
    rule's name when the policy cannot be in force, with 6 when its signature is missing or does not hold.

    Example:
      synthkit policy check policy.toml --trust keys
    """
    console = Console(as_json=as_json)
    rules = load_policy(policy)
    check_in_force(rules)
    officer = check_signed(rules, policy_path(policy), trust) if trust is not None else None
    console.line(f"Policy {rules.name} for {rules.asset} is complete and without contradiction.")
    console.line(f"Digest {rules.digest}")
    console.line(f"Signed by {officer}." if officer is not None else "Signature not looked at (--trust).")
    console.result(
        {"valid": True, "name": rules.name, "asset": rules.asset, "digest": rules.digest}
        | {"expires": rules.expires.isoformat(), "signed_by": officer}
    )


def sign(
    policy: Annotated[Path, typer.Argument(metavar="FILE", help="The policy, TOML.")],
    *,
    name: Annotated[str, typer.Option("--name", help="The officer's name, as trust files list her key.")],
    key: KeyOption,
    passphrase_env: PassphraseOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    r"""Sign a policy as its officer: writes FILE's name with .signed.json beside it.

    What is signed are the rules and the last day, not the comments. A rule that is changed afterwards makes
    the signature worthless. Read first what will happen: it is printed here and by `policy explain`.

    Example:
      synthkit policy sign policy.toml --name ada --key keys/ada.pem
    """
    rules, target = load_policy(str(policy)), signature_path(policy)
    if not policy.is_file():
        raise InputError(
            "a shipped policy is not signed", where=name_of(policy), fix="copy it and name yours"
        )
    check_in_force(rules)
    check_target(target, force=force)
    signing = load_key(key, passphrase_env)
    console = Console(as_json=as_json)
    console.line(explain_policy(rules).rstrip())
    console.line()
    envelope = sign_policy(rules, signing, name)
    save_text(target, json.dumps(envelope, indent=1, ensure_ascii=False) + "\n", force=force)
    console.line(f"Signed by {name}: {name_of(target)}. Keep it beside {name_of(policy)}.")
    console.result({"signature": str(target), "signed_by": name, "digest": rules.digest})


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
