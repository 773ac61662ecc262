"""The leak of the published MCM, shown and not denied: its rows are patients' rows with holes filled.

These tests pass because the leak is there. They say what the private mode closes, and that what is measured
when a model is trained is what an attacker with the patients' table finds
(tests/cli/test_train_paper.py has the refusal of a release).
"""

import json
import logging

import numpy as np
import pytest
from safetensors.numpy import load, save
from small_ward import WARD, ward_table

from synthkit.cli.model_header import read_model_header
from synthkit.data.partial import PartialTable
from synthkit.data.table import SyntheticTable
from synthkit.domain.canonical import sha256_hex
from synthkit.domain.conditions import parse_conditions
from synthkit.domain.linkage import Linkage
from synthkit.errors import ConditionError, InputError
from synthkit.training.artefact import HEADER, WEIGHTS, load_model
from synthkit.training.condition_mass import reliability_text
from synthkit.training.paper_artefact import masking, open_model, save_paper
from synthkit.training.paper_linkage import linked_rows
from synthkit.training.paper_mcm import McmSettings, PublishedMcm, train_mcm
from synthkit.training.synthesis import complete, completing, synthesize

SETTINGS = McmSettings(epochs=20)
COLUMNS = len(WARD.names)


@pytest.fixture(scope="module")
def table():
    return ward_table(300, seed=2)


@pytest.fixture(scope="module")
def model(table) -> PublishedMcm:
    return train_mcm(table, SETTINGS, seed=0, study="ward", site="north")


@pytest.fixture
def folder(model, tmp_path):
    save_paper(model, tmp_path / "model")
    return tmp_path / "model"


def where(*texts):
    return parse_conditions(texts, WARD)


def agreements(frame, patients) -> np.ndarray:
    """In how many cells each row agrees with the patient it agrees with most."""
    rows, known = frame.to_numpy(dtype=object), patients.to_numpy(dtype=object)
    return (rows[:, None, :] == known[None]).sum(axis=2).max(axis=1)


def test_a_row_keeps_a_patients_cells_and_no_two_rows_the_same_patients(model, table):
    """At the published 75 % of 11 columns 8 are masked, so that 3 are a patient's."""
    given, sources = model._masked(300, np.random.default_rng(0))
    assert sorted(sources) == list(range(300))
    empty = np.isnan(model.rows[sources])
    assert ((np.isnan(given) & ~empty).sum(axis=1) <= int(0.75 * COLUMNS)).all()
    kept = ~np.isnan(given)
    assert np.array_equal(given[kept], model.rows[sources][kept])
    made = model._completed(given)
    assert np.array_equal(made[kept], given[kept])
    assert not np.isnan(made).any()
    rows, _ = model.draw(300, seed=0)
    assert agreements(rows.frame, table.frame).min() >= COLUMNS - int(0.75 * COLUMNS) - 2


def test_linkage_is_measured_at_training_and_falls_with_the_mask(model):
    shares = [one.mask_share for one in model.linkage]
    assert shares == [0.25, 0.5, 0.75, 0.9]
    linked = [one.linked_rows for one in model.linkage]
    assert linked == sorted(linked, reverse=True)
    assert linked[0] > 0.99
    assert linked[2] > 100 / len(model.rows)
    kept = [one.kept_cells for one in model.linkage]
    assert kept == sorted(kept, reverse=True)
    assert kept[2] <= 1 - int(0.75 * COLUMNS) / COLUMNS
    assert "lead back" in model.linkage[2].words


def test_linkage_counts_what_is_planted():
    """Four-row tables: all copies, none, and a row that fits two patients alike."""
    patients = np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0], [3.0, 8.0]])
    everyone = np.arange(4)
    assert linked_rows(patients, patients, everyone) == 1.0
    assert linked_rows(patients, patients, everyone[::-1]) == 0.0
    assert linked_rows(patients, patients + 100, everyone) == 0.0
    halves = np.array([[1.0, -1.0], [2.0, -2.0], [3.0, -3.0], [3.0, -4.0]])
    assert linked_rows(patients, halves, everyone) == 0.5
    one_empty = np.where(patients == 1.0, np.nan, patients)
    assert linked_rows(one_empty, halves, everyone) == 0.25


def test_rarer_agreement_counts_more_than_more_agreement():
    """A rare number leads to the patient whom three common answers do not."""
    patients = np.array([[71.0, 0, 0, 0], [40.0, 1, 1, 1], [50.0, 1, 1, 1]])
    made = np.array([[71.0, 1, 1, 1], *([33.0, 1, 1, 1] for _ in range(40))])
    assert linked_rows(patients, made[:1], np.array([0])) == 0.0
    sources = np.zeros(41, dtype=np.int64)
    assert linked_rows(patients, made, sources) == pytest.approx(1 / 41)


