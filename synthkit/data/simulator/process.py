r"""The stated process: how simulated patients fall ill, are treated, come back and leave.

Knows every rate and probability (`process.toml` states them, one by one). Refuses to draw anything:
`sampling` draws from a process, `truth` computes its exact probabilities, and neither holds a number of
its own.

A patient has an age, a sex, a site, and a class u that is never recorded. At each visit, given the
visits before, the gap g to the last one in days and u, independently for each code:

1. Condition k, not present before: its onset has probability 1 - exp(-g/365.25 e^eta), with eta the sum
   of the log of its yearly rate at 60, age, sex, u and every condition and acute event of the state
   before. At the first visit the exposure is all of life so far. An onset is always coded, a condition
   present before is coded with probability `reported`. Conditions never resolve: a condition is present
   from its code's first visit on, so the record tells the state exactly.
2. Acute event m: 1 - exp(-(1 + a cos(2 pi (day - peak)/365.25)) e^eta), day counted within the year.
3. At most one incidental diagnosis, with a probability that depends on u.
4. A drug, laboratory check or procedure b: 1 - exp(-w), w the sum of the weights -log(1 - p) of its
   causes: conditions present before, onsets and acute events of this visit, followers of the last visit.
5. The general examination is coded exactly if nothing else is.

After a visit: death with probability 1 - exp(-e^zeta); else leaving with probability `leaving`; else the
next visit, whose gap is a quarterly appointment (uniform) or, otherwise, 1 + floor(Exp(rate per day)),
cut to `longest`. The record ends at `most_visits` at the latest.

Source: the process is this project's own; the form of (4) is the noisy-or of Pearl (1988), section 4.3.
"""

import tomllib
from dataclasses import dataclass, fields
from functools import cached_property
from importlib.resources import files
from typing import Any

import numpy as np

from synthkit.domain.canonical import digest_of
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.domain.vocabulary import CodeType, Vocabulary
from synthkit.errors import InputError

DAYS_PER_YEAR = 365.25
AGE_PIVOT = 60.0
STEP = 1024.0
"""Weights that are summed by matrix products are whole multiples of 1/STEP: then float32 sums are exact,
and the drawn patients do not depend on the order in which a machine adds."""

