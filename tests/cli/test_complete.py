"""`synthkit complete`: partial rows in, whole rows out; and that nothing passes them off as synthetic."""

import pandas as pd
import pytest
from cli_clinic import SITE
from test_cli_audit_and_release import AUDIT, COUNTED, seal

from synthkit.errors import ReleaseRefusedError

CANARY = "CANARY-7731"


def hidden(clinic, name="partial.csv", columns=("thalach", "disease")):
    """The members with two columns emptied in every other row."""
    frame = pd.read_csv(clinic / "members.csv", dtype=str, keep_default_na=False)
    frame.loc[::2, list(columns)] = ""
    frame.to_csv(clinic / name, index=False)
    return frame


def test_partial_rows_come_back_whole(clinic, synthkit):
    given = hidden(clinic)
    answer = synthkit("complete", "model", "partial.csv", "-o", "done.csv", "--seed", "4")
    assert answer.code == 0, answer.err
    assert "no synthetic table" in answer.out
    assert "`release seal` refuses it" in answer.out
    made = pd.read_csv(clinic / "done.csv", dtype=str, keep_default_na=False)
    known = given.to_numpy() != ""
    assert (made.to_numpy()[known] == given.to_numpy()[known]).all()
    assert set(made["disease"]) == {"no", "yes"}
    assert made["thalach"].str.fullmatch(r"\d*").all()
    assert synthkit("schema", "check", "done.csv", "--schema", "schema.toml").code == 0
    again = synthkit("complete", "model", "partial.csv", "-o", "again.csv", "--seed", "4")
    assert again.code == 0
    assert (clinic / "again.csv").read_bytes() == (clinic / "done.csv").read_bytes()


def test_the_machines_object_names_columns_and_counts_no_row(clinic, synthkit):
    frame = hidden(clinic)
    frame["trestbps"] = frame["trestbps"].replace("", "120")
    frame["chol"] = ""
    frame.drop(columns="age").to_csv(clinic / "partial.csv", index=False)
    kept = [name for name in frame if (frame[name] == "").any() and name not in ("thalach", "disease")]
    options = [text for name in kept for text in ("--keep-missing", name)]
    answer = synthkit("complete", "model", "partial.csv", "-o", "done.parquet", "--json", *options)
    assert answer.code == 0, answer.err
    assert answer.document == {
        "output": "done.parquet",
        "filled": ["age", "thalach", "disease"],
        "left_out": [],
        "copies": 1,
        "private": True,
        "synthetic": False,
    }
    made = pd.read_parquet(clinic / "done.parquet")
    assert made["chol"].isna().all()
    assert str(made["age"].dtype) == "int64"


def test_copies_are_whole_tables(clinic, synthkit):
    rows = len(hidden(clinic))
    assert synthkit("complete", "model", "partial.csv", "-o", "done.csv", "--copies", "3").code == 0
    assert len(pd.read_csv(clinic / "done.csv")) == 3 * rows
    assert synthkit("complete", "model", "partial.csv", "-o", "no.csv", "--copies", "0").code == 4


def test_help_sends_those_who_want_new_rows_to_generate(synthkit):
    answer = synthkit("complete", "--help")
    assert (answer.code, answer.err) == (0, "")
    assert "Example:\n    synthkit complete" in answer.out
    assert "generate --where" in answer.out


class TestNothingIsHalfWritten:
    @pytest.fixture
    def refused(self, clinic, synthkit):
        def check(*arguments, words, code=4, name="done.csv"):
            answer = synthkit("complete", *arguments, "-o", name)
            assert (answer.code, answer.out) == (code, "")
            assert words in answer.error
            assert CANARY not in answer.err
            assert str(clinic) not in answer.err
            assert not (clinic / "done.csv").exists()
            assert not list(clinic.glob(".*.tmp"))

        return check

    def test_a_cell_that_contradicts_the_schema(self, clinic, refused):
        frame = hidden(clinic)
        frame.loc[len(frame) - 1, "chol"] = CANARY
        frame.to_csv(clinic / "partial.csv", index=False)
        row = len(frame)
        words = f"partial.csv: column chol, row {row} (line {row + 1}): not a number"
        refused("model", "partial.csv", words=words)

    def test_a_column_that_the_model_does_not_know(self, clinic, refused):
        hidden(clinic).assign(ward="west").to_csv(clinic / "partial.csv", index=False)
        refused("model", "partial.csv", words="column ward: the column is not in the schema")

    def test_a_header_alone(self, clinic, refused):
        (clinic / "partial.csv").write_text("age,sex\n")
        refused("model", "partial.csv", words="a header but no rows")

    def test_no_such_files(self, clinic, refused):
        hidden(clinic)
        refused("model", "absent.csv", words="there is no such file")
        refused("absent", "partial.csv", words="not a model folder")
        refused("model", "partial.csv", words="its folder does not exist", name="absent/done.csv")
        refused("model", "partial.csv", words="the file exists", name="members.csv")

    def test_a_format_that_is_not_known(self, clinic, refused):
        hidden(clinic)
        refused("model", "partial.csv", words="the format is not known", name="done.xlsx")

    def test_the_published_system(self, synthkit, refused):
        """Before it reads a row."""
        schema = ("--schema", "schema.toml", "--site", SITE)
        published = ("--mode", "paper", "--unsafe-no-dp", "--epochs", "1")
        assert synthkit("train", "members.csv", *schema, *published, "-o", "paper").code == 0
        refused("paper", "absent.csv", words="cannot complete partial ones")


@pytest.mark.parametrize("columns", [("thalach",), "all"], ids=["one column", "every column"])
def test_a_completed_table_is_not_sealed(clinic, synthkit, columns):
    """Whatever its audit says, be it counted in the ledger: the model does not draw these rows by itself."""
    frame = hidden(clinic, columns=columns if columns != "all" else ("thalach",))
    if columns == "all":
        frame.loc[:, [name for name in frame if name != "sex"]] = ""
        frame.to_csv(clinic / "partial.csv", index=False)
    assert synthkit("complete", "model", "partial.csv", "-o", "done.csv").code == 0
    synthkit("release", "keygen", "--name", "north", "--role", "site", "-o", "keys")
    audited = synthkit(*AUDIT, "done.csv", "--policy", "lenient.toml", *COUNTED, "--save", "audit.json")
    assert audited.code in (0, 1, 2)
    refused = seal(synthkit, synthetic="done.csv")
    assert refused.code == ReleaseRefusedError.exit_code
    assert "not the rows that the model draws" in refused.error
    assert "completed table cannot leave" in refused.error
    assert not (clinic / "candidate").exists()
