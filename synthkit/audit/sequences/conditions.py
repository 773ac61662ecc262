"""Conditions: which patients have each level of the schema's binary static columns.

Knows static columns and the schema, which fixes the list of levels; refuses records of visits. Rules: every
level of every binary column is named, in the schema's order, whatever the patients are; a patient without a
value has no level.
"""

import numpy as np

from synthkit.data.sequences import Sequences
from synthkit.domain.schema import Kind


def patients_by_level(part: Sequences) -> dict[str, np.ndarray]:
    """Who has each level: by `column = level`, bool (patients,); empty without binary columns."""
    schema = part.schema.statics
    columns = () if schema is None else schema.columns
    return {
        f"{column.name} = {level}": part.statics[column.name].eq(level).fillna(False).to_numpy(dtype=bool)
        for column in columns
        if column.kind in (Kind.BINARY, Kind.EVENT)
        for level in column.categories
    }
