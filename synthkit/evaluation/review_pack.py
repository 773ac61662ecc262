"""A blinded review pack: real and generated records in random order, and the key that tells them apart.

Knows real records, generated ones and a source of chance. Refuses to write anything: the key and the pages
go to different places, which is the command's work. Rules: each record is real by the toss of a fair coin
of its own, so that whoever guesses, in whatever way, is right with probability 1/2 at each; both kinds are
formatted by one function; no patient id, no calendar date; what a page shows does not depend on its kind.

Source: EVA (Biswal et al. 2020), section 5.4, showed a clinician fifty of either kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from synthkit.data.sequences import PatientSequences, Sequences, SyntheticSequences
from synthkit.domain.canonical import JsonObject
from synthkit.domain.schema import Column, Kind
from synthkit.domain.vocabulary import Vocabulary
from synthkit.errors import InputError
from synthkit.report.review_pages import ReviewRecord, ReviewVisit

MOST_VISITS = 60
"""Of each record the first ones are shown, real or not."""

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ReviewKey:
    """Which record of a pack is real. `pack` is part of every record's name."""

    pack: str
    is_real: Mapping[str, bool]

    def to_json(self) -> JsonObject:
        """The key file's document."""
        kinds = {name: "real" if real else "synthetic" for name, real in self.is_real.items()}
        return {"format": FORMAT, "kind": "review key", "pack": self.pack, "records": kinds}

    @classmethod
    def from_json(cls, document: JsonObject) -> "ReviewKey":
        """Inverse of `to_json`.

        Raises:
            InputError: The document is no key.
        """
        records, pack = document.get("records"), document.get("pack")
        kinds = {"real": True, "synthetic": False}
        is_key = document.get("format") == FORMAT and document.get("kind") == "review key"
        if not is_key or not isinstance(records, dict) or not isinstance(pack, str) or not records:
            raise InputError("is not the key of a review pack", fix="give the file that review pack wrote")
        if not all(value in kinds for value in records.values()):
            raise InputError("the key of the review pack is damaged", fix="make a new pack")
        return cls(pack=pack, is_real={name: kinds[value] for name, value in records.items()})


@dataclass(frozen=True, kw_only=True, repr=False)
class ReviewPack:
    """The records in the order in which they are shown, and the key."""

    records: tuple[ReviewRecord, ...]
    key: ReviewKey


def make_pack(
    real: PatientSequences, synthetic: SyntheticSequences, *, count: int, rng: np.random.Generator
) -> ReviewPack:
    """Draw a pack.

    Args:
        real: Real records.
        synthetic: Generated ones of the same schema.
        count: How many records to show, of both kinds together.
        rng: Of the coins, the choice and the order. Whoever knows its seed knows the key.

    Raises:
        InputError: Fewer patients of one kind than records asked for, or the schemas differ.
    """
    if real.schema.digest != synthetic.schema.digest:
        raise InputError("the two sets of records have different schemas", fix="give both one schema")
    if (real.gaps is None) is not (synthetic.gaps is None):
        raise InputError("one kind of record has times and the other has none", fix="give both, or neither")
    if count < 1 or min(real.patient_count, synthetic.patient_count) < count:
        raise InputError(
            "does not fit the records: each kind must have as many patients as the pack",
            where="option -n",
            fix="ask for fewer, or generate more",
        )
    pack = "".join(rng.choice(list("ABCDEFGHJKLMNPQRSTUVWXYZ"), size=5))
    coins = rng.random(count) < 0.5
    sides = [side.take(rng.permutation(side.patient_count)[:count]) for side in (synthetic, real)]
    digits = max(3, len(str(count)))
    names = [f"{pack}-{number:0{digits}d}" for number in range(1, count + 1)]
    shown = [
        _record(sides[int(is_real)], place, name)
        for place, (name, is_real) in enumerate(zip(names, coins.tolist(), strict=True))
    ]
    key = ReviewKey(pack=pack, is_real=dict(zip(names, coins.tolist(), strict=True)))
    return ReviewPack(records=tuple(shown), key=key)


def _record(records: Sequences, place: int, name: str) -> ReviewRecord:
    one = records.take(np.array([place]))
    kept = one.first_visits(MOST_VISITS)
    days, vocabulary = kept.days, kept.schema.vocabulary
    return ReviewRecord(
        name=name,
        facts=_facts(one),
        visits=tuple(
            ReviewVisit(
                day=None if days is None else int(days[visit] - days[0]),
                codes=_by_type(vocabulary, kept.codes[slice(*kept.visit_starts[visit : visit + 2])]),
            )
            for visit in range(kept.visit_count)
        ),
        more=one.visit_count - kept.visit_count,
    )


def _by_type(vocabulary: Vocabulary, codes: np.ndarray) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: dict[str, list[str]] = {kind.value: [] for kind in dict.fromkeys(vocabulary.types)}
    for code in codes:
        found[vocabulary.types[code].value].append(vocabulary.codes[code])
    return tuple((kind, tuple(names)) for kind, names in found.items())


def _facts(one: Sequences) -> tuple[tuple[str, str], ...]:
    """Static columns but for dates; formatted by the schema alone, so that no format betrays a kind."""
    columns = [column for column in one.schema.statics or () if column.kind is not Kind.DATETIME]
    return tuple((_title(column), _cell(column, one.statics[column.name].iloc[0])) for column in columns)


def _title(column: Column) -> str:
    return f"{column.name} ({column.unit})" if column.unit else column.name


def _cell(column: Column, value: object) -> str:
    if value is None or value != value:  # noqa: PLR0124 - NaN is the one value that is not itself
        return "missing"
    return f"{float(str(value)):.{column.decimals}f}" if column.is_numeric else str(value)
