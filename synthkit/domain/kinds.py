"""What a column's values mean, where its bounds come from, how its range is divided: words of a schema."""

from enum import StrEnum


class Kind(StrEnum):
    """What a column's values mean."""

    NUMERIC = "numeric"
    INTEGER = "integer"
    BINARY = "binary"
    CATEGORICAL = "categorical"
    ORDINAL = "ordinal"
    DATETIME = "datetime"
    CODE = "code"
    EVENT = "event"
    DURATION = "duration"


class Provenance(StrEnum):
    """Where a column's bounds or categories come from.

    PUBLIC: known without the rows (a code list, a clinical range). DP: bought with budget, or, in a
    draft, to be bought. DATA: read off the rows; private training refuses it.
    """

    PUBLIC = "public"
    DP = "dp"
    DATA = "data"


class Scale(StrEnum):
    """How a numeric range is divided into bins: evenly, or evenly in log(1 + x - minimum)."""

    LINEAR = "linear"
    LOG = "log"
