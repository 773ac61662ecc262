"""From records to numbers and back. A function of the schema and public caps alone.

Knows the code list, the static columns' states and the calendar. Refuses to look at a record when it is
made. Rules: a record over the cap keeps its first visits, a visit over it its first codes, so that what is
kept of a patient depends on that patient alone; patients stand in the order of their records' sizes, which
makes batches of like sizes and tells nobody anything, for nothing leaves in that order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synthkit.data.encoding import Encoding, fit_encoding
from synthkit.data.sequences import PatientSequences, Sequences, SyntheticSequences, ranges, starts_of
from synthkit.domain.calendar import Calendar
from synthkit.domain.conditions import Condition
from synthkit.domain.layout import Layout, StateWeights
from synthkit.domain.schema import Schema
from synthkit.domain.sequence_layout import RecordStates, SequenceLayout
from synthkit.errors import SchemaError

YEAR = "year of the first visit"
"""What the layout calls the static column that no schema has."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SequenceEncoding:
    """How records of a schema become numbers."""

    schema: Schema
    layout: SequenceLayout
    statics: Encoding | None

    def encode(self, records: PatientSequences) -> RecordStates:
        """Records as numbers, patients in order of their records' sizes.

        Raises:
            SchemaError: The records have another code list than the schema.
        """
        if records.schema.code.categories != self.schema.code.categories:
            raise SchemaError("the records have another code list", fix="read them by the model's schema")
        states = self.in_order(records)
        return states.take(np.argsort(states.steps, kind="stable"))

    def in_order(self, records: Sequences) -> RecordStates:
        """Records as numbers, patients in the order given."""
        kept = records.first_visits(self.layout.most_visits)
        counts = np.minimum(kept.codes_per_visit, self.layout.most_codes)
        entries = ranges(kept.visit_starts[:-1], kept.visit_starts[:-1] + counts)
        calendar = self.layout.calendar
        nobody = np.zeros(len(kept), dtype=np.int64)
        dated = calendar.years > 1 and kept.first_days is not None
        first_days = np.asarray(kept.first_days, dtype=np.int64) if dated else nobody
        gaps = np.zeros(kept.visit_count) if kept.gaps is None or not calendar.is_timed else kept.gaps
        parts = [calendar.year_of(first_days)]
        if self.statics is not None:
            columns = self.statics.columns
            parts = [*(c.encode(kept.statics[c.column.name]) for c in columns), *parts]
        return RecordStates(
            codes=kept.codes[entries].astype(np.int64),
            visit_starts=starts_of(counts),
            patient_starts=kept.patient_starts,
            statics=np.column_stack(parts).astype(np.int64),
            gap_days=gaps.astype(np.int64),
            first_days=first_days,
        )

    def decode(
        self, states: RecordStates, rng: np.random.Generator, conditions: Sequence[Condition] = ()
    ) -> SyntheticSequences:
        """Records of the numbers, every condition on a static column honoured exactly."""
        if self.statics is None:
            frame = pd.DataFrame(index=range(len(states)))
        else:
            frame = self.statics.decode(states.statics[:, :-1], rng, conditions).frame
        calendar = self.layout.calendar
        return SyntheticSequences(
            schema=self.schema,
            codes=states.codes.astype(np.int32),
            visit_starts=states.visit_starts,
            patient_starts=states.patient_starts,
            statics=frame,
            gaps=states.gap_days.astype(np.int32) if calendar.is_timed else None,
            first_days=states.first_days.astype(np.int32) if calendar.is_timed else None,
            is_dated=calendar.is_dated,
        )

    def restrict(self, conditions: Sequence[Condition]) -> StateWeights:
        """Conditions on static columns as allowed shares of states; the columns are `layout.statics`'s.

        Raises:
            ConditionError: No value of a column satisfies them.
            SchemaError: A condition names the code column.
        """
        if not conditions:
            return {}
        if self.statics is None or any(one.column == self.schema.code.name for one in conditions):
            raise SchemaError(
                "conditions are on the columns of a patient, not on codes", fix="name a static column"
            )
        return self.statics.restrict(conditions)


def fit_sequence_encoding(schema: Schema, caps: Mapping[str, float]) -> SequenceEncoding:
    """The encoding of a longitudinal schema. Reads no record, costs no budget.

    Args:
        schema: Longitudinal, its codes listed.
        caps: `most_visits`, `most_codes` and `dated` of a generator's hyperparameters.

    Raises:
        SchemaError: The schema is not longitudinal, lists no codes, or leaves something to be bought.
    """
    vocabulary = schema.vocabulary
    numbers = {kind: number for number, kind in enumerate(dict.fromkeys(vocabulary.types))}
    statics = None if schema.statics is None else fit_encoding(schema.statics)
    calendar = Calendar(is_timed=schema.time is not None, is_dated=bool(caps["dated"]))
    own = Layout(names=(YEAR,), states=(calendar.years,))
    layout = own if statics is None else _joined(statics.layout, own)
    return SequenceEncoding(
        schema=schema,
        layout=SequenceLayout(
            types=tuple(numbers[kind] for kind in vocabulary.types),
            most_visits=int(caps["most_visits"]),
            most_codes=min(int(caps["most_codes"]), len(vocabulary)),
            calendar=calendar,
            statics=layout,
            may_be_empty=schema.code.missing,
        ),
        statics=statics,
    )


def _joined(first: Layout, second: Layout) -> Layout:
    return Layout(
        names=(*first.names, *second.names),
        states=(*first.states, *second.states),
        missing=(*first.missing, *second.missing),
        spikes=(*first.spikes, *second.spikes),
    )
