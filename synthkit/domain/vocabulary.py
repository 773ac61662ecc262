"""Vocabulary: the codes a visit may hold, in order, each with its type.

Knows a code list (ICD-9, ICD-10, ATC, one of a hospital's own) and what kind of thing each code names.
Refuses to know any visit. Rules: the order is part of the list, for it numbers the codes, and so is part
of the digest; codes of one type stand together; a code stands once, so where two code systems share a
code ("250" as a diagnosis and as a procedure) the site writes them apart before anything is read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import groupby

from synthkit.domain.canonical import JsonObject, digest_of
from synthkit.domain.toml_reading import Section
from synthkit.errors import SchemaError

MOST_CODES = 100_000
"""The largest public code lists hold fewer (ICD-10-CM: about 74,000)."""


class CodeType(StrEnum):
    """What a code names. UNTYPED: a plain list that does not say, and a bought list's `other`."""

    DIAGNOSIS = "diagnosis"
    DRUG = "drug"
    PROCEDURE = "procedure"
    LABORATORY = "laboratory"
    UNTYPED = "untyped"


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Codes numbered from 0 by their place; `types` holds one type for each."""

    codes: tuple[str, ...]
    types: tuple[CodeType, ...]

    def __post_init__(self) -> None:
        if len(self.types) != len(self.codes):
            raise RuntimeError("one type for each code")
        if not self.codes:
            raise SchemaError("the code list is empty", fix="list every code that may occur")
        if len(self.codes) > MOST_CODES:
            raise SchemaError(f"more than {MOST_CODES} codes", fix="group them, for example by category")
        if len(set(self.codes)) != len(self.codes):
            raise SchemaError(
                "a code is listed twice", fix="list each once; where two types share one, prefix it by type"
            )
        if not all(code and code.isprintable() for code in self.codes):
            raise SchemaError("a code is empty or not on one line", fix="correct the list")
        if len([kind for kind, _ in groupby(self.types)]) != len(set(self.types)):
            raise SchemaError("codes of one type do not stand together", fix="sort the list by type")

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Each code's number."""
        return {code: place for place, code in enumerate(self.codes)}

    def of_type(self, kind: CodeType) -> range:
        """The numbers of one type's codes."""
        count = self.types.count(kind)
        first = self.types.index(kind) if count else 0
        return range(first, first + count)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical list."""
        return digest_of(self.to_json())

    def to_json(self) -> JsonObject:
        """All fields, in the canonical document's form."""
        return {"codes": list(self.codes), "types": [kind.value for kind in self.types]}

    @classmethod
    def from_json(cls, document: JsonObject) -> "Vocabulary":
        """Inverse of `to_json`."""
        return cls(codes=tuple(document["codes"]), types=tuple(CodeType(kind) for kind in document["types"]))


Prefixes = tuple[tuple[str, CodeType], ...]
"""Beginnings of codes, each with the type of the codes that begin so."""


def typed_by(prefixes: Prefixes, code: str) -> CodeType:
    """A code's type by the longest prefix that it begins with; untyped if there is none."""
    found = [(len(prefix), kind) for prefix, kind in prefixes if code.startswith(prefix)]
    return max(found, key=lambda one: one[0])[1] if found else CodeType.UNTYPED


def prefixes_from_toml(section: Section) -> Prefixes:
    """Read `[columns.NAME.prefixes]`: a list of beginnings under each type's name.

    Raises:
        SchemaError: A type is unknown, a list is not of texts, or a prefix stands twice.
    """
    prefixes, types = codes_from_toml(section)
    if twice := [prefix for prefix in prefixes if prefixes.count(prefix) > 1]:
        raise section.error("stands twice", twice[0], "list each prefix under one type")
    return tuple(zip(prefixes, types, strict=True))


TypedCodes = tuple[tuple[str, ...], tuple[CodeType, ...]]


def codes_from_toml(section: Section) -> TypedCodes:
    """Read `[columns.NAME.codes]`: a list of codes under each type's name, in the document's order.

    Raises:
        SchemaError: A type is unknown, or a list is not of texts.
    """
    section.check_keys(optional=tuple(kind.value for kind in CodeType))
    lists = [(CodeType(name), section.texts(name)) for name in section.values]
    codes = tuple(code for _, listed in lists for code in listed)
    return codes, tuple(kind for kind, listed in lists for _ in listed)


def codes_to_toml(codes: tuple[str, ...], types: tuple[CodeType, ...], quoted: Callable[[str], str]) -> str:
    """The body of `[columns.NAME.codes]`; `quoted` writes one TOML string."""
    lines = []
    for kind, group in groupby(zip(types, codes, strict=True), key=lambda entry: entry[0]):
        lines.append(f"{kind.value} = [{', '.join(quoted(code) for _, code in group)}]")
    return "\n".join(lines)
