"""Identity disclosure: is a person found by what others know of them, and something new learnt?

Attacker: knows a few cells of a target (the quasi-identifiers), looks for synthetic rows that agree in
their bins, and reads the secret columns off one of them. Success is *meaningful* disclosure: a row
agrees, and some secret read off it is right and is not what most people have. A person who shares their
known cells with f - 1 others of the data is told apart from them with probability 1 / f only, so the
person's risk is 1 / f where the attacker succeeds and 0 elsewhere; the data's risk is the mean.

The schema's quasi-identifiers are what is known; where it declares none, `KNOWN` columns are drawn `DRAWS`
times and the draw is used that exposes the reference most. Regulators use `LIMIT` for the average risk.
Two figures beside it keep the limit from being misread: the same risk of the holdout, whose patients no
generator learnt from, and the rate at which persons with f = 1 are disclosed, members minus holdout, which is
tested like any attack.
Both sets are taken in groups of equal size, as f falls with the size.

Source: El Emam, Mosquera and Bass, JMIR 2020, 22:e23139 (risk, "learning something new", and 0.09, the
limit of the European Medicines Agency's policy 0070 and Health Canada's). Simpler here, in two ways that
raise the risk: the patients at hand are taken for the whole population, and every match for a true one.
Knows evidence; refuses to know verdicts.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from synthkit.audit.claims import Claims
from synthkit.audit.evidence import Evidence, RealRows
from synthkit.audit.people import counted_in, equal_groups
from synthkit.audit.secrets import modal_rate

NAME = "identity disclosure"
LIMIT = 0.09
KNOWN, DRAWS = 4, 12
COMMON = 0.5
"""A secret that at least this share of the reference has is no news."""
LEVEL_SHARE = 0.02
"""Share of the attempt's level at which the rule fires; see `copies`."""
PURPOSE = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Risk:
    """Per patient: `risk` in [0, 1]; `is_disclosed` where the risk is 1."""

    risk: np.ndarray
    is_disclosed: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Risks:
    """Members' and holdout's risks, and the mean risk of people whose rows were shuffled: the baseline."""

    members: Risk
    holdout: Risk
    baseline_rate: float


def measured(evidence: Evidence) -> Risks | None:
    """The risks under the known columns that expose the reference most; None where nothing is left over."""
    rng, real = evidence.rng(PURPOSE), evidence.real
    open_columns = np.setdiff1d(np.arange(len(evidence.names)), evidence.secrets)
    if not evidence.secrets or not open_columns.size:
        return None
    size = min(len(real.members.people), len(real.holdout.people))
    if evidence.knowledge.is_declared:
        known = np.flatnonzero(evidence.knowledge.quasi)
    else:
        draws = [rng.permutation(open_columns)[:KNOWN] for _ in range(DRAWS)]
        exposed = [_risk(evidence, real.reference, known, size, rng).risk.mean() for known in draws]
        known = draws[int(np.argmax(exposed))]
    blind = _risk(evidence, real.holdout, known, size, rng, is_blind=True)
    return Risks(
        members=_risk(evidence, real.members, known, size, rng),
        holdout=_risk(evidence, real.holdout, known, size, rng),
        baseline_rate=float(blind.is_disclosed.mean()),
    )


def disclose(evidence: Evidence) -> tuple[Claims, ...]:
    """Claim everyone who is alone with their known cells and gives away a secret that is news."""
    risks = measured(evidence)
    if risks is None:
        return ()
    return (
        Claims(
            name=NAME,
            statistic="alone_and_disclosed",
            members=risks.members.is_disclosed,
            holdout=risks.holdout.is_disclosed,
            baseline_rate=risks.baseline_rate,
            holds=False,
        ),
    )


def above_limit(evidence: Evidence, *, level: float) -> tuple[str, ...]:
    """The rule in words, or nothing: members above the limit, and above the holdout beyond chance.

    A risk as high among people whom the generator never saw comes from how alike people are, not from
    the table's descent.

    Args:
        evidence: The measured sets.
        level: False-alarm probability of this attempt.
    """
    risks = measured(evidence)
    if risks is None or risks.members.risk.mean() <= LIMIT:
        return ()
    first, second = risks.members.risk, risks.holdout.risk
    if np.all(first == first[0]) and np.all(second == second[0]):
        p_value = 0.0 if first[0] > second[0] else 1.0
    else:
        test = stats.ttest_ind(first, second, equal_var=False, alternative="greater")
        p_value = float(test.pvalue)
    if not p_value < level * LEVEL_SHARE:
        return ()
    return (f"the members' mean risk of identity disclosure is above {LIMIT:g}, and above the holdout's",)


def figures(evidence: Evidence) -> dict[str, float]:
    """The mean risks, for the diagnostics."""
    risks = measured(evidence)
    if risks is None:
        return {}
    return {
        "identity_risk_members": float(risks.members.risk.mean()),
        "identity_risk_holdout": float(risks.holdout.risk.mean()),
        "identity_risk_limit": LIMIT,
    }


def _risk(
    evidence: Evidence,
    part: RealRows,
    known: np.ndarray,
    size: int,
    rng: np.random.Generator,
    *,
    is_blind: bool = False,
) -> Risk:
    """Each patient's risk, by the first of their rows; blind: the table's columns are shuffled apart."""
    bins = part.bins[part.people.order[part.people.starts]]
    made = evidence.synthetic.bins
    if is_blind:
        made = rng.permuted(made, axis=0)
    cells = _cells([bins[:, known], made[:, known]])
    is_disclosed = np.zeros(len(bins), dtype=bool)
    found = _pick(cells[1], cells[0], rng)
    for column in evidence.secrets:
        common = np.bincount(evidence.real.reference.bins[:, column]).argmax()
        is_news = (bins[:, column] != common) | (modal_rate(evidence.real.reference.bins[:, column]) < COMMON)
        is_disclosed |= (found >= 0) & is_news & (made[found, column] == bins[:, column])
    others = _class_sizes(cells[0], size, rng)
    return Risk(risk=is_disclosed / others, is_disclosed=is_disclosed & (others == 1))


def _cells(tables: list[np.ndarray]) -> list[np.ndarray]:
    """One number for each row's combination of bins, the same in all tables."""
    joint = np.concatenate(tables).astype(np.int64)
    numbers = np.zeros(len(joint), dtype=np.int64)
    for column in joint.T:
        numbers = numbers * (int(joint.max()) + 1) + column
    return np.split(np.unique(numbers, return_inverse=True)[1], np.cumsum([len(t) for t in tables])[:-1])


def _pick(made: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(wanted,) position of a random synthetic row of the same cell, -1 where there is none."""
    order = rng.permutation(len(made))
    order = order[np.argsort(made[order], kind="stable")]
    place = np.searchsorted(made[order], wanted)
    inside = np.minimum(place, len(made) - 1)
    return np.where(made[order[inside]] == wanted, order[inside], -1)


def _class_sizes(cells: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """(people,) how many of each patient's group of `size` share their cell, themselves included."""
    people = len(cells)
    result = np.ones(people)
    for index, group in enumerate(equal_groups(people, size, rng)):
        counts = np.bincount(cells[group], minlength=int(cells.max()) + 1)
        counted = group[: counted_in(people, size, index)]
        result[counted] = counts[cells[counted]]
    return result
