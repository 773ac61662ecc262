"""Schema and Column: what is publicly known about a table before any row is read.

Knows names, kinds, public bounds and categories. Refuses to know any row. Rules: a bound or category
carries its provenance; what was read off private rows (`"data"`) blocks private training; what is marked
`"dp"` counts only once it was bought, and whatever a draft says in its place is not believed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from synthkit.domain.canonical import JsonObject, digest_of
from synthkit.domain.kinds import Kind, Provenance, Scale
from synthkit.domain.quasi_identifiers import check_quasi_identifiers
from synthkit.domain.record_caps import NAME as CAPS
from synthkit.domain.record_caps import RecordCaps
from synthkit.domain.vocabulary import CodeType, Prefixes, Vocabulary
from synthkit.errors import SchemaError

__all__ = [
    "LONGITUDINAL_FIX",
    "MAX_CATEGORIES",
    "NUMERIC_KINDS",
    "OTHER",
    "Column",
    "Kind",
    "Provenance",
    "Scale",
    "Schema",
]

NUMERIC_KINDS = frozenset({Kind.NUMERIC, Kind.INTEGER, Kind.DURATION, Kind.DATETIME})
"""Kinds with bounds; all others have categories. A datetime's bounds are ISO dates."""

MAX_CATEGORIES = 10_000
"""A column with more levels is a free text or an identifier, not a category."""

LONGITUDINAL_FIX = "name patient_id and visit under [table], and declare one column of kind code"

