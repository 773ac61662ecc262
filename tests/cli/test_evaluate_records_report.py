"""`synthkit evaluate` on records, whole: tasks, conditions, augmentation, the model's latents, one page."""

from pathlib import Path

import pytest

from synthkit.cli.main import run
from synthkit.evaluation import next_visit

POLICY = Path(__file__).parents[2] / "policies" / "single-site.toml"
SIDES = (
    *("--real", "test.csv", "--patients", "test-people.csv", "--schema", "schema.toml"),
    *("--synthetic", "made.csv", "--synthetic-patients", "made-people.csv"),
)
TRAIN = ("--train", "train.csv", "--train-patients", "train-people.csv")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Three simulated sets, one of which stands for generated records, and a model of one step."""
    folder = tmp_path_factory.mktemp("records")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed, name in enumerate(("train", "test", "made")):
            files = ("-o", f"{name}.csv", "--patients", f"{name}-people.csv", "--schema", "schema.toml")
            size = ("-n", "250", "--visits-mean", "4", "--most-visits", "8", "--seed", str(seed))
            assert run(["simulate", *size, *files, "--force"]) == 0
        learn = ("--generator", "eva", "--unsafe-no-dp", "--steps", "1", "--most-visits", "8")
        people = ("--patients", "train-people.csv", "--schema", "schema.toml", "--policy", str(POLICY))
        assert run(["train", "train.csv", *people, *learn, "--declared-size", "250", "-o", "model"]) == 0
    return folder


@pytest.fixture
def desk(built, monkeypatch):
    """Trainings of a few steps: what they say is tested elsewhere."""
    monkeypatch.chdir(built)
    monkeypatch.setattr(next_visit, "CHECK", 10)
    monkeypatch.setattr(next_visit, "STEPS", 20)
    return built


def test_one_call_says_everything_and_writes_a_page_that_stays_inside(desk, synthkit):
    asked = ("--target", "sex = Male", "--target", "code in [I10, E78]", "--augment", "20", "--repeats", "1")
    answer = synthkit(
        "evaluate", *SIDES, *TRAIN, *asked, "--model", "model", "--report", "page.html", "--json"
    )
    assert answer.code == 0, answer.err
    found = answer.document["sequences"]
    for top in ("top_20", "top_30"):
        scores = found["next_visit"][top]
        assert set(scores) == {"real", "synthetic", "floor", "ratio", "floor_ratio"}
        assert scores["real"]["lower"] <= scores["real"]["mean"] <= scores["real"]["upper"]
    assert [step["factor"] for step in found["augmentation"]["steps"]] == [0, 1]
    assert list(found["conditions"]) == ["sex = Male", "code in ['I10', 'E78']"]
    for one in found["conditions"].values():
        assert set(one) == {"synthetic", "floor", "ceiling", "auc", "codes"}
        assert len(one["codes"]) > 3
    assert any("10 times and 100 times" in note for note in found["notes"])
    page = Path("page.html").read_text("utf-8")
    for words in (
        *("For use inside the site", "What comes next", "beside a small real cohort", "Cases and controls"),
        *("Latent map", "neither map may leave", "Codes that set the real patients"),
    ):
        assert words in page, words
    assert "It stays inside the site" in answer.err
    assert "synthetic / real" in answer.err


def test_the_same_call_says_the_same(desk, synthkit):
    call = ("evaluate", *SIDES, "--target", "sex = Male", "--repeats", "1", "--seed", "3", "--json")
    first, second = (synthkit(*call).document for _ in range(2))
    assert first == second
    assert any("one half of the patients trains" in note for note in first["sequences"]["notes"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--target", "code in [I10, NOTHING]"), "no such category"),
        (("--target", "height >= 3"), "does not start with a column"),
        (("--augment", "5000"), "option --augment"),
        (("--augment", "20", "--quick"), "option --augment"),
        (("--target", "sex = Male", "--quick"), "option --target"),
        (("--max-rows", "5"), "option --max-rows"),
        (("--report", "none/page.html"), "its folder does not exist"),
    ],
)
def test_what_cannot_be_asked_is_one_line(desk, synthkit, options, words):
    answer = synthkit("evaluate", *SIDES, *options)
    assert (answer.code, words in answer.error) == (4, True), answer.err


@pytest.mark.parametrize("option", [("--quick",), ("--augment", "20")])
def test_a_table_of_one_row_a_patient_has_no_such_options(desk, synthkit, option):
    flat = '[table]\nname = "flat"\n[columns.sex]\nkind = "binary"\ncategories = ["Female", "Male"]\n'
    Path("flat.toml").write_text(flat, "utf-8")
    files = ("--real", "test-people.csv", "--synthetic", "made-people.csv", "--schema", "flat.toml")
    answer = synthkit("evaluate", *files, *option)
    assert (answer.code, f"option {option[0]}: belongs to records" in answer.error) == (4, True), answer.err
