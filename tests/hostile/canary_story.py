"""One hospital's whole story on the real command line, with everything it says and writes kept."""

import contextlib
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from canary_site import CHARTS, FILE_MARK, SPLIT, charts, files_below, write_charts

from synthkit.cli.main import run
from synthkit.domain.documents import schema_to_toml

POLICIES = Path(__file__).parents[2] / "policies"
TABLE = f"{FILE_MARK}.csv"
REASON = "The registry needs this table for its yearly report"
SETS = (
    *("--members", "parts/members.csv", "--holdout", "parts/holdout.csv"),
    *("--reference", "parts/reference.csv", "--synthetic", "synthetic.csv", "--schema", "schema.toml"),
)
PAPERS = ("--schema", "schema.toml", "--model", "model", "--policy", "policy.toml", "--ledger", "book.ledger")


@contextlib.contextmanager
def everything_logged() -> Iterator[io.StringIO]:
    """All log records of this process at DEBUG, with their exceptions."""
    stream, root = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(pathname)s %(message)s"))
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


@dataclass(kw_only=True)
class Story:
    """What was said, by command: standard output, standard error and the log; and every exit code."""

    folder: Path
    said: dict[str, bytes] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)

    def tell(self, name: str, *arguments: object) -> int:
        """Run a command from within the folder and keep what it says."""
        out, err = io.StringIO(), io.StringIO()
        given = [str(argument) for argument in arguments]
        streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
        with everything_logged() as log, contextlib.chdir(self.folder), streams[0], streams[1]:
            self.codes[name] = run(given)
        for stream, text in (("out", out), ("err", err), ("log", log)):
            self.said[f"{name}.{stream}"] = text.getvalue().encode()
        return self.codes[name]

    def document(self, name: str) -> dict:
        """The JSON object that a command printed."""
        return json.loads(self.said[f"{name}.out"])


def policy_text(asset: str = "charts") -> str:
    """The shipped single-site policy for this population."""
    text = (POLICIES / "single-site.toml").read_text("utf-8")
    return text.replace('"name-of-your-patient-population"', f'"{asset}"')


def settle(folder: Path) -> Story:
    """The hospital's folder: marked table, schema, policy, keys, three parts."""
    folder.mkdir(parents=True)
    write_charts(folder / TABLE, charts())
    (folder / "schema.toml").write_text(schema_to_toml(CHARTS), encoding="utf-8")
    (folder / "policy.toml").write_text(policy_text(), encoding="utf-8")
    (folder / "parts").mkdir()
    story = Story(folder=folder)
    story.tell("check", "schema", "check", TABLE, "--schema", "schema.toml")
    story.tell("split", "split", TABLE, "--schema", "schema.toml", "-o", "parts", *SPLIT)
    for name, role in (("north", "site"), ("ada", "officer")):
        story.tell(f"keygen {name}", "release", "keygen", "--name", name, "--role", role, "-o", "keys")
    return story


def train_and_audit(story: Story) -> None:
    """From members to an audited table."""
    tell = story.tell
    private = ("--epsilon", 2.5, "--ledger", "book.ledger", "--policy", "policy.toml", "--site", "north")
    effort = ("--generator", "medvae-sgd", "--declared-size", 1000, "--steps", 12, "--sample-rate", 0.1)
    tell("train", "train", "parts/members.csv", "--schema", "schema.toml", *private, *effort, "-o", "model")
    tell("generate", "generate", "model", "-n", 400, "-o", "synthetic.csv", "--json")
    counted = ("--policy", "policy.toml", "--ledger", "book.ledger", "--model", "model")
    tell("audit", "audit", *SETS, *counted, "--save", "audit.json", "--report", "audit.html")


def measure_and_release(story: Story) -> None:
    """From an audited table to a verified bundle, as the README's tour does it."""
    tell = story.tell
    tell("parquet", "generate", "model", "-n", 50, "-o", "some.parquet", "--where", "age >= 70")
    measured = ("--real", "parts/holdout.csv", "--train", "parts/members.csv", "--synthetic", "synthetic.csv")
    options = ("--schema", "schema.toml", "--target", "sex = Female", "--report", "evaluation.html", "--json")
    tell("evaluate", "evaluate", *measured, *options)
    papers = ("--table", "synthetic.csv", "--audit", "audit.json", *PAPERS, "--site", "north")
    tell("seal", "release", "seal", *papers, "--key", "keys/north.pem", "-o", "candidate", "--json")
    who = ("--site", "north", "--officer", "ada", "--key", "keys/ada.pem", "--policy", "policy.toml")
    asked = ("--decision", "dp_claim", "--reason", REASON) if story.codes["audit"] == 2 else ()
    tell("approve", "release", "approve", "candidate", *who, *asked)
    tell("export", "release", "export", "candidate", "-o", "charts.synthkit")
    tell("verify", "release", "verify", "charts.synthkit", "--trust", "keys", "--json")
    tell("open", "release", "open", "charts.synthkit", "--trust", "keys", "-o", "opened.csv")
    tell("head", "budget", "export", "--ledger", "book.ledger", "-o", "head.json")
    tell("budget", "budget", "show", "--ledger", "book.ledger", "--json")
    tell("history", "budget", "history", "--ledger", "book.ledger")


LEAVES = ("model/", "candidate/", "charts.synthkit", "head.json", "synthetic.csv", "some.parquet")
"""Files that may be handed out (a candidate and a model by those who must see them)."""
OWN_EYES = ("audit.json", "audit.html", "evaluation.html")
"""Statistics of the patients: they stay, and still hold neither row nor id."""
PATIENTS_OWN = (TABLE, "parts/")


def made_by(story: Story) -> dict[str, bytes]:
    """Every file of the folder but the patients' own tables."""
    files = files_below(story.folder)
    return {name: data for name, data in files.items() if not name.startswith(PATIENTS_OWN)}
