"""A model's folder: JSON and arrays only, read back exactly, refused when anything in it was altered."""

import itertools
import json
import pickletools
from dataclasses import replace

import numpy as np
import pytest
from small_ward import WARD, ward_model

from synthkit.domain.layout import PatientStates
from synthkit.domain.privacy import DpSgdEvent, EncoderProvenance
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import InputError
from synthkit.privacy.accounting import spend_of
from synthkit.privacy.mechanisms import tables_statistic
from synthkit.training.artefact import HEADER, WEIGHTS, Model, load_model, new_generator, save_model
from synthkit.training.synthesis import synthesize

EVENT = DpSgdEvent(noise_multiplier=2.0, sample_rate=0.1, steps=10)


def make_model(*, seed: int = 0, is_private: bool = True) -> Model:
    return Model(
        schema=WARD,
        generator=ward_model(seed=seed).eval(),
        spend=spend_of([EVENT], 1e-5) if is_private else None,
        encoder_provenance=EncoderProvenance.TRAINED,
        study="trial",
        study_digest="d" * 64,
        site="north",
    )


@pytest.fixture
def folder(tmp_path):
    save_model(make_model(), tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder, change):
    header = json.loads((folder / HEADER).read_text())
    change(header)
    (folder / HEADER).write_text(json.dumps(header))


@pytest.mark.parametrize("is_private", [True, False])
def test_a_model_generates_the_same_rows_after_a_round_trip(tmp_path, is_private):
    model = make_model(is_private=is_private)
    save_model(model, tmp_path / "model")
    back = load_model(tmp_path / "model")
    assert synthesize(back, 300, seed=5).table.digest == synthesize(model, 300, seed=5).table.digest
    assert synthesize(back, 300, seed=6).table.digest != synthesize(model, 300, seed=5).table.digest
    for field in ("schema", "spend", "encoder_provenance", "study", "study_digest", "site", "is_private"):
        assert getattr(back, field) == getattr(model, field)
    ours, theirs = model.generator.get_weights(), back.generator.get_weights()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_the_folder_holds_json_and_plain_arrays_and_no_pickle(folder):
    assert sorted(file.name for file in folder.iterdir()) == sorted([HEADER, WEIGHTS])
    json.loads((folder / HEADER).read_text())
    data = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    arrays = json.loads(data[8 : 8 + length])
    arrays.pop("__metadata__", None)
    assert {entry["dtype"] for entry in arrays.values()} == {"F32"}
    # Every byte after the header belongs to an array: there is no room for anything else.
    spans = sorted(tuple(entry["data_offsets"]) for entry in arrays.values())
    assert spans[0][0] == 0
    assert all(one[1] == other[0] for one, other in itertools.pairwise(spans))
    assert spans[-1][1] == len(data) - 8 - length
    for file in folder.iterdir():
        with pytest.raises((ValueError, IndexError)):
            list(pickletools.genops(file.read_bytes()))


def refusal(folder):
    with pytest.raises(InputError) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_altered_weights_are_refused(folder):
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(bytes(data))
    assert "not the header's" in refusal(folder)


def test_another_models_weights_are_refused(folder, tmp_path):
    save_model(make_model(seed=1), tmp_path / "other")
    (folder / WEIGHTS).write_bytes((tmp_path / "other" / WEIGHTS).read_bytes())
    assert "not the header's" in refusal(folder)


def shift_a_bound(header):
    header["schema"]["columns"][0]["maximum"] = 99.0


ALTERATIONS = {
    "another format": lambda header: header.update(format=2),
    "no format": lambda header: header.pop("format"),
    "a bound shifted": shift_a_bound,
    "another schema digest": lambda header: header.update(schema_digest="0" * 64),
    "called private": lambda header: header.update(unsafe=True),
    "spend removed": lambda header: header.update(spend=None),
    "unknown event": lambda header: header["spend"]["events"][0].update(kind="magic"),
    "unknown generator": lambda header: header.update(generator="gan"),
    "unknown hyperparameter": lambda header: header["hyperparameters"].update(depth=3),
    "another width": lambda header: header["hyperparameters"].update(hidden_1=13),
    "a field missing": lambda header: header.pop("site"),
    "schema is a text": lambda header: header.update(schema="ward"),
    "provenance unknown": lambda header: header.update(encoder_provenance="trust me"),
}


