"""One hospital from table to verified bundle: nothing that is made or said holds a row, an id or a count.

Marks are planted in patient ids, ignored columns, cells with more decimals than are released, the table's
folder and name, and in the very numbers of patients (1,237 in all, about 1,009 members). Then the real
commands run, and every byte of what they write, print and log is searched. False alarm: below 1e-4, two
given numbers in four-byte encodings within some hundred kilobytes of weights.
"""

import base64
import gzip
import json
import struct

import canary_story as told
import numpy as np
import pytest
from canary_site import (
    BROKEN_CELLS,
    FILE_MARK,
    FOLDER_MARK,
    NUMBERS,
    PATIENTS,
    TEXTS,
    Marks,
    broken,
    charts,
    found_in,
    search,
    torn_csv,
    write_charts,
)

from synthkit.domain.audit import COARSE_EFFECTS

ROWS = Marks(counts=())
COUNTS = (PATIENTS, 1009)
EVERYTHING = Marks(texts=(*TEXTS, FILE_MARK), counts=COUNTS)
"""For the search's own tests; the story's marks are its real counts."""


def members_of(story) -> int:
    return (story.folder / "parts" / "members.csv").read_text().count("\n") - 1


def every_mark(story, *, texts=(*TEXTS, FILE_MARK)) -> Marks:
    """All texts, and the numbers of patients that this very story has."""
    return Marks(texts=texts, counts=(PATIENTS, members_of(story)))


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    story = told.settle(tmp_path_factory.mktemp("site") / FOLDER_MARK)
    told.train_and_audit(story)
    told.measure_and_release(story)
    return story


def test_the_story_went_all_the_way(story):
    """Without this, silence below could be the silence of commands that failed."""
    codes = {name: code for name, code in story.codes.items() if name != "audit"}
    assert set(codes.values()) == {0}, {name: story.said[f"{name}.err"] for name in codes if codes[name]}
    assert story.codes["audit"] in (0, 2), story.said["audit.out"]
    assert (story.folder / told.TABLE).read_text().count("\n") - 1 == PATIENTS
    assert 950 < members_of(story) < 1070
    assert set(EVERYTHING.texts) - {FOLDER_MARK, FILE_MARK, "QX7731-cell"} <= set(
        found_in((story.folder / told.TABLE).read_bytes(), EVERYTHING)
    )


def test_what_leaves_holds_no_mark_of_any_kind(story):
    leaving = {name: data for name, data in told.made_by(story).items() if name.startswith(told.LEAVES)}
    assert {"charts.synthkit", "head.json", "model/model.json", "candidate/candidate.json"} <= set(leaving)
    assert search(leaving, every_mark(story)) == {}


def test_the_ledger_holds_no_mark_of_any_kind(story):
    assert search({"book.ledger": (story.folder / "book.ledger").read_bytes()}, every_mark(story)) == {}


def test_what_stays_holds_statistics_and_neither_row_nor_id_nor_folder(story):
    staying = {name: data for name, data in told.made_by(story).items() if name in told.OWN_EYES}
    assert set(staying) == set(told.OWN_EYES)
    assert search(staying, ROWS) == {}


def test_no_file_was_made_beside_the_ones_looked_at(story):
    known = (*told.LEAVES, *told.OWN_EYES, "book.ledger", "opened.csv", "keys/", "schema.toml", "policy.toml")
    strangers = [name for name in told.made_by(story) if not name.startswith(known)]
    assert strangers == []


def test_what_commands_print_and_log_holds_no_row_no_id_no_count_and_no_folder(story):
    """`evaluate --json` gives the sizes of the tables it compared: a figure for the site's own eyes."""
    counted = {name: text for name, text in story.said.items() if not name.startswith("evaluate.out")}
    assert search(counted, every_mark(story, texts=TEXTS)) == {}
    assert search(story.said, ROWS) == {}


def test_no_command_logs_the_place_of_a_patients_file(story):
    logs = {name: text for name, text in story.said.items() if name.endswith(".log")}
    assert search(logs, every_mark(story)) == {}


