"""How alike two tables are: sdmetrics' quality report, and total variation distance.

Knows two tables of one schema. Refuses to invent a score of its own: the quality is sdmetrics' number,
and what it is blind to (missing numbers, weak relations) is shown by the total variation beside it.
Rules: sdmetrics is imported inside the one function that needs it, because it brings dependencies
under other licences; text that is missing is handed to it as a level of its own, since it would
otherwise leave missing cells out of the column shapes.
"""

import warnings
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from synthkit.domain.schema import Schema
from synthkit.domain.utility import Quality
from synthkit.evaluation.states import Levels, States, to_levels

if TYPE_CHECKING:
    from sdmetrics.reports.single_table import QualityReport


def quality_frame(frame: pd.DataFrame, schema: Schema, levels: Levels) -> pd.DataFrame:
    """The frame as sdmetrics gets it: numbers as they are, levels as whole numbers, missing text -1.

    sdmetrics compares levels by identity only, so renaming them changes no score and is much faster.
    """
    return pd.DataFrame(
        {
            column.name: frame[column.name].to_numpy(dtype=float)
            if column.is_numeric
            else to_levels(frame[column.name], levels[column.name])
            for column in schema
        }
    )


def has_strong_pair(real: pd.DataFrame, schema: Schema) -> bool:
    """Whether sdmetrics finds a pair of columns related strongly enough for its own thresholds.

    Asked of the real rows alone: a constant synthetic table must not change how it is scored.
    """
    return bool(np.isfinite(_sdmetrics_scores(real, real, schema, all_pairs=False)[2]))


def quality(
    real: pd.DataFrame, synthetic: pd.DataFrame, schema: Schema, *, all_pairs: bool = False
) -> Quality:
    """The single-table QualityReport of sdmetrics, of two frames made by `quality_frame`.

    By default sdmetrics scores only the pairs of columns that are strongly related in the real rows
    (in 0.32: correlation above 0.5, Cramer's V above 0.3). `all_pairs` sets its thresholds to 0.

    Source: sdmetrics QualityReport: KSComplement and TVComplement by column; CorrelationSimilarity
        and ContingencySimilarity by pair; overall is the mean of the two averages.
    """
    overall, shapes, pairs = _sdmetrics_scores(real, synthetic, schema, all_pairs=all_pairs)
    if not np.isfinite((shapes, pairs)).all():
        # What sdmetrics cannot compute (a constant synthetic table, say) it leaves out of the average,
        # which would flatter exactly the worst tables: it counts as 0 here.
        shapes, pairs = np.nan_to_num((shapes, pairs))
        overall = (shapes + pairs) / 2
    return Quality(overall=float(overall), column_shapes=float(shapes), column_pairs=float(pairs))


def pair_scores(real: pd.DataFrame, synthetic: pd.DataFrame, schema: Schema) -> dict[tuple[str, str], float]:
    """Each pair's part in `quality`'s column pairs, in [0, 1] or NaN.

    Of two frames made by `quality_frame`. Pairs that sdmetrics leaves out for being weak are not in it.
    """
    report = _sdmetrics_report(real, synthetic, schema, all_pairs=False)
    details = report.get_details("Column Pair Trends")
    if "Meets Threshold?" in details:
        details = details[details["Meets Threshold?"].astype(bool)]
    pairs = zip(details["Column 1"], details["Column 2"], strict=True)
    return dict(zip(pairs, details["Score"].astype(float), strict=True))


def _sdmetrics_scores(
    real: pd.DataFrame, synthetic: pd.DataFrame, schema: Schema, *, all_pairs: bool
) -> np.ndarray:
    """Overall, column shapes and column pairs: float64, shape (3,); NaN where not computable."""
    report = _sdmetrics_report(real, synthetic, schema, all_pairs=all_pairs)
    return np.array([report.get_score(), *report.get_properties()["Score"]], dtype=float)


def _sdmetrics_report(
    real: pd.DataFrame, synthetic: pd.DataFrame, schema: Schema, *, all_pairs: bool
) -> "QualityReport":
    """The report, generated in silence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sdmetrics.reports.single_table import QualityReport  # noqa: PLC0415  (heavy, other licences)

        report = QualityReport()
        # Its own subsampling draws from numpy's global generator; ours is seeded and done before.
        report.num_rows_subsample = None
        if all_pairs:
            report.real_correlation_threshold = report.real_association_threshold = 0
        kinds = {c.name: {"sdtype": "numerical" if c.is_numeric else "categorical"} for c in schema}
        report.generate(real, synthetic, {"columns": kinds}, verbose=False)
        return report


def total_variation(first: States, second: States) -> tuple[float, float]:
    """Mean total variation distance over all columns, and over all pairs of columns.

    Each is within [0, 1]: 0 for equal tables, 1 for tables that share no state. With one column the
    second figure is 0.
    """
    columns = range(len(first.sizes))
    one_way = one_way_distances(first, second)
    two_way = []
    for i, j in combinations(columns, 2):
        width = first.sizes[j]
        left = first.codes[:, i] * width + first.codes[:, j]
        right = second.codes[:, i] * width + second.codes[:, j]
        two_way.append(_distance(left, right, first.sizes[i] * width))
    return float(np.mean(one_way)), float(np.mean(two_way)) if two_way else 0.0


def one_way_distances(first: States, second: States) -> np.ndarray:
    """Total variation distance of each column: float64, shape (columns,), each within [0, 1]."""
    sizes = enumerate(first.sizes)
    return np.array([_distance(first.codes[:, i], second.codes[:, i], size) for i, size in sizes])


def _distance(first: np.ndarray, second: np.ndarray, size: int) -> float:
    """Total variation distance of two samples of states in [0, size): half the L1 distance."""
    if size > 8 * (first.size + second.size):
        # Two long code lists have more cells than memory wants: keep only those that occur.
        _, joint = np.unique(np.concatenate((first, second)), return_inverse=True)
        first, second, size = joint[: first.size], joint[first.size :], int(joint.max()) + 1
    left = np.bincount(first, minlength=size) / first.size
    right = np.bincount(second, minlength=size) / second.size
    return float(np.abs(left - right).sum() / 2)