@pytest.mark.parametrize("change", ALTERATIONS.values(), ids=ALTERATIONS)
def test_an_altered_header_is_refused_in_one_line(folder, change):
    rewrite(folder, change)
    refusal(folder)


@pytest.mark.parametrize("text", ["", "[]", "null", "3", "{", "\x00\x80", "{}"])
def test_a_header_that_is_none_is_refused_in_one_line(folder, text):
    (folder / HEADER).write_bytes(text.encode("latin-1"))
    refusal(folder)


def test_weights_that_are_no_arrays_are_refused_even_if_the_header_names_them(folder):
    from synthkit.domain.canonical import sha256_hex

    for data in (b"", b"\x80\x04N.", b"\xff" * 64):
        (folder / WEIGHTS).write_bytes(data)
        rewrite(folder, lambda header, data=data: header.update(weights_sha256=sha256_hex(data)))
        refusal(folder)


def test_a_missing_folder_or_file_is_refused(folder, tmp_path):
    refusal(tmp_path / "nowhere")
    (folder / WEIGHTS).unlink()
    refusal(folder)


def test_a_folder_with_content_is_left_as_it_is(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        save_model(make_model(), tmp_path / "model")
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["note.txt"]


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "model").mkdir()
    save_model(make_model(), tmp_path / "model")
    assert load_model(tmp_path / "model").site == "north"


def test_where_nothing_can_be_written_nothing_is_left(tmp_path):
    (tmp_path / "file").write_text("mine")
    for target in (tmp_path / "file" / "model", tmp_path / "file"):
        with pytest.raises(InputError):
            save_model(make_model(), target)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


FOLLOW_UP = Schema(
    columns=(
        Column(name="sex", kind=Kind.BINARY, categories=("0", "1")),
        Column(name="days", kind=Kind.DURATION, minimum=1, maximum=40),
        Column(name="died", kind=Kind.EVENT, categories=("0", "1")),
    )
)


def mcm_of(**changes):
    quick = {"hidden": 4, "chains": 50, "sweeps": 2, "fit_steps": 1, **changes}
    generator = new_generator("mcm", FOLLOW_UP, quick, seed=0)
    rows = PatientStates.one_row_each(np.random.default_rng(0).integers(0, 2, (100, 3)))
    generator.set_tables(tables_statistic(generator.to_buy(rows), generator.bought))
    generator.fit(sites=1.0, pair_noise=1.0, single_noise=1.0)
    return replace(make_model(), schema=FOLLOW_UP, generator=generator.eval())


def test_a_model_of_time_and_event_together_comes_back(tmp_path):
    model = mcm_of()
    save_model(model, tmp_path / "model")
    back = load_model(tmp_path / "model")
    assert back.generator.bought == model.generator.bought
    assert back.generator.bought.width == back.generator.layout.width + 16
    assert synthesize(back, 300, seed=5).table.digest == synthesize(model, 300, seed=5).table.digest


def test_a_model_saved_before_time_and_event_were_bought_together_comes_back(tmp_path):
    """Its header does not name the setting, and its tables are of single columns alone."""
    model = mcm_of(time_groups=0)
    save_model(model, tmp_path / "model")
    rewrite(tmp_path / "model", lambda header: header["hyperparameters"].pop("time_groups"))
    back = load_model(tmp_path / "model")
    assert back.generator.bought == back.generator.layout
    assert synthesize(back, 300, seed=5).table.digest == synthesize(model, 300, seed=5).table.digest