@pytest.mark.parametrize("fault", [*BROKEN_CELLS, "a torn line"])
@pytest.mark.parametrize("command", ["check", "split", "train", "infer", "evaluate", "audit"])
def test_a_table_that_does_not_fit_is_refused_without_a_word_of_it(story, fault, command):
    """Each command that reads patients, on a table with one bad cell or a line that never ends."""
    bad = story.folder / "bad.csv"
    if fault == "a torn line":
        bad.write_bytes(torn_csv(charts()))
    else:
        write_charts(bad, broken(charts(), fault))
    schema = ("--schema", "schema.toml")
    sets = ("--holdout", "parts/holdout.csv", "--reference", "parts/reference.csv")
    train = ("--epsilon", 3, "--ledger", "bad.ledger", "--policy", "policy.toml", "-o", "bad-model")
    arguments = {
        "check": ("schema", "check", "bad.csv", *schema),
        "split": ("split", "bad.csv", *schema, "-o", "bad-parts"),
        "train": ("train", "bad.csv", *schema, *train),
        "infer": ("schema", "infer", "bad.csv", "-o", "bad-schema.toml"),
        "evaluate": ("evaluate", "--real", "bad.csv", "--synthetic", "synthetic.csv", *schema),
        "audit": ("audit", "--members", "bad.csv", *sets, "--synthetic", "synthetic.csv", *schema),
    }[command]
    (story.folder / "bad-parts").mkdir(exist_ok=True)
    code = story.tell("bad", *arguments)
    said = {name: story.said.pop(name) for name in list(story.said) if name.startswith("bad.")}
    del story.codes["bad"]
    if command != "infer" or fault == "a torn line":
        assert code == 4, said
    # A draft of a schema is for its reader to correct: it repeats levels, so its text is not searched.
    assert search(said, every_mark(story, texts=TEXTS)) == {}
    assert not list(story.folder.glob("bad-model*")) + list(story.folder.glob("bad.ledger*"))
    for path in story.folder.glob("bad*"):
        if path.is_file():
            path.unlink()


class TestTheSearchItself:
    """Each kind of mark, planted on purpose into an artefact of the story: the search finds it."""

    @pytest.mark.parametrize("text", EVERYTHING.texts)
    @pytest.mark.parametrize("form", ["utf-8", "utf-16-le"])
    def test_a_text(self, story, text, form):
        header = (story.folder / "model" / "model.json").read_bytes()
        assert search({"x": header.replace(b'"medvae-sgd"', text.encode(form))}, EVERYTHING) == {"x": [text]}

    @pytest.mark.parametrize("offset", range(3))
    def test_a_text_in_base64(self, offset):
        coded = base64.b64encode(b"a" * offset + b"id QX7731-mrn-7000013 end")
        assert found_in(coded, EVERYTHING) == ["QX7731-mrn"]

    @pytest.mark.parametrize("number", NUMBERS)
    @pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", ">f8"])
    def test_a_number_among_weights(self, story, number, kind):
        weights = bytearray((story.folder / "model" / "weights.safetensors").read_bytes())
        planted = np.array([number]).astype(kind).tobytes()
        weights[-1000 : -1000 + len(planted)] = planted
        assert f"{number}" in found_in(bytes(weights), EVERYTHING)

    @pytest.mark.parametrize("number", NUMBERS)
    def test_a_number_as_text(self, number):
        assert found_in(f'{{"bound": {number}}}'.encode(), EVERYTHING) == [f"{number}"]

    @pytest.mark.parametrize("count", COUNTS)
    @pytest.mark.parametrize("form", ['{{"n": {}}}', "{:,} patients", "rows={}.", "[{}.0, 1]", "size: {}\n"])
    def test_a_count(self, count, form):
        assert found_in(form.format(count).encode(), EVERYTHING) == [f"count {count}"]

    @pytest.mark.parametrize("count", COUNTS)
    def test_a_count_in_binary(self, count):
        assert found_in(b"xx" + struct.pack("<q", count), EVERYTHING) == [f"count {count} in binary"]
        assert found_in(np.float64(count).tobytes(), EVERYTHING) == [f"count {count} in binary"]

    def test_four_digits_inside_a_digest_or_a_fraction_are_no_count(self):
        assert found_in(b'"ab1237cd" 0.1237 1237.5 61237 a1009 1.1009e-3', EVERYTHING) == []

    def test_a_mark_inside_a_compressed_part(self):
        assert found_in(gzip.compress(b"QX7731-note"), EVERYTHING) == ["QX7731-note"]

    def test_a_mark_in_a_files_name(self):
        assert search({"reply-QX7731-mrn-1": b""}, EVERYTHING) == {"reply-QX7731-mrn-1": ["QX7731-mrn"]}


def test_the_bundle_unpacked_is_its_declared_parts_and_nothing_more(story):
    folder = story.folder / "candidate"
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    parts = ("README.txt", "audit.json", "policy-north.json", "schema.json", "table.csv")
    assert names == ["candidate.json", *(f"parts/{name}" for name in parts)]
    assert (story.folder / "opened.csv").read_bytes() == (story.folder / "synthetic.csv").read_bytes()
    audit = json.loads((folder / "parts" / "audit.json").read_text())["north"]
    private = json.loads((story.folder / "audit.json").read_text())
    rates = {attack[rate] for attack in private["attacks"] for rate in ("attack_rate", "control_rate")}
    leaving = set(_floats(audit))
    assert len(rates) > 3, "the report at the site has figures that could have leaked"
    assert leaving <= {*COARSE_EFFECTS, private["alpha"], private["max_advantage"]}


def _floats(document):
    if isinstance(document, dict):
        for value in document.values():
            yield from _floats(value)
    elif isinstance(document, list):
        for value in document:
            yield from _floats(value)
    elif isinstance(document, float):
        yield document
