"""Every way a table can be bad gives one line that says where, and never shows a cell.

Each bad file carries canary cells; they may occur neither in the message nor in any chained exception.
"""

import gzip
import traceback
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthkit.data.checking import Rule, check_table
from synthkit.data.connectors import read_frame, read_synthetic, read_table
from synthkit.data.inference import infer_schema
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import InputError, SchemaError, SynthkitError

CANARY = "CANARY-7731"
NUMBER_CANARY = "77317731"
CANARIES = ("CANARY", "7731")

SCHEMA = Schema(
    columns=(
        Column(name="age", kind=Kind.INTEGER, minimum=0, maximum=120),
        Column(name="temp", kind=Kind.NUMERIC, minimum=30, maximum=45, decimals=1, missing=True),
        Column(name="sex", kind=Kind.BINARY, categories=("Female", "Male")),
        Column(name="seen", kind=Kind.DATETIME, minimum=0.0, maximum=20000.0),
    ),
    patient_id="pid",
    ignored=("note",),
)
HEADER = "pid,age,temp,sex,seen,note\n"
GOOD = f"p1,70,36.6,Female,1999-01-01,{CANARY}\np2,20,,Male,2000-01-01,\n"


def write(folder: Path, data: bytes | str, name: str = "ward.csv") -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def assert_silent(error: BaseException) -> None:
    """One line, and no canary in it, nor anywhere in the chain that led to it."""
    assert isinstance(error, SynthkitError)
    assert "\n" not in str(error)
    assert str(error)
    link: BaseException | None = error
    while link is not None:
        for canary in CANARIES:
            assert canary not in str(link)
            assert canary not in repr(getattr(link, "object", ""))
        link = link.__cause__ or link.__context__
    for canary in CANARIES:
        assert canary not in "".join(traceback.format_exception(error)).replace(__file__, "")


def refused(path: Path, kind: type[SynthkitError] = SchemaError, **options) -> str:
    with pytest.raises(SynthkitError) as caught:
        read_table(path, SCHEMA, **options)
    assert type(caught.value) is kind
    assert_silent(caught.value)
    assert str(path.parent) not in str(caught.value)
    return str(caught.value)


CELLS = {
    "text in a number": (f"p3,{CANARY},36.6,Male,1999-01-01,", "age", Rule.NOT_A_NUMBER),
    "nan in a number": ("p3,nan,36.6,Male,1999-01-01,", "age", Rule.NOT_A_NUMBER),
    "NA in a number": ("p3,70,NA,Male,1999-01-01,", "temp", Rule.NOT_A_NUMBER),
    "hexadecimal": ("p3,0x7731,36.6,Male,1999-01-01,", "age", Rule.NOT_A_NUMBER),
    "underscores": ("p3,7_7_3_1,36.6,Male,1999-01-01,", "age", Rule.NOT_A_NUMBER),
    "decimal comma": ('p3,70,"37,7731",Male,1999-01-01,', "temp", Rule.NOT_A_NUMBER),
    "infinite": ("p3,70,-inf,Male,1999-01-01,", "temp", Rule.NOT_FINITE),
    "overflow": ("p3,70,7731e999,Male,1999-01-01,", "temp", Rule.NOT_FINITE),
    "fraction": ("p3,70.7731,36.6,Male,1999-01-01,", "age", Rule.NOT_WHOLE),
    "above bounds": (f"p3,{NUMBER_CANARY},36.6,Male,1999-01-01,", "age", Rule.OUT_OF_BOUNDS),
    "below bounds": ("p3,-7731,36.6,Male,1999-01-01,", "age", Rule.OUT_OF_BOUNDS),
    "unknown category": (f"p3,70,36.6,{CANARY},1999-01-01,", "sex", Rule.UNKNOWN_CATEGORY),
    "padded category": ("p3,70,36.6, Male,1999-01-01,", "sex", Rule.UNKNOWN_CATEGORY),
    "empty cell": ("p3,,36.6,Male,1999-01-01,", "age", Rule.EMPTY_CELL),
    "empty category": ("p3,70,36.6,,1999-01-01,", "sex", Rule.EMPTY_CELL),
    "no date": (f"p3,70,36.6,Male,{CANARY},", "seen", Rule.NOT_A_DATE),
    "impossible date": ("p3,70,36.6,Male,1999-02-30,", "seen", Rule.NOT_A_DATE),
    "date outside": ("p3,70,36.6,Male,7731-01-01,", "seen", Rule.OUT_OF_BOUNDS),
    "no patient id": (",70,36.6,Male,1999-01-01,", "pid", Rule.NO_PATIENT_ID),
}


