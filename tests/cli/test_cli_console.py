"""Progress and figures: silent for short work, plain lines off a terminal, nothing rounded down."""

import io
import math
import time

from synthkit.cli import console
from synthkit.cli.console import Console, Progress, epsilon_text, figure


def test_short_work_shows_nothing(capsys):
    with Console().progress("quick") as progress:
        progress("quicker")
        progress.at(1, 2)
    assert capsys.readouterr() == ("", "")


def test_long_work_shows_plain_lines_off_a_terminal(monkeypatch):
    monkeypatch.setattr(console, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(console, "PLAIN_SECONDS", 0.0)
    stream = io.StringIO()
    progress = Progress("reading", stream)
    time.sleep(0.3)
    progress("training")
    progress.at(3, 10)
    progress.close()
    progress("too late")
    assert stream.getvalue().splitlines() == ["reading ...", "training ...", "training: 3 of 10"]


def test_a_terminal_gets_a_bar_that_leaves_nothing_open(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(console, "PATIENCE_SECONDS", 0.05)
    stream = Terminal()
    progress = Progress("reading", stream)
    time.sleep(1.0)
    progress("training")
    progress.at(3, 10)
    progress.close()
    assert "reading" in stream.getvalue()
    assert progress._bar is not None
    assert progress._bar.finished or not progress._bar.live.is_started


def test_figures_are_written_as_in_the_documents():
    assert figure(0.00001) == "1e-05"
    assert epsilon_text(1.2341) == "1.235"
    assert epsilon_text(3.0) == "3"
    assert epsilon_text(math.inf) == "infinity"
    assert "without" in epsilon_text(None)


def test_what_is_not_finite_is_null(capsys):
    Console(as_json=True).result({"a": math.nan, "b": [math.inf, 1.0], "c": {"d": 1e-05}})
    assert '"a": null' in (text := capsys.readouterr().out)
    assert '"d": 1e-05' in text
