"""A condition that one code states outright is said to be told by it; one that codes point to is not."""

from dataclasses import replace

import numpy as np

from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.domain.schema import Column, Kind
from synthkit.evaluation.record_conditions import parse_record_condition
from synthkit.evaluation.sequence_run import evaluate_sequences

LEVELS = ("no", "yes")
CODE = "I10"


def with_column(records):
    """Whether the patient ever has the code, as a static column."""
    place = records.schema.vocabulary.places[CODE]
    has = np.zeros(records.patient_count, dtype=int)
    has[records.patient_of_visit[records.visit_of_code[records.codes == place]]] = 1
    column = Column(name="pressure", kind=Kind.BINARY, categories=LEVELS)
    return replace(
        records,
        schema=replace(records.schema, columns=(*records.schema.columns, column)),
        statics=records.statics.assign(pressure=np.array(LEVELS, dtype=object)[has]),
    )


def test_an_auc_of_one_is_explained_and_the_better_question_named():
    # One visit each: there is no next visit, so that no network is trained.
    everyone = with_column(simulate(standard_process(visits_mean=1, most_visits=1), 1800, seed=5))
    real, train, made = (everyone.take(np.arange(start, start + 600)) for start in (0, 600, 1200))
    texts = ("pressure = yes", f"code in [{CODE}]", "sex = Male")
    asked = [parse_record_condition(text, everyone.schema) for text in texts]
    report = evaluate_sequences(real, made, train=train, conditions=asked, seed=0, repeats=1)
    found = {one.label: one.auc.real.mean for one in report.conditions}
    assert found["pressure = yes"] > 0.999
    assert max(found[asked[1].label], found["sex = Male"]) < 0.95
    told = [note for note in report.notes if "outright" in note]
    assert len(told) == 1
    assert "pressure = yes" in told[0]
    assert "sex = Male" not in told[0]
    assert "code in [...]" in told[0]