OTHER = "other"
"""Last category of every bought list: it stands for all levels too rare to be bought."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table.

    `minimum` and `maximum` are inclusive, in `unit`; for a datetime they are days since 1970-01-01.
    `categories` is the full, ordered list of levels as text. `missing` says whether a cell may be
    empty. `decimals` is the number of decimals of every released value (0 for whole numbers).
    `spikes` are values known in advance to be frequent, each kept as a state of its own. `edges` are the
    first values of the second and every further bin, ascending; empty: the bins follow from the bounds.

    `provenance` speaks of bounds and categories, `bins` of edges and spikes. With `provenance` DP all of
    them are bought; with `bins` DP alone the bounds are public and the edges bought. A bought column is
    told from a draft by its edges, or by `OTHER` as its last category.

    `types` belongs to a code column: what each of its categories names. Empty: the list does not say.
    `prefixes` belongs to one whose list is bought: a public rule by which bought codes get their type.
    """

    name: str
    kind: Kind
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    unit: str = ""
    missing: bool = False
    provenance: Provenance = Provenance.PUBLIC
    decimals: int = 0
    scale: Scale = Scale.LINEAR
    spikes: tuple[float, ...] = ()
    target: bool = False
    edges: tuple[float, ...] = ()
    bins: Provenance = Provenance.PUBLIC
    types: tuple[CodeType, ...] = ()
    prefixes: Prefixes = ()

    def __post_init__(self) -> None:
        where = f"column {self.name}"
        if self.bins is Provenance.DATA or (self.bins is Provenance.DP and not self.is_numeric):
            raise SchemaError('bins is "public" or, in a numeric column, "dp"', where=where, fix="correct it")
        if self.prefixes and (self.kind is not Kind.CODE or self.provenance is not Provenance.DP):
            raise SchemaError("prefixes belong to a code list that is bought", where=where, fix="remove them")
        if self.types:
            self._check_types(where)
        if self.is_numeric:
            self._check_numeric(where)
            return
        if self.edges:
            raise SchemaError(f"a {self.kind} column has no edges", where=where, fix="remove edges")
        if self.kind in (Kind.BINARY, Kind.EVENT) and self.provenance is Provenance.DP:
            raise SchemaError(
                f"the two categories of a {self.kind} column cannot be bought",
                where=where,
                fix='list the two and set provenance = "public"',
            )
        if self.kind is not Kind.CODE and not (self.is_to_buy and not self.categories):
            self._check_categories(where)

    def _check_types(self, where: str) -> None:
        if self.kind is not Kind.CODE or len(self.types) != len(self.categories):
            raise SchemaError("types belong to the codes of a code column", where=where, fix="remove them")
        try:
            Vocabulary(codes=self.categories, types=self.types)
        except SchemaError as error:
            raise SchemaError(error.what, where=where, fix=error.fix) from None

    def _check_numeric(self, where: str) -> None:
        if self.categories:
            raise SchemaError("a numeric column has no categories", where=where, fix="remove categories")
        if not 0 <= self.decimals <= 9:
            raise SchemaError("decimals is not within 0 to 9", where=where, fix="give 0 to 9")
        if self.provenance is Provenance.DP and not self.edges and self.minimum is self.maximum is None:
            return
        self._check_bounds(where)

    def _check_bounds(self, where: str) -> None:
        if self.minimum is None or self.maximum is None:
            raise SchemaError("minimum and maximum are missing", where=where, fix="give the public bounds")
        if not self.minimum < self.maximum:
            raise SchemaError("minimum is not below maximum", where=where, fix="correct the bounds")
        if any(not self.minimum <= spike <= self.maximum for spike in self.spikes):
            raise SchemaError("a spike lies outside the bounds", where=where, fix="correct spikes")
        ascending = (self.minimum, *self.edges)
        if any(not low < high for low, high in pairwise(ascending)) or ascending[-1] > self.maximum:
            raise SchemaError("edges do not ascend within the bounds", where=where, fix="correct edges")
        if self.is_whole and any(not edge.is_integer() for edge in self.edges):
            raise SchemaError("an edge is not whole in a column of whole numbers", where=where)

    def _check_categories(self, where: str) -> None:
        if self.minimum is not None or self.maximum is not None:
            raise SchemaError(f"a {self.kind} column has no bounds", where=where, fix="give categories")
        if not self.categories:
            raise SchemaError("categories are missing", where=where, fix="list every allowed value")
        if len(set(self.categories)) != len(self.categories):
            raise SchemaError("a category is listed twice", where=where, fix="list each once")
        if "" in self.categories:
            raise SchemaError("an empty category", where=where, fix="use missing = true for empty cells")
        if len(self.categories) > MAX_CATEGORIES:
            raise SchemaError(
                f"more than {MAX_CATEGORIES} categories", where=where, fix="group them, or drop the column"
            )
        if self.kind in (Kind.BINARY, Kind.EVENT) and len(self.categories) != 2:
            raise SchemaError(f"a {self.kind} column has exactly two categories", where=where)

    @property
    def is_numeric(self) -> bool:
        """Whether the column has bounds rather than categories."""
        return self.kind in NUMERIC_KINDS

    @property
    def is_whole(self) -> bool:
        """Whether every value is a whole number (days count as whole)."""
        return self.kind in (Kind.INTEGER, Kind.DATETIME) or (self.is_numeric and self.decimals == 0)

    @property
    def buys_bins(self) -> bool:
        """Whether a numeric column's division into bins is bought, or still to be."""
        return self.is_numeric and Provenance.DP in (self.provenance, self.bins)

    @property
    def is_to_buy(self) -> bool:
        """Whether the column asks for something to be bought and it is not there yet."""
        if self.is_numeric:
            return self.buys_bins and not self.edges
        return self.provenance is Provenance.DP and self.categories[-1:] != (OTHER,)

    @property
    def is_bought(self) -> bool:
        """Whether the column claims to have been bought; only a ledger can tell whether it was."""
        return (self.buys_bins or self.provenance is Provenance.DP) and not self.is_to_buy

    @property
    def ranked(self) -> tuple[str, ...]:
        """The categories that can be compared: a bought `OTHER` is neither above nor below any."""
        return self.categories[:-1] if self.is_bought else self.categories

    @property
    def blank(self) -> "Column":
        """The column without what is still to be bought, whatever a draft says in its place."""
        if not self.is_to_buy or self.provenance is not Provenance.DP:
            return self
        return replace(
            self, minimum=None, maximum=None, categories=(), types=(), spikes=(), scale=Scale.LINEAR
        )

    def to_json(self) -> JsonObject:
        """All fields, in the canonical document's form; edges, bins and types only where there are any."""
        bought: JsonObject = {}
        if self.edges:
            bought["edges"] = list(self.edges)
        if self.bins is not Provenance.PUBLIC:
            bought["bins"] = self.bins.value
        if self.types:
            bought["types"] = [kind.value for kind in self.types]
        if self.prefixes:
            bought["prefixes"] = [[prefix, kind.value] for prefix, kind in self.prefixes]
        return {
            **bought,
            "name": self.name,
            "kind": self.kind.value,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "categories": list(self.categories),
            "unit": self.unit,
            "missing": self.missing,
            "provenance": self.provenance.value,
            "decimals": self.decimals,
            "scale": self.scale.value,
            "spikes": list(self.spikes),
            "target": self.target,
        }

    @classmethod
    def from_json(cls, document: JsonObject) -> "Column":
        """Inverse of `to_json`."""
        return cls(
            name=document["name"],
            kind=Kind(document["kind"]),
            minimum=document["minimum"],
            maximum=document["maximum"],
            categories=tuple(document["categories"]),
            unit=document["unit"],
            missing=document["missing"],
            provenance=Provenance(document["provenance"]),
            decimals=document["decimals"],
            scale=Scale(document["scale"]),
            spikes=tuple(document["spikes"]),
            target=document["target"],
            edges=tuple(document.get("edges", ())),
            bins=Provenance(document.get("bins", Provenance.PUBLIC.value)),
            types=tuple(CodeType(kind) for kind in document.get("types", ())),
            prefixes=tuple((prefix, CodeType(kind)) for prefix, kind in document.get("prefixes", ())),
        )


