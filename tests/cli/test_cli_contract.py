"""What holds for every command: names, help, speed, one-line errors, exit codes, silence about cells."""

import json
import os
import subprocess
import sys
import time

import pytest

from synthkit.cli import main
from synthkit.cli.lazy import Entry, Family, help_text
from synthkit.errors import PeerError

CANARY = "CANARY-7731"
HEAVY = {
    *("torch", "pandas", "numpy", "scipy", "sklearn", "sdmetrics", "matplotlib", "flwr", "cryptography"),
    *("opacus", "pyarrow", "rich"),
}
OURS = [
    ("evaluate",),
    ("audit",),
    *((name, entry) for name in ("schema", "budget", "policy") for entry in main.COMMANDS[name].entries),
    *(("release", entry) for entry in main.COMMANDS["release"].entries),
]


def start(*arguments, **environment):
    command = [sys.executable, "-m", "synthkit.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


def test_help_comes_at_once():
    began = time.perf_counter()
    done = start("--help")
    seconds = time.perf_counter() - began
    assert done.returncode == 0
    assert all(name in done.stdout for name in main.COMMANDS)
    assert seconds < 1.5


def test_listing_the_commands_imports_nothing_heavy():
    code = (
        "import sys; from synthkit.cli.main import run; run(['--help']); run(['release', '--help']); "
        "print([name for name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.strip(" '") for name in done.stdout.splitlines()[-1].strip("[]").split(",")}
    assert not loaded & HEAVY
    assert "typer" in loaded


@pytest.mark.parametrize("command", OURS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(synthkit, command):
    answer = synthkit(*command, "--help")
    assert (answer.code, answer.err) == (0, "")
    assert "Example:\n    synthkit " + " ".join(command) in answer.out
    assert "--json" in answer.out
    assert "Raises:" not in answer.out
    assert "\\[" not in answer.out


def test_the_contracts_commands_are_all_listed():
    plain = {"demo", "train", "generate", "evaluate", "audit", "federate"}
    assert {*plain, "schema", "budget", "policy", "release"} <= set(main.COMMANDS)
    for family, entries in {
        "schema": {"infer", "check"},
        "budget": {"show", "history", "verify", "export"},
        "policy": {"check", "explain", "diff"},
        "release": {"seal", "approve", "export", "verify", "open"},
    }.items():
        group = main.COMMANDS[family]
        assert isinstance(group, Family)
        assert entries <= set(group.entries)


def test_help_leaves_out_what_is_for_programmers():
    text = help_text("Do it.\n\nExample:\n  synthkit do\n\nRaises:\n  InputError: Never.\n")
    assert text == "Do it.\n\n\b\nExample:\n  synthkit do"


def test_version():
    assert start("--version").stdout == "synthkit 0.1.0\n"


def test_nothing_asked_is_not_a_pass(synthkit):
    for arguments in ((), ("budget",)):
        answer = synthkit(*arguments)
        assert (answer.code, answer.out) == (4, "")
        assert "Commands:" in answer.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("polish",), "Did you mean policy?"),
        (("budget", "shwo"), "Did you mean show?"),
        (("audit", "--nonsense"), "No such option"),
        (("budget", "show"), "Missing option '--ledger'"),
        (("schema", "check"), "Missing argument 'TABLE'"),
        (("policy", "check", "a", "b"), "unexpected extra argument"),
        (("release", "keygen", "--name", "x", "--role", "king", "-o", "k"), "'king' is not one of"),
        (
            (
                "audit",
                *[
                    "--members",
                    "m",
                    "--holdout",
                    "h",
                    "--reference",
                    "r",
                    "--synthetic",
                    "s",
                    "--schema",
                    "x",
                    "--seed",
                    "-1",
                ],
            ),
            "seed",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_4(synthkit, arguments, words):
    answer = synthkit(*arguments)
    assert (answer.code, answer.out) == (4, "")
    assert words in answer.error
    assert "--help)" in answer.error
    assert answer.err.count("\n") == 1


def bad_inputs():
    schema = ("--schema", "schema.toml")
    tables = ("--members", "members.csv", "--holdout", "holdout.csv", "--reference", "reference.csv")
    return {
        "missing table": ("schema", "check", "absent.csv", *schema),
        "missing schema": ("schema", "check", "members.csv", "--schema", "absent.toml"),
        "folder as a table": ("schema", "check", "model", *schema),
        "schema is no TOML": ("schema", "check", "members.csv", "--schema", "members.csv"),
        "wrong schema": ("evaluate", "--real", "members.csv", "--synthetic", "odd.csv", *schema),
        "unknown target": (
            *("evaluate", "--real", "members.csv", "--synthetic", "holdout.csv", *schema),
            *("--target", "nonsense"),
        ),
        "no such folder": ("schema", "infer", "members.csv", "-o", "absent/schema.toml"),
        "file as a folder": ("schema", "infer", "members.csv", "-o", "members.csv/schema.toml"),
        "unwritable place": ("schema", "infer", "members.csv", "-o", "/proc/schema.toml"),
        "existing file": ("schema", "infer", "members.csv", "-o", "schema.toml"),
        "report without a folder": (
            *("audit", *tables, "--synthetic", "synthetic.csv", *schema),
            *("--report", "absent/audit.html"),
        ),
        "ledger without a study": (
            *("audit", *tables, "--synthetic", "synthetic.csv", *schema, "--policy", "lenient.toml"),
            *("--ledger", "heart.ledger"),
        ),
        "model is no folder": (
            *("audit", *tables, "--synthetic", "synthetic.csv", *schema, "--model", "absent"),
        ),
        "no trusted keys": ("release", "verify", "members.csv", "--trust", "model"),
        "missing bundle": ("release", "verify", "absent.synthkit", "--trust", "."),
        "missing candidate": ("release", "export", "absent", "-o", "x.synthkit"),
    }


@pytest.mark.parametrize("name", bad_inputs())
def test_bad_input_is_one_line_and_4(clinic, synthkit, name):
    (clinic / "odd.csv").write_text(f"age,{CANARY}\n50,1\n")
    answer = synthkit(*bad_inputs()[name])
    assert (answer.code, answer.out) == (4, "")
    assert answer.error
    assert str(clinic) not in answer.err


def test_ledger_of_another_asset_ends_with_6_before_anything_is_read(clinic, synthkit):
    tables = ("--members", "absent", "--holdout", "absent", "--reference", "absent", "--synthetic", "absent")
    book = ("--ledger", "heart.ledger", "--study", "s")
    answer = synthkit("audit", *tables, "--schema", "schema.toml", "--policy", "standard", *book)
    assert (answer.code, "belongs to asset heart-patients" in answer.error) == (6, True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_folder_is_4(clinic, synthkit):
    (clinic / "closed").mkdir(mode=0o500)
    answer = synthkit("schema", "infer", "members.csv", "-o", "closed/schema.toml")
    assert (answer.code, "cannot be written" in answer.error) == (4, True)


def with_command(monkeypatch, target):
    monkeypatch.setitem(main.COMMANDS, "try", Entry(target=target, summary="Only here."))


def test_exhausted_budget_ends_with_5(clinic, synthkit, monkeypatch):
    with_command(monkeypatch, "cli_clinic:overspend")
    answer = synthkit("try")
    assert (answer.code, "epsilon would reach" in answer.error) == (5, True)


def test_bug_is_one_line_without_its_text(synthkit, monkeypatch):
    with_command(monkeypatch, "cli_clinic:crash")
    answer = synthkit("try")
    assert (answer.code, "internal error (ValueError)" in answer.error) == (70, True)
    assert CANARY not in answer.err + answer.out
    monkeypatch.setenv("SYNTHKIT_DEBUG", "1")
    assert CANARY in synthkit("try").err


def test_command_that_is_not_installed_is_one_line(synthkit, monkeypatch):
    with_command(monkeypatch, "synthkit.cli.not_there:run")
    answer = synthkit("try")
    assert (answer.code, "not part of this installation" in answer.error) == (4, True)
    assert synthkit("--help").code == 0


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            PermissionError(13, "Permission denied", "/a/secret/file.csv"),
            4,
            "file.csv: Permission denied",
        ),
        (OSError(28, "No space left on device"), 4, "No space left"),
        (MemoryError(), 4, "memory"),
        (PeerError("no answer", where="coordinator"), 7, "no answer"),
    ],
)
def test_each_kind_of_error_has_its_code(error, code, words):
    found, message = main.describe(error)
    assert (found, words in message) == (code, True)
    assert "/a/secret" not in message


def test_check_lists_places_and_never_cells(clinic, synthkit):
    header, *rows = (clinic / "members.csv").read_text().splitlines()
    broken = [row.replace("Male", CANARY) for row in rows]
    (clinic / "broken.csv").write_text("\n".join((header, *broken)) + "\n")
    count = sum(CANARY in row for row in broken)
    assert count > 20
    arguments = ("schema", "check", "broken.csv", "--schema", "schema.toml")
    human, machine = synthkit(*arguments), synthkit(*arguments, "--json")
    assert human.code == machine.code == 4
    assert human.out.count("column sex, row ") == 20
    assert f"and {count - 20} more" in human.out
    assert machine.document["count"] == count
    assert len(machine.document["violations"]) == 20
    assert machine.document["violations"][0]["line"] == machine.document["violations"][0]["row"] + 1
    for answer in (human, machine):
        assert CANARY not in answer.out + answer.err
        assert answer.error


def test_evaluate_and_audit_never_print_a_bad_cell(clinic, synthkit):
    text = (clinic / "members.csv").read_text()
    (clinic / "members.csv").write_text(text.replace("Female", CANARY))
    answer = synthkit(
        *("audit", "--members", "members.csv", "--holdout", "holdout.csv", "--reference", "reference.csv"),
        *("--synthetic", "synthetic.csv", "--schema", "schema.toml"),
    )
    assert (answer.code, "column sex, row " in answer.error) == (4, True)
    other = synthkit(
        *("evaluate", "--real", "members.csv", "--synthetic", "synthetic.csv", "--schema", "schema.toml")
    )
    assert other.code == 4
    assert CANARY not in answer.out + answer.err + other.out + other.err


def test_good_table_fits(clinic, synthkit):
    answer = synthkit("schema", "check", "members.csv", "--schema", "schema.toml", "--json")
    assert (answer.code, answer.document) == (0, {"valid": True, "count": 0, "violations": []})


def test_infer_drafts_and_says_what_to_do(clinic, synthkit):
    arguments = ("schema", "infer", "members.csv", "-o", "draft.toml")
    answer = synthkit(*arguments)
    assert answer.code == 0
    assert 'provenance = "public"' in answer.out
    draft = (clinic / "draft.toml").read_text()
    assert 'provenance = "data"' in draft
    assert synthkit(*arguments).code == 4
    again = synthkit(*arguments, "--force", "--patient-id", "age", "--json")
    assert again.document["patient_id"] == "age"
    assert "age" not in again.document["to_review"]
    checked = synthkit("schema", "check", "members.csv", "--schema", "draft.toml")
    assert (checked.code, "private training refuses" in checked.out) == (0, True)


def test_evaluate_prints_the_contracts_object_and_a_page(clinic, synthkit):
    answer = synthkit(
        *("evaluate", "--real", "holdout.csv", "--train", "members.csv", "--synthetic", "synthetic.csv"),
        *("--schema", "schema.toml", "--target", "age >= 60", "--target", "sex"),
        *("--report", "evaluation.html", "--json"),
    )
    assert answer.code == 0
    document = answer.document
    assert {"overall", "column_shapes", "column_pairs"} <= set(document["quality"])
    assert set(document["utility"]) == {"age >= 60", "sex = Male"}
    for score in document["utility"].values():
        assert {"accuracy", "auc"} == set(score["real"]) == set(score["synthetic"])
    for side in document["moments"]["age"].values():
        assert {"mean", "std", "skewness", "kurtosis"} == set(side)
    assert "Quality" in answer.err
    assert (clinic / "evaluation.html").stat().st_size > 10_000


def test_machine_output_is_one_object_and_human_text_goes_elsewhere(clinic):
    done = start("budget", "show", "--ledger", "heart.ledger", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["cap"]["delta"] == 1e-05
    assert '"delta": 1e-05' in done.stdout
    assert "Asset heart-patients" in done.stderr
    quiet = start("budget", "show", "--ledger", "heart.ledger")
    assert "Asset heart-patients" in quiet.stdout
    assert "Asset" not in quiet.stderr  # on a busy machine a line of progress may stand there


def test_reader_that_goes_away_is_no_traceback(clinic):
    command = f"{sys.executable} -m synthkit.cli.main policy explain standard | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
