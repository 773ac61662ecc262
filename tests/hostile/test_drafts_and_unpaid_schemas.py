"""A study whose schema is still to be bought touches no row; who paid for a schema states it."""

from dataclasses import replace

import pandas as pd
import pytest
from hospital import found
from small_ward import WARD, ward_table

from synthkit.data.purchase import conform
from synthkit.domain.privacy import Budget
from synthkit.domain.schema import Column, Kind, Provenance
from synthkit.errors import BudgetExceededError, InputError, PolicyError, SchemaError
from synthkit.privacy.ledger import Ledger
from synthkit.training.planning import purchase_for
from synthkit.training.purchasing import buy_schema, check_bought

QUOTA = Budget(epsilon=3.0, delta=1e-5)
DRAFT = replace(
    WARD,
    columns=tuple(
        Column(name=c.name, kind=c.kind, provenance=Provenance.DP) if c.name in ("age", "unit") else c
        for c in WARD
    ),
)


def draft_table(patients=2_000):
    return replace(ward_table(patients), schema=DRAFT)


def fresh_ledger(tmp_path, epsilon=6.0):
    return Ledger.create(
        tmp_path / "own.ledger", asset="ward", site="north", budget=Budget(epsilon=epsilon, delta=1e-5)
    )


def test_a_study_with_a_draft_is_neither_approved_nor_run(tmp_path):
    hospital = found(tmp_path)
    study = replace(hospital.study, schema=DRAFT)
    hospital.bring(study)
    with pytest.raises(PolicyError, match="still to be bought") as caught:
        hospital.approve(study)
    assert caught.value.rule == "schema.provenance"
    hospital.force_approval(study)
    hospital.table.unlink()
    before = hospital.ledger.head
    with pytest.raises(PolicyError, match="still to be bought"):
        hospital.agent().answer(replace(hospital.request(), study_digest=study.digest))
    assert hospital.ledger.head == before


def test_the_buying_site_states_what_the_schema_cost_and_others_do_not(tmp_path):
    buyer, other = found(tmp_path / "a"), found(tmp_path / "b")
    purchase = purchase_for(DRAFT, target_epsilon=1.0, delta=1e-5)
    done = buy_schema(draft_table(), purchase, ledger=buyer.ledger, quota=QUOTA, store=lambda _: None)
    for hospital in (buyer, other):
        study = replace(hospital.study, schema=done)
        hospital.ready(study).agent().answer(hospital.request(study=study))
        spend = hospital.ledger.spend(study.digest, schema=done.digest)
        plain = hospital.ledger.spend(study.digest)
        assert spend.events == ((*purchase.events, *plain.events) if hospital is buyer else plain.events)
        assert (spend.epsilon > plain.epsilon) == (hospital is buyer)


def test_nothing_is_drawn_without_a_reservation(tmp_path):
    """The cap is smaller than the purchase: no entry, no schema."""
    ledger = fresh_ledger(tmp_path, epsilon=0.5)
    stored = []
    with pytest.raises(BudgetExceededError):
        buy_schema(
            draft_table(),
            purchase_for(DRAFT, target_epsilon=1.0, delta=1e-5),
            ledger=ledger,
            quota=QUOTA,
            store=stored.append,
        )
    assert ledger.head[0] == 0
    assert stored == []


def test_a_schema_that_could_not_be_stored_was_paid_for_and_proves_nothing(tmp_path):
    ledger, drawn = fresh_ledger(tmp_path), []

    def full_disk(schema):
        drawn.append(schema)
        raise InputError("cannot be written")

    purchase = purchase_for(DRAFT, target_epsilon=1.0, delta=1e-5)
    with pytest.raises(InputError):
        buy_schema(draft_table(), purchase, ledger=ledger, quota=QUOTA, store=full_disk)
    assert ledger.history() == purchase.events
    with pytest.raises(SchemaError, match="no purchase"):
        check_bought(drawn[0], ledger)


def test_a_column_that_noise_hides_was_paid_for_and_gives_no_schema(tmp_path):
    """All cells of age are empty. A false alarm of the grid has probability 1e-3."""
    table, ledger, stored = draft_table(), fresh_ledger(tmp_path), []
    empty = replace(table, frame=table.frame.assign(age=float("nan")))
    purchase = purchase_for(DRAFT, target_epsilon=1.0, delta=1e-5)
    with pytest.raises(SchemaError, match="column age: noise hides its range"):
        buy_schema(empty, purchase, ledger=ledger, quota=QUOTA, store=stored.append)
    assert stored == []
    assert ledger.history() == purchase.events
    assert len(ledger.open_reservations()) == 1


def test_a_training_reply_of_the_same_digest_is_no_purchase(tmp_path):
    """Only round 0 buys: a committed training cannot lend its digest to a schema."""
    done = replace(
        WARD,
        columns=(
            *WARD.columns[:-1],
            Column(name="x", kind=Kind.CATEGORICAL, categories=("a", "other"), provenance=Provenance.DP),
        ),
    )
    ledger = fresh_ledger(tmp_path)
    events = purchase_for(DRAFT, target_epsilon=1.0, delta=1e-5).events
    held = ledger.reserve(study="s", server_round=1, base_digest="0" * 64, events=events)
    ledger.commit(held, reply_digest=done.digest)
    with pytest.raises(SchemaError, match="no purchase"):
        check_bought(done, ledger)
    with pytest.raises(SchemaError, match="no purchase"):
        check_bought(done, None)


def test_one_outlier_changes_the_bought_schema_only_through_noise(tmp_path):
    """With noise as good as none, bounds and categories are those without one outlier: one patient is
    below every threshold, and only the noisy counts could tell."""
    table = draft_table(3_000)
    row = table.frame.iloc[[0]].assign(age=1e9, unit="a rare unit")
    more = replace(
        table,
        frame=pd.concat([table.frame, row], ignore_index=True),
        patients=pd.concat([pd.Series(table.patients), pd.Series([3_000])]).to_numpy(),
    )
    purchase = replace(purchase_for(DRAFT, target_epsilon=1.0, delta=1e-5), noise_multiplier=0.5)
    schemas = [
        buy_schema(
            part,
            purchase,
            ledger=fresh_ledger(folder, 1e6),
            quota=Budget(epsilon=1e6, delta=1e-5),
            store=lambda _: None,
        )
        for part, folder in ((table, _made(tmp_path / "d")), (more, _made(tmp_path / "e")))
    ]
    plain, struck = (
        (s.column("age").minimum, s.column("age").maximum, s.column("unit").categories) for s in schemas
    )
    assert plain == struck
    assert len(conform(more, schemas[1]).frame) == 3_001


def _made(folder):
    folder.mkdir()
    return folder