@dataclass(frozen=True, kw_only=True)
class Schema:
    """A table's columns in release order, and its roles.

    `patient_id` names the column that identifies the patient in the *source* table. It is used to
    group, to split and to find duplicates; it is never encoded, generated or released.

    A longitudinal table has one row for each code of a visit. `visit` then names the column that orders
    a patient's visits, `time` the one with each visit's date, or its day counted from any day; the one
    code column holds the codes; all other columns are static: one value a patient.
    """

    columns: tuple[Column, ...]
    patient_id: str | None = None
    visit: str | None = None
    name: str = "table"
    ignored: tuple[str, ...] = field(default=())
    """Source columns that are allowed to be there and are dropped on reading."""
    time: str | None = None
    quasi_identifiers: tuple[str, ...] = ()
    """What others may know of a patient; an audit's attackers do. None declared: the audit draws columns."""
    caps: RecordCaps | None = None
    """How long a longitudinal table's records may be; None: whoever trains on them says so."""

    def __post_init__(self) -> None:
        names = self.names
        if not names:
            raise SchemaError("the schema has no columns", fix="add a [columns.NAME] table for each")
        if len(set(names)) != len(names):
            raise SchemaError("a column is declared twice", fix="declare each once")
        if self.patient_id in names:
            raise SchemaError(
                "the patient id is also a data column",
                where=f"column {self.patient_id}",
                fix="remove its [columns] table; an id is never generated",
            )
        if self.time is not None:
            self._check_time()
        if self.caps is not None and not self.is_longitudinal:
            raise SchemaError("caps belong to a longitudinal table", where=CAPS, fix=LONGITUDINAL_FIX)
        static = [name for name in names if not self.is_longitudinal or name != self.code.name]
        check_quasi_identifiers(self.quasi_identifiers, static)

    def _check_time(self) -> None:
        where = f"column {self.time}"
        if self.time in (*self.names, self.patient_id, self.visit):
            raise SchemaError("the time column has another role too", where=where, fix="give it one role")
        if not self.is_longitudinal:
            raise SchemaError("a time belongs to a longitudinal table", where=where, fix=LONGITUDINAL_FIX)

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the data columns, in release order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The column of that name.

        Raises:
            SchemaError: There is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise SchemaError("no such column", where=f"column {name}", fix="see the schema's [columns]")

    @property
    def is_longitudinal(self) -> bool:
        """Whether the table is of visits with codes: one row a code."""
        codes = [column for column in self.columns if column.kind is Kind.CODE]
        roles = self.patient_id is not None and self.visit is not None and self.visit not in self.names
        return roles and len(codes) == 1

    @property
    def code(self) -> Column:
        """A longitudinal table's code column.

        Raises:
            SchemaError: The table is not longitudinal.
        """
        if not self.is_longitudinal:
            raise SchemaError("the schema is not of a longitudinal table", fix=LONGITUDINAL_FIX)
        return next(column for column in self.columns if column.kind is Kind.CODE)

    @property
    def vocabulary(self) -> Vocabulary:
        """The code column's list.

        Raises:
            SchemaError: The table is not longitudinal, or its codes are not listed.
        """
        column = self.code
        types = column.types or (CodeType.UNTYPED,) * len(column.categories)
        return Vocabulary(codes=column.categories, types=types)

    @property
    def statics(self) -> "Schema | None":
        """The schema of a longitudinal table's patients, one row each; None if it has no static column.

        Raises:
            SchemaError: The table is not longitudinal.
        """
        others = tuple(column for column in self.columns if column is not self.code)
        if not others:
            return None
        return Schema(
            columns=others,
            patient_id=self.patient_id,
            name=self.name,
            ignored=self.ignored,
            quasi_identifiers=self.quasi_identifiers,
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical schema: what a study's signature binds."""
        return digest_of(self.to_json())

    def not_public(self) -> tuple[str, ...]:
        """Names of the columns whose bounds or categories were read off the data."""
        return tuple(c.name for c in self.columns if c.provenance is Provenance.DATA)

    def to_buy(self) -> tuple[str, ...]:
        """Names of the columns that ask for something to be bought and do not have it yet; caps last."""
        caps = (CAPS,) if self.caps is not None and self.caps.is_to_buy else ()
        return (*(c.name for c in self.columns if c.is_to_buy), *caps)

    def bought(self) -> tuple[str, ...]:
        """Names of the columns that claim to have been bought; caps last."""
        caps = (CAPS,) if self.caps is not None and self.caps.is_bought else ()
        return (*(c.name for c in self.columns if c.is_bought), *caps)

    @property
    def blank(self) -> "Schema":
        """The schema without what is still to be bought: all that a purchase may know beforehand."""
        return replace(self, columns=tuple(column.blank for column in self.columns))

    def to_json(self) -> JsonObject:
        """All fields, in the canonical document's form."""
        return {
            **({} if self.time is None else {"time": self.time}),
            **({"quasi_identifiers": list(self.quasi_identifiers)} if self.quasi_identifiers else {}),
            **({} if self.caps is None else {"caps": self.caps.to_json()}),
            "name": self.name,
            "patient_id": self.patient_id,
            "visit": self.visit,
            "ignored": list(self.ignored),
            "columns": [column.to_json() for column in self.columns],
        }

    @classmethod
    def from_json(cls, document: JsonObject) -> "Schema":
        """Inverse of `to_json`."""
        return cls(
            name=document["name"],
            patient_id=document["patient_id"],
            visit=document["visit"],
            time=document.get("time"),
            ignored=tuple(document["ignored"]),
            quasi_identifiers=tuple(document.get("quasi_identifiers", ())),
            columns=tuple(Column.from_json(entry) for entry in document["columns"]),
            caps=RecordCaps.from_json(document["caps"]) if "caps" in document else None,
        )