def test_strangers_rows_do_not_link(model):
    """Rows made of other patients of the same kind lead to nobody in particular: chance, 1 in 300.

    Fixed seeds; 12 of 300 has a chance of less than 1e-9 were each a draw of 1 in 100.
    """
    strangers = train_mcm(ward_table(300, seed=9), SETTINGS, seed=0, study="s", site="x")
    given, sources = strangers._masked(300, np.random.default_rng(0))
    assert linked_rows(model.rows, strangers._completed(given), sources) < 12 / 300


def test_the_share_that_is_masked_is_the_callers(model, table):
    rates = [
        agreements(masking(model, share).draw(100, seed=1)[0].frame, table.frame).mean()
        for share in (0.1, 0.5, 1.0)
    ]
    assert rates == sorted(rates, reverse=True)
    assert len(masking(model, 1.0).draw(50, seed=1)[0].frame.drop_duplicates()) == 1
    for share in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="--mask-share"):
            masking(model, share)


def test_a_stratum_is_met_in_every_row_and_by_no_patients_cells(model):
    """Drawn evenly between the bounds: 50 to 55 has six ages, each within 5 standard deviations of 1/6."""
    rows, met = model.draw(1200, seed=3, conditions=where("age >= 50 and age <= 55", "sex = Female"))
    assert met == 1.0
    counts = rows.frame["age"].value_counts()
    assert set(counts.index) == set(range(50, 56))
    assert np.abs(counts - 200).max() < 5 * np.sqrt(200)
    assert set(rows.frame["sex"]) == {"Female"}
    assert not rows.frame.isna().any().any()
    # A completion is a conditional mean: given age and sex there is one row, which is the published limit.
    assert len(rows.frame.drop_duplicates()) == 6


def test_conditions_of_every_kind_are_honoured(model):
    conditions = where("stage in (II, III)", "dose in (50, 100)", "age != 60", "unit != icu", "age > 58")
    frame = model.draw(400, seed=1, conditions=conditions)[0].frame
    assert set(frame["stage"]) == {"II", "III"}
    assert set(frame["dose"]) == {50.0, 100.0}
    assert (frame["age"] > 58).all()
    assert 60 not in set(frame["age"])
    assert "icu" not in set(frame["unit"])


def test_to_ask_for_cells_that_are_present_is_to_ask_for_nothing(model):
    plain = model.draw(60, seed=2)[0]
    assert model.draw(60, seed=2, conditions=where("creatinine is not missing"))[0].digest == plain.digest


def test_what_no_patient_is_like_is_refused_in_one_line(table):
    few = table.frame[(table.frame["unit"] != "icu") & (table.frame["age"] < 80)]
    model = train_mcm(table.take(few.index.to_numpy()), SETTINGS, seed=0, study="s", site="x")
    for text, words in (
        ("unit = icu", "condition on unit"),
        ("age > 90", "condition on age"),
        ("creatinine is missing", "no cell is ever empty"),
    ):
        with pytest.raises(ConditionError, match=words) as caught:
            model.draw(5, seed=0, conditions=where(text))
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="at least 1"):
        model.draw(0, seed=0)


def test_the_seed_decides_model_and_rows(table):
    few = table.take(np.arange(40))
    one, same, other = (train_mcm(few, McmSettings(epochs=2), seed=s, study="s", site="x") for s in (1, 1, 2))
    assert one.draw(90, seed=4)[0].digest == same.draw(90, seed=4)[0].digest
    assert one.draw(90, seed=4)[0].digest != one.draw(90, seed=5)[0].digest
    assert one.draw(90, seed=4)[0].digest != other.draw(90, seed=4)[0].digest


def partial_of(table, hidden) -> PartialTable:
    known = ~hidden & table.frame.notna().to_numpy()
    values = table.frame.where(known)
    cells = SyntheticTable(schema=WARD, frame=values).release_frame()
    return PartialTable(schema=WARD, cells=cells, values=values, known=known)


def test_partial_rows_are_completed_and_given_cells_stay(model):
    unseen = ward_table(50, seed=5)
    hidden = np.random.default_rng(0).random((50, COLUMNS)) < 0.5
    partial = partial_of(unseen, hidden)
    completed = complete(completing(model), partial, seed=0, copies=2)
    assert len(completed) == 100
    assert not completed.cells.isna().any().any()
    for name, known in zip(WARD.names, partial.known.T, strict=True):
        assert (completed.cells[name][:50][known] == partial.cells[name][known]).all()
    first, second = completed.cells[:50], completed.cells[50:].reset_index(drop=True)
    assert first.equals(second)


