"""A coordinator and three enrolled hospitals of the bundled heart data, made by the commands themselves."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from cli_clinic import Answer

from synthkit.cli.main import run
from synthkit.data.bundled import example
from synthkit.domain.documents import schema_to_toml

HOSPITALS = ("cleveland", "hungarian", "va")
SIZE = 150
POLICIES = Path(__file__).parents[2] / "policies"

Command = Callable[..., Answer]


def quiet(*words: str) -> Answer:
    """A command whose output is caught here, before any test's own capture exists."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(list(words))
    return Answer(code=code, out=out.getvalue(), err=err.getvalue())


def build_region() -> str:
    """All of it in the current folder; the coordinator's fingerprint."""
    write_papers()
    fingerprint = make_hub(quiet)
    for name in HOSPITALS:
        make_site(quiet, name)
        introduce(quiet, name, fingerprint)
    assert draft(quiet).code == 0
    assert sign(quiet).code == 0
    return fingerprint


def stranger(synthkit: Command, name: str = "lausanne") -> None:
    """A hospital that nobody knows yet, without a table."""
    given = ("--declared-size", str(SIZE), "--table", "patients.csv.gz", "--policy", "policy.toml")
    answer = synthkit("site", "init", name, "--name", name, *given)
    assert answer.code == 0, answer.err


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make_hub(synthkit: Command, *, port: int = 8000) -> str:
    """A coordinator in `hub`; its fingerprint."""
    address = f"127.0.0.1:{port}"
    answer = synthkit("coordinator", "init", "hub", "--address", address, "--listen", address, "--json")
    assert answer.code == 0, answer.err
    return str(answer.document["fingerprint"])


def write_papers() -> None:
    """Schema and policy, beside the folders."""
    text = (POLICIES / "demo.toml").read_text("utf-8").replace('"demo-patients"', '"heart-patients"')
    Path("policy.toml").write_text(text, "utf-8")
    Path("schema.toml").write_text(schema_to_toml(example("heart").schema), "utf-8")


def make_site(synthkit: Command, name: str) -> None:
    """A hospital in a folder of its name, with its table."""
    given = ("--declared-size", str(SIZE), "--table", "patients.csv.gz", "--policy", "policy.toml")
    answer = synthkit("site", "init", name, "--name", name, *given)
    assert answer.code == 0, answer.err
    shutil.copyfile(example("heart").sites[name], Path(name) / "patients.csv.gz")


def introduce(synthkit: Command, name: str, fingerprint: str) -> None:
    """Invitation, request, enrolment."""
    for words in (
        ("coordinator", "invite", name, "--folder", "hub"),
        ("site", "join", f"{name}.invitation.json", "--folder", name, "--fingerprint", fingerprint),
        ("coordinator", "enrol", f"{name}.request.json", "--folder", "hub"),
    ):
        answer = synthkit(*words)
        assert answer.code == 0, answer.err


def draft(synthkit: Command, *more: str) -> Answer:
    """A study of the three by one release of tables, epsilon 2."""
    sites = [word for name in HOSPITALS for word in ("--site", name)]
    given = ("--schema", "schema.toml", "--epsilon", "2", "--coordinator", "hub", "--name", "trial")
    return synthkit("study", "draft", *given, *sites, "-o", "study.toml", *more)


def sign(synthkit: Command, *more: str) -> Answer:
    return synthkit("study", "sign", "study.toml", "--coordinator", "hub", *more)


def altered(path: Path, change: Callable[[dict], object]) -> None:
    """Change a JSON file in place."""
    document = json.loads(path.read_text("utf-8"))
    change(document)
    path.write_text(json.dumps(document), "utf-8")