GROUPS = ("heart", "lungs", "mind", "joints", "cancer", "other")
SEXES = ("Female", "Male")
ENDS = ("died", "left", "ongoing")
DIED, LEFT, ONGOING = range(3)
INCIDENTAL_HEAD = 5.0
LARGEST_MEAN = 300.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Process:
    """All parameters, float64. Lengths: U classes, S sites, K conditions, M acute events, A = K + M,
    I incidental diagnoses, B followers (drugs, laboratory checks, procedures).

    Codes are numbered conditions, acute events, incidental, general examination, followers.
    """

    vocabulary: Vocabulary
    site_names: tuple[str, ...]
    ages: np.ndarray
    """(ages, 2): age in whole years, and its probability."""
    male: float
    first_days: tuple[int, int]
    """First and last possible day of the first visit, days since 1970-01-01."""
    site_shares: np.ndarray
    """(S,)"""
    class_shares: np.ndarray
    """(S, U): P(u | site)."""
    base: np.ndarray
    """(A,): log rate at 60, a year for conditions, a visit for events."""
    age: np.ndarray
    """(A,): log, per decade."""
    sex: np.ndarray
    """(2, A): log, added for women and men."""
    classes: np.ndarray
    """(U, A): log, added."""
    after: np.ndarray
    """(A, A): log, added to the column's rate by the row's condition or the row's event last time."""
    swing: np.ndarray
    """(M,): relative swing over the year, 0 to below 1."""
    peak: np.ndarray
    """(M,): day of the year."""
    reported: np.ndarray
    """(K,)"""
    incidental: np.ndarray
    """(U,): probability of one incidental diagnosis."""
    incidental_shares: np.ndarray
    """(I,)"""
    old: np.ndarray
    """(K, B): weight of a condition present before."""
    new: np.ndarray
    """(A, B): weight of an onset or an event at this visit."""
    last: np.ndarray
    """(B, B): weight of the row's follower at the last visit."""
    visit_base: np.ndarray
    """(U,): log visits a year without conditions."""
    visit_condition: float
    visit_acute: float
    scheduled: np.ndarray
    """(2,): probability of a quarterly appointment without and with a drug at this visit."""
    quarter: tuple[int, int]
    longest: int
    death_base: np.ndarray
    """(U,): log rate a visit at 60."""
    death_age: float
    death_conditions: np.ndarray
    """(K,)"""
    leaving: float
    most_visits: int

    @property
    def conditions(self) -> int:
        """K."""
        return self.reported.size

    @property
    def events(self) -> int:
        """A: conditions and acute events."""
        return self.base.size

    @property
    def rest(self) -> int:
        """The number of the general examination's code."""
        return self.events + self.incidental_shares.size

    @property
    def drugs(self) -> range:
        """The followers that are drugs, counted among followers."""
        return range(len(self.vocabulary.of_type(CodeType.DRUG)))

    @cached_property
    def schema(self) -> Schema:
        """The longitudinal schema of the records: all of it public, for it is stated here."""
        low, high = (float(age) for age in self.ages[[0, -1], 0])
        columns = (
            Column(
                name="code",
                kind=Kind.CODE,
                categories=self.vocabulary.codes,
                types=self.vocabulary.types,
            ),
            Column(name="age", kind=Kind.INTEGER, minimum=low, maximum=high, unit="years"),
            Column(name="sex", kind=Kind.BINARY, categories=SEXES),
            Column(name="site", kind=Kind.CATEGORICAL, categories=self.site_names),
            Column(name="end", kind=Kind.CATEGORICAL, categories=ENDS),
        )
        return Schema(columns=columns, patient_id="patient", visit="visit", time="date", name="simulated")

    @property
    def digest(self) -> str:
        """SHA-256 over every parameter: two processes of one digest give the same patients."""
        return digest_of({entry.name: _plain(getattr(self, entry.name)) for entry in fields(self)})


def _plain(value: Any) -> Any:  # noqa: ANN401 - any parameter
    if isinstance(value, np.ndarray):
        return np.asarray(value, dtype=float).tolist()
    return value.digest if isinstance(value, Vocabulary) else value


def standard_process(*, visits_mean: float = 52.0, most_visits: int = 400) -> Process:
    """The process that `process.toml` states.

    Args:
        visits_mean: Mean number of visits of a patient who does not die and meets no cap.
        most_visits: Where a record ends at the latest.

    Raises:
        InputError: One of the two is out of range.
    """
    if not 1.0 <= visits_mean <= LARGEST_MEAN:
        raise InputError(f"the mean is not within 1 to {LARGEST_MEAN:g}", where="visits a patient")
    if most_visits < 1:
        raise InputError("the cap is below 1", where="visits a patient")
    text = (files("synthkit.data.simulator") / "process.toml").read_text("utf-8")
    return _Stated(tomllib.loads(text)).process(1.0 / visits_mean, most_visits)