def test_saved_read_and_saved_again_is_byte_for_byte_the_same(model, folder, tmp_path):
    back = open_model(folder)
    assert isinstance(back, PublishedMcm)
    save_paper(back, tmp_path / "again")
    for name in (HEADER, WEIGHTS):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    for conditions in ((), where("age >= 70")):
        ours, theirs = (synthesize(one, 60, seed=5, conditions=conditions) for one in (model, back))
        assert ours.table.digest == theirs.table.digest


def test_the_header_says_what_it_is_what_it_holds_and_how_it_links(model, folder):
    header = json.loads((folder / HEADER).read_text())
    assert (header["mode"], header["generator"], header["unsafe"]) == ("paper", "mcm", True)
    assert (header["spend"], header["encoder_provenance"]) == (None, "non_dp")
    assert any("row of every training patient" in held for held in header["holds"])
    found = read_model_header(folder).linkage
    assert [Linkage.from_json(one.to_json()) for one in model.linkage] == list(found)
    with pytest.raises(InputError):
        load_model(folder)


def rewrite(folder, change):
    header = json.loads((folder / HEADER).read_text())
    change(header)
    (folder / HEADER).write_text(json.dumps(header))


ALTERATIONS = {
    "another generator": lambda header: header.update(generator="medvae"),
    "no such generator": lambda header: header.update(generator="eva"),
    "a spend": lambda header: header.update(spend={"epsilon": 1.0}),
    "no linkage": lambda header: header.pop("linkage"),
    "a linkage that is none": lambda header: header["linkage"][0].update(linked_rows=-0.5),
    "a power lost": lambda header: header["encoding"]["columns"][0].pop("power"),
    "a level lost": lambda header: header["encoding"]["columns"][7]["levels"].pop(),
    "a range moved": lambda header: header["encoding"]["columns"][0].update(maximum=50.0),
    "a Med-VAE setting": lambda header: header["hyperparameters"].update(kl_weight=1.0),
}


@pytest.mark.parametrize("change", ALTERATIONS.values(), ids=ALTERATIONS)
def test_an_altered_header_is_refused_in_one_line(folder, change):
    rewrite(folder, change)
    with pytest.raises(InputError, match="malformed") as caught:
        open_model(folder)
    assert "\n" not in str(caught.value)


DAMAGE = {
    "no patients": lambda arrays: arrays.update({"patients/values": np.zeros((0, COLUMNS))}),
    "a column lost": lambda arrays: arrays.update({"patients/values": arrays["patients/values"][:, 1:]}),
    "a level that is none": lambda arrays: arrays["patients/values"].__setitem__((0, 7), 9.0),
    "half a level": lambda arrays: arrays["patients/values"].__setitem__((0, 7), 0.5),
    "a number out of range": lambda arrays: arrays["patients/values"].__setitem__((0, 0), 1e9),
    "another type": lambda arrays: arrays.update(
        {"patients/values": arrays["patients/values"].astype(np.float32)}
    ),
    "no rows": lambda arrays: arrays.pop("patients/values"),
    "an array too many": lambda arrays: arrays.update(extra=np.zeros(2)),
    "a weight lost": lambda arrays: arrays.pop("network/attention.weight"),
    "a weight that is not finite": lambda arrays: arrays["network/first.bias"].__setitem__(0, np.nan),
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_arrays_that_do_not_fit_are_refused_in_one_line(folder, change):
    arrays = {name: array.copy() for name, array in load((folder / WEIGHTS).read_bytes()).items()}
    change(arrays)
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    (folder / WEIGHTS).write_bytes(data)
    rewrite(folder, lambda header: header.update(weights_sha256=sha256_hex(data)))
    with pytest.raises(InputError, match="malformed"):
        open_model(folder)


def test_two_patients_make_a_model_and_each_training_is_logged_as_unsafe(caplog):
    with caplog.at_level(logging.WARNING, logger="synthkit.unsafe"):
        model = train_mcm(ward_table(2), McmSettings(epochs=2), seed=0, study="s", site="x")
    assert "WITHOUT differential privacy" in caplog.text
    rows, _ = model.draw(30, seed=0)
    assert len(rows) == 30
    assert not rows.frame.isna().any().any()


def test_its_reliability_speaks_of_no_row_thrown_away(model):
    """Conditions are given to the network as cells; nothing is drawn first and set aside."""
    text = reliability_text(model, 1.0)
    assert "100 % of the rows were kept" in text
    assert "thrown away" not in text
