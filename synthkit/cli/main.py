"""`synthkit`: the table of commands, and the one place where an error becomes a line and an exit code.

Knows each command's name, summary and module. Refuses to import any of them before it is called, and
to show a traceback: bad input is one line, a bug is one line, and neither carries a cell value. Only
SYNTHKIT_DEBUG=1 shows the traceback, on the operator's own word.

Exit codes: 0 done or PASS, 1 FAIL or refused, 2 INCONCLUSIVE, 3 INVALID, 4 bad input, 5 budget
exhausted, 6 does not verify, 7 peer unavailable; beyond the table 70 a bug, 130 interrupted, 141 the
reader of the output went away.
"""

import os
import sys
import traceback
import warnings
from collections.abc import Sequence

import click

from synthkit import __version__
from synthkit.cli.lazy import Entry, Family, LazyGroup
from synthkit.errors import SynthkitError

BAD_INPUT, BUG, INTERRUPTED, PIPE_CLOSED = 4, 70, 130, 141

HELP = """Synthetic health data, made privately, audited, and released under signature.

\b
Start with:
  synthkit demo
"""


def _entry(name: str, summary: str, function: str = "") -> Entry:
    return Entry(target=f"synthkit.cli.{name}:{function or name}", summary=summary)


SCHEMA = Family(
    summary="Draft a schema, check a table against one, or buy what it leaves open.",
    entries={
        "infer": _entry("schema", "Draft a schema for a person to correct.", "infer"),
        "check": _entry("schema", "List what in a table does not fit its schema.", "check"),
        "buy": _entry("schema", "Buy bounds and categories with budget.", "buy"),
    },
)
BUDGET = Family(
    summary="What was spent on an asset's patients, and whether the ledger is whole.",
    entries={
        "show": _entry("budget", "Cap and spend, by study.", "show"),
        "history": _entry("budget", "Every entry of the ledger.", "history"),
        "verify": _entry("budget", "Verify the chain, and against a witness.", "verify"),
        "export": _entry("budget", "Write the head for a witness outside.", "export"),
    },
)
POLICY = Family(
    summary="Read a site's policy before it is in force, and sign it.",
    entries={
        "check": _entry("policy", "Is every rule there, and does none contradict another?", "check"),
        "explain": _entry("policy", "The policy in plain words.", "explain"),
        "diff": _entry("policy", "What changes between two policies.", "diff"),
        "sign": _entry("policy", "An officer's signature on a policy.", "sign"),
    },
)
RELEASE = Family(
    summary="Seal, approve, export and revoke a table; verify and open one that arrived.",
    entries={
        "keygen": _entry("release", "A new signing key, its public half and a trust file.", "keygen"),
        "seal": _entry("seal", "Bind a table, its audit and its spend into a candidate."),
        "approve": _entry("release", "Add an officer's signed decision to a candidate.", "approve"),
        "export": _entry("release", "Write the one file that leaves.", "export"),
        "verify": _entry("release", "Verify a file, offline, with public keys alone.", "verify"),
        "open": _entry("release", "Verify a file and take the table out.", "open_bundle"),
        "revoke": _entry("revoke", "Take a release or a key back, in a signed list."),
    },
)
REVIEW = Family(
    summary="Blinded review by clinicians: can they tell generated records from real ones?",
    entries={
        "pack": _entry("review", "Records as pages in random order, and the key apart.", "pack"),
        "score": _entry("review", "Accuracy, intervals, a test against guessing, agreement.", "score"),
    },
)
SITE = Family(
    summary="The hospital's side of a federation: keys, checks, enrolment, decisions, service.",
    entries={
        "init": _entry("site", "Make a site's folder: keys, policy, ledger.", "init"),
        "preflight": _entry("site_preflight", "Is everything in place? One line a check.", "preflight"),
        "join": _entry("site", "Trust a coordinator and ask to be enrolled.", "join"),
        "run": _entry("site_run", "The service: call out, answer approved studies.", "run"),
        "approve": _entry("site", "An officer's signed yes or no to a study.", "approve"),
        "status": _entry("site", "Studies, decisions, spend, last round.", "status"),
    },
)
COORDINATOR = Family(
    summary="The server's side of a federation: enrolment, service, where studies stand.",
    entries={
        "init": _entry("coordinator", "Make a coordinator: keys, certificates, settings.", "init"),
        "invite": _entry("coordinator", "An invitation file for one hospital.", "invite"),
        "enrol": _entry("coordinator", "Put a site that answered on the roster.", "enrol"),
        "renew": _entry("coordinator", "A new server certificate of the same authority.", "renew"),
        "run": _entry("coordinator_run", "The service: SuperLink, and the studies handed in.", "run"),
        "status": _entry("coordinator", "Sites, invitations, studies.", "status"),
    },
)
STUDY = Family(
    summary="What is asked of whom, at what epsilon.",
    entries={
        "draft": _entry("study_draft", "A draft with the noise that keeps an epsilon.", "draft"),
        "sign": _entry("study", "The coordinator's signature on a draft.", "sign"),
        "explain": _entry(
            "study", "What it asks, in plain words, and what your papers say of it.", "explain"
        ),
        "submit": _entry("study", "Hand a signed study in.", "submit"),
        "status": _entry("study", "Where each study stands.", "status"),
    },
)
COMMANDS: dict[str, Entry | Family] = {
    "demo": _entry("demo", "The whole job on bundled real data, no set-up."),
    "schema": SCHEMA,
    "simulate": _entry("simulate", "Records of patients who do not exist, from a stated process."),
    "split": _entry("split", "Divide a table by patient for training and audit."),
    "train": _entry("train", "Train a generator at one site."),
    "generate": _entry("generate", "Draw synthetic rows from a trained model."),
    "complete": _entry("complete", "Fill the empty cells of partial rows, or go on with records."),
    "counterfactual": _entry(
        "record_variants", "Pairs of records: one patient, other conditions.", "counterfactual"
    ),
    "evaluate": _entry("evaluate", "How useful is a synthetic table?"),
    "evaluate-conditions": _entry(
        "conditions", "Does a model deliver what is asked of it?", "evaluate_conditions"
    ),
    "evaluate-simulated": _entry(
        "evaluate_simulated",
        "Records made from simulated ones, against the exact truth.",
        "evaluate_simulated",
    ),
    "review": REVIEW,
    "audit": _entry("audit", "Attack a synthetic table; the verdict is the exit code."),
    "audit-replies": _entry("audit_replies", "What could a coordinator read out of a site's replies?"),
    "selfcheck": _entry("selfcheck", "Do this machine's training steps do what is claimed?"),
    "budget": BUDGET,
    "policy": POLICY,
    "site": SITE,
    "coordinator": COORDINATOR,
    "study": STUDY,
    "federate": _entry("federate", "A federation on this machine, one folder per site."),
    "release": RELEASE,
}


