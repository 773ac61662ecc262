"""`synthkit review`: a pack as a site makes it, what is refused, and what the answers come to."""

import csv
import json
import stat
from pathlib import Path

import pytest

from synthkit.cli.main import run

SIDES = (
    *("--real", "real.csv", "--patients", "real-people.csv", "--schema", "schema.toml"),
    *("--synthetic", "made.csv", "--synthetic-patients", "made-people.csv"),
)
CANARY = "CANARY7731"


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """Two simulated sets; the first one's patients have ids of their own."""
    folder = tmp_path_factory.mktemp("review")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        size = ("-n", "40", "--visits-mean", "4", "--most-visits", "10")
        for name, seed in (("real", "1"), ("made", "2")):
            schema = ("--schema", "schema.toml", "--force", "--seed", seed)
            assert (
                run(["simulate", *size, "-o", f"{name}.csv", "--patients", f"{name}-people.csv", *schema])
                == 0
            )
        for name in ("real.csv", "real-people.csv"):
            lines = Path(name).read_text("utf-8").splitlines()
            marked = [lines[0], *(f"{CANARY}{line}" for line in lines[1:])]
            Path(name).write_text("\n".join(marked) + "\n", "utf-8")
        Path("keys").mkdir()
    return folder


@pytest.fixture
def desk(ward, monkeypatch):
    monkeypatch.chdir(ward)
    return ward


def packed(synthkit, name, *options):
    target = ("-n", "12", "-o", name, "--key", f"keys/{name}.json")
    answer = synthkit("review", "pack", *SIDES, *target, *options, "--json")
    assert answer.code == 0, answer.err
    return answer, json.loads(Path(f"keys/{name}.json").read_text("utf-8"))


def filled(name, key, who, says):
    with Path(name).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("reviewer", "record", "answer"))
        rows.writerows((who, record, says(record, kind)) for record, kind in key["records"].items())


def test_a_pack_is_for_its_owner_alone_and_shows_no_id_and_no_date(desk, synthkit):
    answer, key = packed(synthkit, "one")
    assert stat.S_IMODE(Path("one").stat().st_mode) == 0o700
    files = sorted(Path("one").iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in [*files, Path("keys/one.json")]} == {0o600}
    assert {file.name for file in files} == {
        "index.html",
        "answers.csv",
        *(f"{record}.html" for record in key["records"]),
    }
    text = "".join(file.read_text("utf-8") for file in files)
    assert CANARY not in text
    assert not any(f"{year}-" in text for year in range(2008, 2026))
    assert text.count("Inside the site only") == 13
    assert "stays inside the site" in answer.err
    assert "src=" not in text
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "")


def test_a_fresh_pack_cannot_be_guessed_and_a_seeded_one_repeats(desk, synthkit):
    keys = [packed(synthkit, f"fresh{number}")[1] for number in range(2)]
    assert keys[0] != keys[1]
    again = [packed(synthkit, f"seeded{number}", "--seed", "4")[1] for number in range(2)]
    assert again[0] == again[1]


@pytest.mark.parametrize("key", ["never/key.json", "key.json", "never", "never/deep/key.json"])
def test_the_key_never_lies_beside_the_pages(desk, synthkit, key):
    answer = synthkit("review", "pack", *SIDES, "-n", "12", "-o", "never", "--key", key)
    assert (answer.code, "the key would lie beside the pages" in answer.error) == (4, True), answer.err
    assert not Path("never").exists()
    assert not Path("key.json").exists()


def test_a_link_does_not_hide_where_the_key_lies(desk, synthkit):
    Path("elsewhere").symlink_to(".", target_is_directory=True)
    answer = synthkit("review", "pack", *SIDES, "-n", "12", "-o", "never", "--key", "elsewhere/key.json")
    assert (answer.code, "the key would lie beside the pages" in answer.error) == (4, True)


def test_nothing_is_replaced_and_nothing_is_left_half_written(desk, synthkit):
    packed(synthkit, "kept")
    taken = synthkit("review", "pack", *SIDES, "-n", "12", "-o", "kept", "--key", "keys/other.json")
    assert (taken.code, "exists already" in taken.error) == (4, True)
    used = synthkit("review", "pack", *SIDES, "-n", "12", "-o", "new", "--key", "keys/kept.json")
    assert (used.code, "the file exists" in used.error) == (4, True)
    many = synthkit("review", "pack", *SIDES, "-n", "41", "-o", "new", "--key", "keys/new.json")
    assert (many.code, "option -n" in many.error) == (4, True)
    assert not Path("new").exists()
    assert not Path("keys/new.json").exists()
    assert not list(Path().glob(".synthkit-*"))


def test_answers_are_scored_by_reviewer_and_together(desk, synthkit):
    _, key = packed(synthkit, "scored", "--seed", "1")
    filled("knows.csv", key, "knows", lambda _, kind: kind)
    filled("guesses.csv", key, "guesses", lambda record, _: "real" if int(record[-1]) % 2 else "")
    answer = synthkit("review", "score", "knows.csv", "guesses.csv", "--key", "keys/scored.json", "--json")
    assert answer.code == 0, answer.err
    found = answer.document["review"]
    assert found["reviewers"]["knows"]["accuracy"]["mean"] == 1.0
    assert found["reviewers"]["knows"]["p_value"] == pytest.approx(2 / 2**12)
    assert found["reviewers"]["guesses"]["answers"] == 6
    assert found["pooled"]["answers"] == 18
    assert found["pooled"]["accuracy"]["lower"] < found["pooled"]["accuracy"]["mean"]
    assert "0.5 is guessing" in answer.err


def test_what_cannot_be_scored_is_one_line(desk, synthkit):
    _, key = packed(synthkit, "broken", "--seed", "2")
    filled("twice.csv", key, "ab", lambda _, kind: kind)
    twice = synthkit("review", "score", "twice.csv", "twice.csv", "--key", "keys/broken.json")
    assert (twice.code, "answers a record twice" in twice.error) == (4, True)
    packed(synthkit, "another", "--seed", "3")
    other = synthkit("review", "score", "twice.csv", "--key", "keys/another.json")
    assert (other.code, "twice.csv: row 1 (line 2): no such record in this pack" in other.error) == (4, True)
    no_key = synthkit("review", "score", "twice.csv", "--key", "schema.toml")
    assert (no_key.code, "does not hold a JSON object" in no_key.error) == (4, True)
    Path("keys/broken.json").chmod(0o644)
    seen = synthkit("review", "score", "twice.csv", "--key", "keys/broken.json")
    assert (seen.code, "others may read this key" in seen.error) == (4, True)


@pytest.mark.parametrize("command", ["pack", "score"])
def test_both_commands_explain_themselves(synthkit, command):
    answer = synthkit("review", command, "--help")
    assert (answer.code, answer.err) == (0, "")
    assert f"Example:\n    synthkit review {command}" in answer.out
    assert "Raises:" not in answer.out
