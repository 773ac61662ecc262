"""Mean, standard deviation, skewness and excess kurtosis of each numeric column; spread; missing rates.

Knows numbers and missing cells. Refuses to fill a missing cell: moments leave missing cells out, and
the missing rate stands beside them.
"""

import numpy as np

from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.utility import Moments, Spread


def moments(values: np.ndarray) -> Moments:
    """Population moments (divisor n) of the values that are not NaN.

    Args:
        values: float64, shape (n,), at least one not NaN.

    Returns:
        A constant column has standard deviation, skewness and kurtosis 0; a normal one kurtosis 0.
    """
    present = values[~np.isnan(values)]
    centred = present - present.mean()
    variance = float(np.mean(centred**2))
    # Rounding leaves a constant column a variance of about (eps * mean)^2: that is no spread.
    if variance <= (np.finfo(float).eps * abs(float(present.mean()))) ** 2 * 4:
        return Moments(mean=float(present.mean()), std=0.0, skewness=0.0, kurtosis=0.0)
    scaled = centred / np.sqrt(variance)
    return Moments(
        mean=float(present.mean()),
        std=float(np.sqrt(variance)),
        skewness=float(np.mean(scaled**3)),
        kurtosis=float(np.mean(scaled**4) - 3),
    )


def moments_by_column(real: PatientTable, synthetic: SyntheticTable) -> dict[str, tuple[Moments, Moments]]:
    """Real and synthetic moments of each numeric column; one that is all missing in either is left out."""
    table = {}
    for column in real.schema:
        if not column.is_numeric:
            continue
        pair = [frame[column.name].to_numpy(dtype=float) for frame in (real.frame, synthetic.frame)]
        if all((~np.isnan(values)).any() for values in pair):
            table[column.name] = (moments(pair[0]), moments(pair[1]))
    return table


def spread_by_column(real: PatientTable, synthetic: SyntheticTable) -> dict[str, Spread]:
    """The ratio of standard deviations of each column that `moments_by_column` keeps."""
    return {
        name: spread(pair, tuple(int(frame[name].notna().sum()) for frame in (real.frame, synthetic.frame)))
        for name, pair in moments_by_column(real, synthetic).items()
    }


def spread(pair: tuple[Moments, Moments], counts: tuple[int, ...]) -> Spread:
    """Synthetic over real standard deviation.

    Args:
        pair: Real and synthetic moments.
        counts: Values that are not missing, real and synthetic.

    Returns:
        Two constant columns have ratio 1.

    Source: the standard error of a sample standard deviation by the delta method,
        std * sqrt((excess kurtosis + 2) / (4 n)).
    """
    real, made = pair
    if real.std == 0:
        return Spread(ratio=1.0 if made.std == 0 else None, chance=0.0)
    # Under one population the real kurtosis holds for both samples.
    error = np.sqrt(sum(max(0.0, real.kurtosis + 2) / (4 * count) for count in counts))
    return Spread(ratio=made.std / real.std, chance=float(1.96 * error))


def missing_rates(real: PatientTable, synthetic: SyntheticTable) -> dict[str, tuple[float, float]]:
    """Real and synthetic share of missing cells, within [0, 1], of each column that may be missing."""
    return {
        column.name: (
            float(real.frame[column.name].isna().mean()),
            float(synthetic.frame[column.name].isna().mean()),
        )
        for column in real.schema
        if column.missing
    }