def program() -> LazyGroup:
    """The whole program as one click command."""
    version = click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show it."
    )
    return LazyGroup(name="synthkit", table=COMMANDS, help=HELP, params=[version])


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    del parameter
    if value:
        click.echo(f"synthkit {__version__}")
        ctx.exit()


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: What stands after the program's name; the process's own by default.

    Returns:
        The exit code, see the module's docstring.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    is_debug = os.environ.get("SYNTHKIT_DEBUG", "") not in ("", "0")
    with warnings.catch_warnings():
        if not is_debug:
            # A library's warning may quote a cell.
            warnings.simplefilter("ignore")
        try:
            code = _invoke(given)
            sys.stdout.flush()
        except BrokenPipeError:
            # Nobody reads any more; without this Python complains once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return PIPE_CLOSED
        except (Exception, KeyboardInterrupt) as error:
            if is_debug:
                traceback.print_exc()
            code, message = describe(error)
            click.echo(f"error: {' '.join(message.split())}", err=True)
    return code


def _invoke(arguments: list[str]) -> int:
    try:
        with program().make_context("synthkit", arguments) as context:
            context.command.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as missing:
        # Not 0: that means PASS, and a script with an empty variable would read it so.
        click.echo(missing.format_message(), err=True)
        return BAD_INPUT
    return 0


def describe(error: BaseException) -> tuple[int, str]:
    """Exit code and one line for an error; the text of an unforeseen one is withheld."""
    if isinstance(error, SynthkitError):
        return error.exit_code, str(error)
    if isinstance(error, click.ClickException):
        return BAD_INPUT, _usage(error)
    if isinstance(error, KeyboardInterrupt | click.Abort | EOFError):
        spent = "what a ledger had reserved stays spent: see `synthkit budget show`"
        return INTERRUPTED, f"interrupted; nothing was finished ({spent})"
    if isinstance(error, OSError):
        return BAD_INPUT, _system(error)
    if isinstance(error, MemoryError):
        return BAD_INPUT, "not enough memory (give fewer rows, or a larger machine)"
    kind = type(error).__name__
    return BUG, f"internal error ({kind}); rerun with SYNTHKIT_DEBUG=1 for the traceback"


def _usage(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    return error.format_message() + hint


def _system(error: OSError) -> str:
    name = os.path.basename(str(error.filename)) if error.filename is not None else ""
    place = f"{name}: " if name else ""
    return f"{place}{error.strerror or type(error).__name__} (check the path, its rights and the disk)"


if __name__ == "__main__":
    sys.exit(run())
