"""ContinuedSequences: records whose beginnings were given, and whose later visits were drawn.

A given visit may be a real patient's. Rules: what was given comes out as it went in, static columns and the
first day included; the type shows no rows in a repr or message; it is no `SyntheticSequences`, so it has no
digest and cannot be released.
"""

from dataclasses import dataclass, fields

import numpy as np

from synthkit.data.sequences import Sequences, SyntheticSequences, ranges


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class ContinuedSequences(Sequences):
    """Records that begin with given ones."""

    def __repr__(self) -> str:
        return f"ContinuedSequences(schema={self.schema.name!r}, patients=<private>)"

    @classmethod
    def join(cls, history: Sequences, drawn: SyntheticSequences) -> "ContinuedSequences":
        """Drawn records, with what was given of them as it was given.

        Args:
            history: The beginnings.
            drawn: Records of the same patients in the same order, each beginning with its history.

        Raises:
            RuntimeError: A drawn record does not begin with its history.
        """
        if not _begins_with(drawn, history):
            raise RuntimeError("a drawn record does not begin with its history")
        parts = {field.name: getattr(drawn, field.name) for field in fields(Sequences)}
        given = {name: getattr(history, name) for name in ("statics", "first_days", "is_dated")}
        return cls(**{**parts, **given})


def _begins_with(drawn: SyntheticSequences, history: Sequences) -> bool:
    if len(drawn) != len(history) or bool((drawn.visits_per_patient < history.visits_per_patient).any()):
        return False
    starts = drawn.patient_starts[:-1]
    visits = ranges(starts, starts + history.visits_per_patient)
    entries = ranges(drawn.visit_starts[visits], drawn.visit_starts[visits + 1])
    return (
        np.array_equal(drawn.codes_per_visit[visits], history.codes_per_visit)
        and np.array_equal(drawn.codes[entries], history.codes)
        and (drawn.gaps is None or np.array_equal(drawn.gaps[visits], np.asarray(history.gaps)))
    )