@pytest.mark.parametrize("case", CELLS)
def test_a_bad_cell_is_named_by_column_row_and_line(tmp_path, case):
    row, column, rule = CELLS[case]
    path = write(tmp_path, HEADER + GOOD + row + "\n")
    message = refused(path)
    assert message.startswith(f"ward.csv: column {column}, row 3 (line 4): {rule.value}")
    result = check_table(path, SCHEMA)
    assert [(v.column, v.row, v.rule) for v in result.violations] == [(column, 3, rule)]
    assert result.count == 1


def test_the_line_accounts_for_line_breaks_inside_cells(tmp_path):
    path = write(
        tmp_path, HEADER + f'p1,70,36.6,Female,1999-01-01,"a\nb\n{CANARY}"\n\np2,{CANARY},,Male,2000-01-01,\n'
    )
    assert "row 2 (line 6)" in refused(path)


STRUCTURE = {
    "missing column": ("pid,temp,sex,seen\np1,36,Male,1999-01-01\n", SchemaError, ["column age", "missing"]),
    "missing id": ("age,temp,sex,seen\n70,36,Male,1999-01-01\n", SchemaError, ["column pid", "missing"]),
    "unexpected column": (
        f"pid,age,temp,sex,seen,extra\np1,70,36,Male,1999-01-01,{CANARY}\n",
        SchemaError,
        ["column extra", "not in the schema", "ignore under [table]"],
    ),
    "no header": (f"{CANARY},70,36,{NUMBER_CANARY},x\np2,1,2,3,4\n", SchemaError, ["header line"]),
    "semicolons": (f"pid;age;temp;sex;seen\n{CANARY};70;36;Male;x\n", SchemaError, ["header line", "comma"]),
    "duplicate header": (
        f"pid,age,age,temp,sex,seen\n{CANARY},1,2,3,Male,x\n",
        InputError,
        ["columns 2 and 3"],
    ),
    "duplicate cells for a header": (f"{CANARY},{CANARY}\nx,y\n", InputError, ["columns 1 and 2"]),
    "nameless column": (f"pid,,temp\n{CANARY},1,2\n", InputError, ["column 2 has no name"]),
    "short row": (HEADER + GOOD + f"{CANARY},70\n", InputError, ["line 4", "cells"]),
    "long row": (HEADER + GOOD + f"{CANARY},70,36.6,Male,1999-01-01,,x,y\n", InputError, ["line 4", "cells"]),
    "open quote": (HEADER + GOOD + f'p3,"{CANARY},1,2\n', InputError, ["quotes"]),
    "header only": (HEADER, InputError, ["no rows"]),
    "empty": ("", InputError, ["empty"]),
    "blank lines only": ("\n\n", InputError, ["empty"]),
    "latin-1": ((HEADER + f"p1,70,36,Männlich {CANARY},x,\n").encode("latin-1"), InputError, ["UTF-8"]),
    "utf-16": ((HEADER + GOOD).encode("utf-16"), InputError, ["UTF-8"]),
    "binary": (b"\x00\x01\x02CANARY-7731\xff\xfe" * 50, InputError, ["UTF-8"]),
    "nul bytes": ((HEADER + GOOD).encode() + b"\0", InputError, ["UTF-8"]),
    "hidden gzip": (gzip.compress((HEADER + GOOD).encode()), InputError, ["compressed", ".csv.gz"]),
    "hidden parquet": (b"PAR1CANARY-7731", InputError, ["Parquet"]),
    "huge cell": (HEADER + GOOD + "p3," + CANARY * 20000 + ",1,2,3,4\n", InputError, ["cell"]),
}


@pytest.mark.parametrize("case", STRUCTURE)
def test_a_file_that_is_no_such_table_is_refused(tmp_path, case):
    data, kind, words = STRUCTURE[case]
    message = refused(write(tmp_path, data), kind)
    for word in words:
        assert word in message


