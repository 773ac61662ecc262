"""Caps on records, and types of codes, that a schema states or leaves to be bought."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from synthkit.data.grids import cap_grid, cap_of_most
from synthkit.data.purchase import CODE_OCTAVES, VISIT_OCTAVES, Purchase, _listed, _sizes
from synthkit.data.sequence_reading import read_code_rows
from synthkit.data.table import PatientTable, RowsOfCodes
from synthkit.domain.documents import schema_from_toml, schema_to_toml
from synthkit.domain.privacy import GaussianEvent, GaussianThresholdEvent
from synthkit.domain.record_caps import RecordCaps
from synthkit.domain.schema import Column, Kind, Provenance, Schema
from synthkit.domain.study import TrainingPlan
from synthkit.domain.vocabulary import CodeType, typed_by
from synthkit.errors import InputError, SchemaError
from synthkit.privacy.mechanisms import NoisyCounts, counts_statistic
from synthkit.training.planning import check_schema_fits
from synthkit.training.sequence_artefact import new_sequence_generator

PREFIXES = (
    ("R", CodeType.DRUG),
    ("RL", CodeType.LABORATORY),
    ("", CodeType.DIAGNOSIS),
    ("Z", CodeType.UNTYPED),
)
LISTED = Column(name="code", kind=Kind.CODE, categories=("a", "b"), missing=True)
OPEN = Column(name="code", kind=Kind.CODE, missing=True, provenance=Provenance.DP, prefixes=PREFIXES)
TO_BUY = RecordCaps(provenance=Provenance.DP)
BOUGHT = RecordCaps(most_visits=8, most_codes=4, provenance=Provenance.DP)


def ward(column=LISTED, caps=None):
    return Schema(columns=(column,), patient_id="patient", visit="visit", name="ward", caps=caps)


# ---- documents -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("caps", [None, TO_BUY, BOUGHT, RecordCaps(most_visits=3, most_codes=2)])
@pytest.mark.parametrize("column", [LISTED, replace(OPEN, prefixes=()), OPEN])
def test_documents_come_back_equal(column, caps):
    schema = ward(column, caps)
    assert schema_from_toml(schema_to_toml(schema), "ward") == schema
    assert Schema.from_json(schema.to_json()) == schema


def test_a_schema_without_caps_and_prefixes_keeps_its_digest():
    document = ward().to_json()
    assert "caps" not in document
    assert "prefixes" not in document["columns"][0]
    assert ward().digest != ward(caps=BOUGHT).digest


def test_caps_are_to_be_bought_or_bought_as_a_column_is():
    assert (ward(caps=TO_BUY).to_buy(), ward(caps=TO_BUY).bought()) == (("[table.caps]",), ())
    assert (ward(caps=BOUGHT).to_buy(), ward(caps=BOUGHT).bought()) == ((), ("[table.caps]",))
    public = ward(caps=RecordCaps(most_visits=3, most_codes=2))
    assert (public.to_buy(), public.bought()) == ((), ())


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("most_visits = 3", "come together"),
        ('provenance = "dp"\nmost_codes = 3', "come together"),
        ("", "come together"),
        ("most_visits = 0\nmost_codes = 1", "out of range"),
        ("most_visits = 1001\nmost_codes = 1", "out of range"),
        ('most_visits = 3\nmost_codes = 2\nprovenance = "data"', "provenance"),
        ('most_visits = "3"\nmost_codes = 2', "most_visits"),
        ("most_visits = 3\nmost_codes = 2\nmost_days = 1", "most_days"),
    ],
)
def test_caps_that_are_none_are_refused(lines, words):
    text = schema_to_toml(ward()).replace("[columns.code]", f"[table.caps]\n{lines}\n\n[columns.code]")
    with pytest.raises(SchemaError, match=words) as refusal:
        schema_from_toml(text, "ward.toml")
    assert str(refusal.value).startswith("ward.toml")


def test_caps_belong_to_records():
    with pytest.raises(SchemaError, match="longitudinal"):
        Schema(columns=(Column(name="x", kind=Kind.INTEGER, minimum=0, maximum=1),), caps=BOUGHT)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('diagnosis = ["I"]\ndrug = ["I"]', "stands twice"),
        ('drugs = ["I"]', "drugs"),
        ("drug = [1]", "drug"),
    ],
)
def test_prefixes_that_are_none_are_refused(lines, words):
    text = schema_to_toml(ward(replace(OPEN, prefixes=()))) + f"\n[columns.code.prefixes]\n{lines}\n"
    with pytest.raises(SchemaError, match=words):
        schema_from_toml(text, "ward.toml")


def test_prefixes_beside_a_public_list_are_refused():
    with pytest.raises(SchemaError, match="list that is bought"):
        replace(LISTED, prefixes=PREFIXES)


# ---- types of a bought list -------------------------------------------------------------------------------


def test_the_longest_prefix_decides():
    kinds = [typed_by(PREFIXES, code) for code in ("R1", "RL", "RL1", "I10", "Z9")]
    diagnosis = CodeType.DIAGNOSIS
    assert kinds == [CodeType.DRUG, CodeType.LABORATORY, CodeType.LABORATORY, diagnosis, CodeType.UNTYPED]
    assert typed_by(PREFIXES[:2], "I10") is CodeType.UNTYPED


def test_a_bought_list_is_sorted_by_type_and_other_stays_last_and_untyped():
    column = _listed(OPEN, ("E11", "I10", "R1", "RL2", "Z9", "other"))
    assert column.categories == ("R1", "RL2", "E11", "I10", "Z9", "other")
    words = [kind.value for kind in column.types]
    assert words == ["drug", "laboratory", "diagnosis", "diagnosis", "untyped", "untyped"]
    assert column.is_bought
    assert ward(column).vocabulary.of_type(CodeType.DIAGNOSIS) == range(2, 4)


def test_without_a_rule_a_bought_list_is_untyped():
    assert _listed(replace(OPEN, prefixes=()), ("E11", "other")).types == ()


# ---- what is bought --------------------------------------------------------------------------------


def rows_of(*patients, schema=None):
    """Rows of codes of patients, each a list of visits, each a list of codes."""
    rows = [
        (number, place, code)
        for number, visits in enumerate(patients)
        for place, codes in enumerate(visits)
        for code in (codes or [None])
    ]
    owners, places, codes = zip(*rows, strict=True)
    return RowsOfCodes(
        schema=schema or ward(caps=TO_BUY),
        frame=pd.DataFrame({"code": np.array(codes, dtype=object)}),
        patients=np.array(owners),
        visits=np.array(places, dtype=np.int32),
    )


def cells_of(*patients):
    table = rows_of(*patients)
    return [cells.cells[np.unique(table.patients, return_index=True)[1]].tolist() for cells in _sizes(table)]


def test_a_patients_cells_are_the_powers_of_two_of_visits_and_of_the_fullest_visit():
    """A code that stands twice in a visit counts once; a visit without codes counts as a visit."""
    one, empty, long = [["a"]], [[], []], [["a", "b", "a"], ["a", "b", "c"], ["d"]]
    assert cells_of(one, empty, long, [["a"]] * 5) == [[0, 1, 2, 3], [0, 0, 2, 0]]


def test_the_grid_ends_with_powers_of_two():
    grid = cap_grid(4)
    assert grid.ends.tolist() == [1, 2, 4, 8, 16]
    assert grid.cells(np.array([1.0, 2, 3, 4, 5, 16, 17, 10**6]), 1.0).tolist() == [0, 1, 2, 2, 3, 4, 4, 4]


@pytest.mark.parametrize("seed", range(5))
def test_one_patient_whatever_the_record_moves_the_statistic_by_at_most_1(seed):
    """Of both histograms together, in running totals; the last has 3,000 visits and one of 2,000 codes."""
    rng = np.random.default_rng(seed)

    def patient():
        return [
            [f"c{rng.integers(9)}" for _ in range(rng.integers(0, 6))] for _ in range(rng.integers(1, 30))
        ]

    giant = [["a"]] * 3000 + [[f"c{number}" for number in range(2000)]]
    everyone = [*(patient() for _ in range(12)), giant]
    statistics = []
    for chosen in [everyone, *([p for i, p in enumerate(everyone) if i != left] for left in (0, 5, 12))]:
        table = rows_of(*chosen)
        statistics.append(counts_statistic(table.patients, list(_sizes(table))))
    for fewer in statistics[1:]:
        assert 0.5 < np.linalg.norm(statistics[0] - fewer) <= 1 + 1e-12


def test_the_cap_leaves_no_more_over_it_than_its_share():
    grid, shares = cap_grid(4), np.array([600.0, 200, 150, 45, 5])
    exact = NoisyCounts(counts=np.cumsum(shares), std=0.1, cell_std=0.1)
    assert cap_of_most(grid, exact, over=0.01) == 8
    assert cap_of_most(grid, exact, over=0.001) == 16
    assert cap_of_most(grid, exact, over=0.06) == 4
    assert cap_of_most(grid, replace(exact, std=60.0), over=0.001) == 4  # fifty are not told from noise
    assert cap_of_most(grid, replace(exact, std=400.0), over=0.01) is None


def test_caps_are_charged_as_two_more_histograms_of_the_one_mechanism():
    alone = Purchase(draft=ward(caps=TO_BUY), noise_multiplier=2.0, failure_delta=1e-7)
    assert alone.events == (GaussianEvent(noise_multiplier=2.0),)
    both = Purchase(draft=ward(OPEN, TO_BUY), noise_multiplier=2.0, failure_delta=1e-7)
    numbers, names = both.events
    assert isinstance(numbers, GaussianEvent)
    assert isinstance(names, GaussianThresholdEvent)
    precisions = numbers.noise_multiplier**-2 + names.noise_multiplier**-2
    assert precisions == pytest.approx(2.0**-2, rel=0.02)
    assert precisions <= 2.0**-2
    assert Purchase(draft=ward(caps=BOUGHT), noise_multiplier=2.0, failure_delta=1e-7).events == ()


def test_a_table_of_one_row_a_patient_has_no_caps_to_sell():
    table = PatientTable(schema=ward(caps=TO_BUY), frame=pd.DataFrame({"code": ["a"]}), patients=np.zeros(1))
    with pytest.raises(RuntimeError, match="rows of codes"):
        list(_sizes(table))


def test_visits_are_read_from_the_file_in_whatever_order(tmp_path):
    text = "patient,visit,code\nb,7,a\na,1,a\nb,3,b\nb,7,b\na,1,\n"
    (tmp_path / "r.csv").write_text(text, "utf-8")
    table = read_code_rows(tmp_path / "r.csv", ward(caps=TO_BUY))
    cells = [one.cells.tolist() for one in _sizes(table)]
    assert cells == [[1, 0, 1, 1, 0], [1, 0, 1, 1, 0]]


# ---- where they are used --------------------------------------------------------------------------------


def test_a_generator_takes_the_schemas_caps():
    generator = new_sequence_generator("eva", ward(caps=BOUGHT), {"channels": 8, "hidden": 8}, seed=0)
    assert (generator.layout.most_visits, generator.layout.most_codes) == (8, 2)
    assert generator.hyperparameters["most_visits"] == 8
    with pytest.raises(SchemaError, match="still to be bought"):
        new_sequence_generator("eva", ward(caps=TO_BUY), {}, seed=0)


def test_a_plan_with_other_caps_than_the_schemas_is_refused():
    figures = {"rounds": 1, "local_steps": 1, "sample_rate": 0.1, "noise_multiplier": 1.0, "delta": 1e-5}
    more = {"prior_noise_multiplier": 1.0, "max_grad_norm": 1.0, "learning_rate": 0.1, "prior_first": True}

    def check(**hyperparameters):
        plan = TrainingPlan(generator="eva", **figures, **more, hyperparameters=hyperparameters)
        check_schema_fits(ward(caps=BOUGHT), plan)

    check()
    check(most_visits=8, most_codes=4)
    with pytest.raises(InputError, match="caps are not the schema's"):
        check(most_visits=9)


def test_octaves_stay_within_what_generators_and_readers_take():
    assert 2**VISIT_OCTAVES >= 1000
    assert 2**CODE_OCTAVES == 512
