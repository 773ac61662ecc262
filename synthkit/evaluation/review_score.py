"""Did the reviewers tell real records from generated ones? Accuracy, intervals, tests, agreement.

Knows answers and the key. Refuses to guess what an answer means: real, synthetic, or left empty. Rules: a
record was real by the toss of a coin, so that under guessing a reviewer's right answers are binomial with
1/2, however they answer; reviewers judge the same records, so that their answers pooled are not independent:
the pooled interval counts records as the units, and the pooled test tosses the records' coins anew.

Source: Clopper and Pearson 1934 (intervals); Korn and Graubard 1998 (the same with clusters); Krippendorff,
Content Analysis, 2004, section 11.3 (agreement).
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from synthkit.domain.canonical import JsonObject
from synthkit.domain.utility import Estimate
from synthkit.errors import InputError
from synthkit.evaluation.review_pack import ReviewKey

COLUMNS = ("reviewer", "record", "answer")
MEANINGS = {"real": True, "synthetic": False}
TOSSES = 20_000
CONFIDENCE, LEVEL = 0.95, 0.05


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One reviewer's word on one record."""

    reviewer: str
    record: str
    says_real: bool


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Answers scored.

    `accuracy` with its 95 % interval. `p_value` of guessing, two-sided: to be always wrong is to tell them
    apart, too. `needed`: the least accuracy above 1/2 that these many answers would have told from
    guessing at 5 %; None where none would. `real_called_real`, `synthetic_called_real`: NaN without any.
    """

    answers: int
    right: int
    accuracy: Estimate
    p_value: float
    needed: float | None
    real_called_real: float
    synthetic_called_real: float

    def to_json(self) -> JsonObject:
        """All figures, by name."""
        return {**vars(self), "accuracy": self.accuracy.to_json()}


@dataclass(frozen=True, kw_only=True)
class ReviewScore:
    """Every reviewer, and all together. `agreement`: Krippendorff's alpha, 1 is full and 0 that of chance;
    None with fewer than two reviewers of a common record, or where all answers are one.
    """

    pack: str
    reviewers: dict[str, Judgement]
    pooled: Judgement
    agreement: float | None

    def to_json(self) -> JsonObject:
        """All figures, by name."""
        return {
            "pack": self.pack,
            "confidence": CONFIDENCE,
            "reviewers": {name: one.to_json() for name, one in self.reviewers.items()},
            "pooled": self.pooled.to_json(),
            "agreement": self.agreement,
        }


def read_answers(text: str, key: ReviewKey, *, where: str) -> tuple[Answer, ...]:
    """The answers in a CSV of the columns reviewer, record and answer; empty answers are left out.

    Raises:
        InputError: Another header, a row of another length, an answer that is neither, a record of another
            pack, a reviewer without a name, or a record that a reviewer answers twice. The message names
            the first row found to.
    """
    try:
        rows = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error:
        rows = []
    fix = f"a CSV with the header {','.join(COLUMNS)}"
    if not rows or tuple(cell.strip().lower() for cell in rows[0]) != COLUMNS:
        raise InputError("is not a file of answers", where=where, fix=fix)
    found: dict[tuple[str, str], Answer] = {}
    for number, row in enumerate(rows[1:], start=1):
        answer = _answer(row, key, place=f"{where}: row {number} (line {number + 1})")
        if answer is None:
            continue
        if (answer.reviewer, answer.record) in found:
            raise _wrong("the reviewer answers a record twice", where, number, "keep one of the two")
        found[answer.reviewer, answer.record] = answer
    return tuple(found.values())


def _wrong(what: str, where: str, number: int, fix: str) -> InputError:
    return InputError(what, where=f"{where}: row {number} (line {number + 1})", fix=fix)


def _answer(row: list[str], key: ReviewKey, *, place: str) -> Answer | None:
    cells = [cell.strip() for cell in row]
    if not any(cells):
        return None
    if len(cells) != len(COLUMNS):
        raise InputError("does not have three cells", where=place, fix="reviewer,record,answer")
    reviewer, record, answer = cells
    if record not in key.is_real:
        raise InputError("no such record in this pack", where=place, fix="check the name, and the key")
    if not answer:
        return None
    if answer.lower() not in MEANINGS:
        raise InputError("the answer is neither", where=place, fix="real, synthetic or empty")
    if not reviewer:
        raise InputError("no reviewer is named", where=place, fix="write a name or initials")
    return Answer(reviewer=reviewer, record=record, says_real=MEANINGS[answer.lower()])


def score(answers: Sequence[Answer], key: ReviewKey, *, seed: int = 0) -> ReviewScore:
    """Score answers.

    Args:
        answers: Of one pack; at most one of each reviewer on each record.
        key: The pack's key.
        seed: Of the pooled test's tosses.

    Raises:
        InputError: There is no answer, or a reviewer answers a record twice.
    """
    if not answers:
        raise InputError("no record is answered", where="answers", fix="write real or synthetic")
    if len({(one.reviewer, one.record) for one in answers}) != len(answers):
        what = "a reviewer answers a record twice"
        raise InputError(what, where="answers", fix="give each file once, and each reviewer an own name")
    names = list(dict.fromkeys(one.reviewer for one in answers))
    by_name = {name: [one for one in answers if one.reviewer == name] for name in names}
    return ReviewScore(
        pack=key.pack,
        reviewers={name: _alone(some, key) for name, some in by_name.items()},
        pooled=_pooled(answers, key, seed) if len(names) > 1 else _alone(answers, key),
        agreement=agreement(answers),
    )


def _alone(answers: Sequence[Answer], key: ReviewKey) -> Judgement:
    """One reviewer: every answer is about another record, and its coin is independent of all others."""
    right = sum(one.says_real == key.is_real[one.record] for one in answers)
    test = stats.binomtest(right, len(answers), 0.5)
    lower, upper = clopper_pearson(right, len(answers))
    return Judgement(
        answers=len(answers),
        right=right,
        accuracy=Estimate(mean=right / len(answers), lower=lower, upper=upper),
        p_value=float(test.pvalue),
        needed=_needed(len(answers)),
        real_called_real=_called_real(answers, key, is_real=True),
        synthetic_called_real=_called_real(answers, key, is_real=False),
    )


def _called_real(answers: Sequence[Answer], key: ReviewKey, *, is_real: bool) -> float:
    said = [one.says_real for one in answers if key.is_real[one.record] is is_real]
    return sum(said) / len(said) if said else float("nan")


def clopper_pearson(right: float, count: float) -> tuple[float, float]:
    """The exact 95 % interval of a share; `right` and `count` need not be whole."""
    tail = (1 - CONFIDENCE) / 2
    lower = stats.beta.ppf(tail, right, count - right + 1) if right > 0 else 0.0
    upper = stats.beta.ppf(1 - tail, right + 1, count - right) if right < count else 1.0
    return float(lower), float(upper)


def _needed(count: int) -> float | None:
    for right in range(count // 2 + 1, count + 1):
        if stats.binomtest(right, count, 0.5).pvalue < LEVEL:
            return right / count
    return None


def _pooled(answers: Sequence[Answer], key: ReviewKey, seed: int) -> Judgement:
    records = list(dict.fromkeys(one.record for one in answers))
    places = {record: place for place, record in enumerate(records)}
    said_real, said_other = np.zeros(len(records)), np.zeros(len(records))
    for one in answers:
        (said_real if one.says_real else said_other)[places[one.record]] += 1
    truth = np.array([key.is_real[record] for record in records])
    right = np.where(truth, said_real, said_other)
    count, total = said_real + said_other, len(answers)
    share = right.sum() / total
    units = _effective(right, count, share)
    lower, upper = clopper_pearson(share * units, units)
    coins = np.random.default_rng(seed).random((TOSSES, len(records))) < 0.5
    tossed = np.where(coins, said_real, said_other).sum(axis=1)
    far = np.abs(tossed - total / 2) >= abs(right.sum() - total / 2) - 1e-9
    critical = np.quantile(np.abs(tossed - total / 2), 1 - LEVEL, method="higher")
    needed = (total / 2 + critical + 1) / total
    return Judgement(
        answers=total,
        right=int(right.sum()),
        accuracy=Estimate(mean=float(share), lower=lower, upper=upper),
        p_value=float((1 + far.sum()) / (1 + TOSSES)),
        needed=float(needed) if needed <= 1 else None,
        real_called_real=_called_real(answers, key, is_real=True),
        synthetic_called_real=_called_real(answers, key, is_real=False),
    )


def _effective(right: np.ndarray, count: np.ndarray, share: float) -> float:
    """How many independent answers these are worth: from the spread between records, never more than
    there are; as many as records where all are right or all wrong.
    """
    records, total = right.size, float(count.sum())
    spread = float(((right - share * count) ** 2).sum())
    if records < 2 or spread == 0:
        return float(records)
    variance = spread * records / (records - 1) / total**2
    return min(total, share * (1 - share) / variance)


def agreement(answers: Sequence[Answer]) -> float | None:
    """Krippendorff's alpha of nominal answers, whoever left out what."""
    said: dict[str, list[bool]] = {}
    for one in answers:
        said.setdefault(one.record, []).append(one.says_real)
    shared = [values for values in said.values() if len(values) > 1]
    total = sum(len(values) for values in shared)
    real = sum(sum(values) for values in shared)
    if not shared or real in (0, total):
        return None
    apart = sum(2 * sum(values) * (len(values) - sum(values)) / (len(values) - 1) for values in shared)
    return 1 - (total - 1) * apart / (2 * real * (total - real))