class _Stated:
    """The document's tables as arrays."""

    def __init__(self, tables: dict[str, Any]) -> None:
        self._tables = tables
        self._causes = [*tables["condition"], *tables["event"]]
        self._followers = [*tables["drug"], *tables["laboratory"], *tables["procedure"]]
        self._cause = {entry["code"]: place for place, entry in enumerate(self._causes)}
        self._follower = {entry["code"]: place for place, entry in enumerate(self._followers)}

    def process(self, leaving: float, most_visits: int) -> Process:
        people, incidental = self._tables["people"], self._tables["incidental"]
        shares = np.array(people["site_shares"], dtype=float)
        places = np.arange(len(incidental["codes"]))
        low, high = people["first_days"]
        return Process(
            vocabulary=self._vocabulary(),
            site_names=tuple(people["sites"]),
            ages=self._ages(),
            male=people["male"],
            first_days=(low, high),
            site_shares=shares / shares.sum(),
            class_shares=np.array([self._tables["classes"][site] for site in people["sites"]], dtype=float),
            incidental=np.array(incidental["rate"], dtype=float),
            incidental_shares=_shares(1.0 / (places + INCIDENTAL_HEAD)),
            leaving=leaving,
            most_visits=most_visits,
            **self._rates(),
            **self._weights(),
            **self._visits(),
        )

    def _vocabulary(self) -> Vocabulary:
        incidental, rest = self._tables["incidental"]["codes"], self._tables["rest"]["code"]
        named = {
            CodeType.DIAGNOSIS: [*self._cause, *incidental, rest],
            CodeType.DRUG: [entry["code"] for entry in self._tables["drug"]],
            CodeType.LABORATORY: [entry["code"] for entry in self._tables["laboratory"]],
            CodeType.PROCEDURE: [entry["code"] for entry in self._tables["procedure"]],
        }
        return Vocabulary(
            codes=tuple(code for codes in named.values() for code in codes),
            types=tuple(kind for kind, codes in named.items() for _ in codes),
        )

    def _ages(self) -> np.ndarray:
        people = self._tables["people"]
        ages = np.arange(people["ages"][0], people["ages"][1] + 1, dtype=float)
        distances = (ages - people["age_peak"]) / people["age_spread"]
        return np.stack([ages, _shares(np.exp(-(distances**2) / 2))], axis=1)

    def _rates(self) -> dict[str, Any]:
        numbers = [entry["numbers"] for entry in self._causes]
        rates = [n["yearly"] / 1000 if "yearly" in n else n["visit"] for n in numbers]
        seasons = [entry.get("season", (0.0, 0.0)) for entry in self._tables["event"]]
        groups = [entry["group"] for entry in self._causes]
        after = np.zeros((len(numbers), len(numbers)))
        for target, entry in enumerate(self._causes):
            for code, weight in entry.get("after", {}).items():
                after[self._cause[code], target] = weight
        return {
            "base": np.log(rates),
            "age": np.array([n["age"] for n in numbers], dtype=float),
            "sex": np.array([[n.get(sex, 0.0) for n in numbers] for sex in ("women", "men")], dtype=float),
            "classes": np.array([self._tables["classes"][group] for group in groups], dtype=float).T,
            "after": _exact(after),
            "swing": np.array([swing for swing, _ in seasons], dtype=float),
            "peak": np.array([peak for _, peak in seasons], dtype=float),
            "reported": np.array([n["reported"] for n in numbers if "reported" in n], dtype=float),
        }

    def _weights(self) -> dict[str, Any]:
        count, conditions = len(self._followers), len(self._tables["condition"])
        old, new = np.zeros((conditions, count)), np.zeros((len(self._causes), count))
        last = np.zeros((count, count))
        for target, entry in enumerate(self._followers):
            for code, chance in entry.get("old", {}).items():
                old[self._cause[code], target] = chance
            for code, chance in entry.get("new", {}).items():
                new[self._cause[code], target] = chance
            for code, chance in entry.get("last", {}).items():
                last[self._follower[code], target] = chance
            last[target, target] = entry.get("stay", 0.0)
        return {name: _exact(-np.log1p(-p)) for name, p in (("old", old), ("new", new), ("last", last))}

    def _visits(self) -> dict[str, Any]:
        visits, death = self._tables["visits"], self._tables["death"]
        conditions = np.zeros(len(self._tables["condition"]))
        for code, weight in death["conditions"].items():
            conditions[self._cause[code]] = weight
        low, high = visits["quarter"]
        return {
            "visit_base": np.log(visits["yearly"]) + np.array(visits["class"], dtype=float),
            "visit_condition": float(visits["condition"]),
            "visit_acute": float(visits["acute"]),
            "scheduled": np.array(visits["scheduled"], dtype=float),
            "quarter": (low, high),
            "longest": visits["longest"],
            "death_base": np.log(death["visit"]) + np.array(death["class"], dtype=float),
            "death_age": float(death["age"]),
            "death_conditions": conditions,
        }


def _shares(weights: np.ndarray) -> np.ndarray:
    shares: np.ndarray = weights / weights.sum()
    return shares


def _exact(weights: np.ndarray) -> np.ndarray:
    """Rounded to multiples of 1/STEP, see there."""
    rounded: np.ndarray = np.rint(weights * STEP) / STEP
    return rounded