def test_files_that_cannot_be_opened(tmp_path):
    assert "no such file" in refused(tmp_path / "absent.csv", InputError)
    (tmp_path / "folder.csv").mkdir()
    assert "folder" in refused(tmp_path / "folder.csv", InputError)
    assert "ending in .csv" in refused(write(tmp_path, GOOD, "ward.xlsx"), InputError)
    assert "gzip" in refused(write(tmp_path, HEADER + GOOD, "plain.csv.gz"), InputError)
    torn = gzip.compress((HEADER + GOOD * 50).encode())[:-20]
    assert "gzip" in refused(write(tmp_path, torn, "torn.csv.gz"), InputError)
    assert "Parquet" in refused(write(tmp_path, HEADER + GOOD, "text.parquet"), InputError)
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    assert "cannot be read" in refused(tmp_path / "loop.csv", InputError)


def test_parquet_is_held_to_the_same_rules(tmp_path):
    good = {"pid": ["a", "b"], "age": [70.0, 20.0], "temp": [36.6, None], "sex": ["Male", "Female"]}
    seen = pa.array([0, 9], pa.date32())

    def saved(name: str, **changes) -> Path:
        pq.write_table(pa.table({**good, "seen": seen, **changes}), tmp_path / name)
        return tmp_path / name

    assert len(read_table(saved("good.parquet"), SCHEMA)) == 2
    assert "column age, row 2: outside" in refused(saved("bounds.parquet", age=[70, int(NUMBER_CANARY)]))
    assert "column sex, row 1: not one" in refused(saved("level.parquet", sex=[CANARY, "Male"]))
    assert "column 2 holds no plain" in refused(saved("list.parquet", age=[[7731], [1]]), InputError)
    empty = pa.table({**good, "seen": seen}).slice(0, 0)
    pq.write_table(empty, tmp_path / "empty.parquet")
    assert "no rows" in refused(tmp_path / "empty.parquet", InputError)
    torn = saved("torn.parquet").read_bytes()[:-30]
    assert "Parquet" in refused(write(tmp_path, torn, "torn.parquet"), InputError)


def test_a_patients_second_row_is_refused_where_one_is_expected(tmp_path):
    row = f"{CANARY},70,36.6,Female,1999-01-01,\n"
    path = write(tmp_path, HEADER + row + "p2,1,,Male,1999-01-01,\n" + row)
    assert "column pid, row 3 (line 4): a patient's second row" in refused(path, one_row_per_patient=True)
    assert read_table(path, SCHEMA).patients.tolist() == [0, 1, 0]


def test_the_message_counts_kinds_of_violation_not_rows(tmp_path):
    bad = f"{CANARY},999,99,{CANARY},1999-01-01,\n" * 13
    message = refused(write(tmp_path, HEADER + bad))
    assert "3 kinds of violation" in message
    assert "13" not in message
    result = check_table(tmp_path / "ward.csv", SCHEMA)
    assert result.count == 39
    assert len(result.violations) == 20
    assert [v.row for v in result.violations[:4]] == [1, 1, 1, 2]
    assert result.kinds["sex", Rule.UNKNOWN_CATEGORY] == 13
    for violation in result.violations:
        assert not any(canary in f"{violation} {violation!r}" for canary in CANARIES)


def test_a_generated_table_with_a_patient_id_is_refused(tmp_path):
    path = write(tmp_path, f"pid,age,temp,sex,seen\n{CANARY},70,36.6,Female,1999-01-01\n")
    with pytest.raises(SchemaError, match="column pid: the column is not in the schema") as caught:
        read_synthetic(path, SCHEMA)
    assert_silent(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (f"1,2,{CANARY}\n3,4,5\n", "no column names"),
        (f"pid;age\n{CANARY};3\n", "commas"),
        (f"a,a\n{CANARY},1\n", "same name"),
        (f'"a\nb",c\n{CANARY},1\n', "printable"),
        ("a,b\n", "no rows"),
    ],
)
def test_inference_refuses_what_is_no_table(tmp_path, data, words):
    with pytest.raises(InputError, match=words) as caught:
        infer_schema(write(tmp_path, data))
    assert_silent(caught.value)


def test_what_python_prints_of_a_table_holds_no_cell(tmp_path):
    path = write(tmp_path, HEADER + GOOD)
    table = read_table(path, SCHEMA)
    assert not any(word in repr(table) for word in ("Female", "36.6", "p1"))
    assert read_frame(path)["note"].tolist() == [CANARY, None]


def test_the_silence_check_can_fail():
    def chained() -> BaseException:
        try:
            try:
                int(CANARY)
            except ValueError:
                raise InputError("fine by itself") from None
        except InputError as error:
            return error

    for bad in (InputError(f"cell {CANARY}"), InputError("two\nlines"), chained()):
        with pytest.raises(AssertionError):
            assert_silent(bad)
