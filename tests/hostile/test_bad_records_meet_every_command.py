"""Records as they should not be, given to `schema check`, `train` and `evaluate`: one line, or one meaning.

Every case says what all three do with it. What is refused is refused by all, in the same words, with the row
and never the cell; what is accepted means the same to all.
"""

import json
from pathlib import Path

import pytest

from synthkit.cli.main import run

CANARY = "CANARY-7731"
HEADER = "patient,visit,day,code,ill"


def schema_text(codes):
    listed = ", ".join(f'"c{number}"' for number in range(codes))
    return (
        '[table]\nname = "ward"\npatient_id = "patient"\nvisit = "visit"\ntime = "day"\n'
        f'[columns.code]\nkind = "code"\ncategories = [{listed}]\nprovenance = "public"\n'
        '[columns.ill]\nkind = "binary"\ncategories = ["no", "yes"]\nprovenance = "public"\n'
    )


def sound():
    """Twenty patients of three visits; whoever is ill has code c1 at each."""
    rows = []
    for patient in range(20):
        ill = "yes" if patient % 2 else "no"
        for visit in (1, 2, 3):
            rows += [f"p{patient},{visit},{10 * visit},c{2 + (patient + visit) % 8},{ill}"]
            rows += [f"p{patient},{visit},{10 * visit},c1,{ill}"] if ill == "yes" else []
    return rows


@pytest.fixture
def ward(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("schema.toml").write_text(schema_text(12), "utf-8")
    written("sound.csv", sound())
    return tmp_path


def written(name, rows, header=HEADER):
    Path(name).write_text("\n".join([header, *rows]) + "\n", "utf-8")


def called(capsys, *arguments):
    capsys.readouterr()
    code = run(list(arguments))
    found = capsys.readouterr()
    assert "Traceback" not in found.out + found.err
    assert CANARY not in found.out + found.err
    return code, found.out, found.err


def everywhere(capsys, table, *options):
    """Exit code and error line of each of the commands."""
    schema = ("--schema", "schema.toml", *options)
    train = ("--generator", "eva", "--unsafe-no-dp", "--steps", "1", "--declared-size", "20", "-o", "never")
    policy = ("--policy", str(Path(__file__).parents[2] / "policies" / "single-site.toml"))
    answers = (
        called(capsys, "schema", "check", table, *schema),
        called(capsys, "train", table, *schema, *policy, *train),
        called(capsys, "evaluate", "--real", table, "--synthetic", "sound.csv", "--quick", *schema),
    )
    lines = [[line for line in err.splitlines() if line.startswith("error: ")] for _, _, err in answers]
    return [(code, *found) for (code, _, _), found in zip(answers, lines, strict=True)]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([f"p99,1,1,{CANARY},no"], "column code, row 91 (line 92): not a listed code"),
        (["p99,1,9,c2,no", "p99,2,3,c2,no"], "row 92 (line 93): a visit dated before the one before it"),
        (["p99,1,9,c2,no", "p99,1,8,c3,no"], "row 92 (line 93): two times in one visit"),
        (["p99,1,9,c2,no", "p99,2,10,c2,yes"], "row 92 (line 93): a static column changes within a patient"),
        (["p99,1,9,,no"], "row 91 (line 92): an empty cell where missing is not allowed"),
        ([f"p99,{CANARY},9,c2,no"], "row 91 (line 92): not a whole number"),
        ([f"p99,1,9,c2,{CANARY}"], "line 92: not one of the categories"),
    ],
    ids=["unknown code", "negative gap", "two times", "two statics", "no code", "no number", "no level"],
)
def test_what_a_record_cannot_be_is_one_line_from_every_command(ward, capsys, rows, words):
    written("bad.csv", [*sound(), *rows])
    answers = everywhere(capsys, "bad.csv")
    assert [code for code, *_ in answers] == [4, 4, 4]
    assert len({line for _, *line in map(tuple, answers) for line in line}) == 1
    assert words in answers[0][1]
    assert not Path("never").exists()


def test_a_patient_without_visits_is_one_line_from_every_command(ward, capsys):
    rows = [row.rsplit(",", 1)[0] for row in sound()]
    written("long.csv", rows, HEADER.rsplit(",", 1)[0])
    people = [f"p{patient},{'yes' if patient % 2 else 'no'}" for patient in range(20)]
    written("people.csv", [*people, f"{CANARY},no"], "patient,ill")
    answers = everywhere(capsys, "long.csv", "--patients", "people.csv")
    assert [code for code, *_ in answers] == [4, 4, 4]
    assert all("people.csv: row 21 (line 22): a patient without visits" in line for _, line in answers)


def likeness(capsys, table, schema="schema.toml"):
    sides = ("--real", "sound.csv", "--synthetic", table, "--schema", schema)
    code, out, _ = called(capsys, "evaluate", *sides, "--quick", "--json")
    assert code == 0
    return json.loads(out)["sequences"]


def test_visits_out_of_order_and_codes_twice_mean_what_the_sound_table_means(ward, capsys):
    written("turned.csv", sound()[::-1])
    written("twice.csv", [*sound(), *sound()])
    for table in ("turned.csv", "twice.csv"):
        assert all(code == 0 for code, *_ in everywhere(capsys, table)[::2])
        found = likeness(capsys, table)
        assert found["shape"]["synthetic"] == found["shape"]["real"]
        assert found["synthetic"]["unigram"] == pytest.approx(1.0)


def test_four_hundred_visits_are_read_and_trained_on_up_to_the_cap(ward, capsys):
    long = [f"p99,{visit},{visit},c{1 + visit % 9},yes" for visit in range(1, 401)]
    written("long.csv", [*sound(), *long])
    answers = everywhere(capsys, "long.csv")
    assert [code for code, *_ in answers] == [0, 0, 0]
    header = json.loads(Path("never/model.json").read_text("utf-8"))
    assert header["hyperparameters"]["most_visits"] == 200
    assert likeness(capsys, "long.csv")["shape"]["synthetic"]["visits"][0] == pytest.approx((60 + 400) / 21)


def test_ten_thousand_codes_in_the_list_are_compared_and_in_one_visit_refused(ward, capsys):
    Path("schema.toml").write_text(schema_text(10_000), "utf-8")
    written("wide.csv", [*sound(), "p99,1,1,c9999,no"])
    assert called(capsys, "schema", "check", "wide.csv", "--schema", "schema.toml")[0] == 0
    assert likeness(capsys, "wide.csv")["synthetic"]["unigram"] > 0.9
    written("heap.csv", [*sound(), *(f"p99,1,1,c{code},no" for code in range(10_000))])
    answers = everywhere(capsys, "heap.csv")
    assert [code for code, *_ in answers] == [4, 4, 4]
    assert all("row 91 (line 92): a visit with more than 500 codes" in line for _, line in answers)
    swapped = ("--real", "sound.csv", "--synthetic", "heap.csv", "--schema", "schema.toml", "--quick")
    assert called(capsys, "evaluate", *swapped)[0] == 4


def test_conditions_that_contradict_codes_are_the_sites_word_and_stay_as_they_are(ward, capsys):
    """No schema says which code stands for which condition, so that nothing can refuse a patient who is
    not ill and has the code of the illness. Every command takes the column at its word."""
    written("contrary.csv", [row.replace(",yes", ",no") for row in sound()])
    assert all(code == 0 for code, *_ in everywhere(capsys, "contrary.csv"))
    found = likeness(capsys, "contrary.csv")
    assert found["synthetic"]["unigram"] == pytest.approx(1.0)
