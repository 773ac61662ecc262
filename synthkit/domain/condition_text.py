"""The grammar of conditions: from text to Condition and back.

Knows the words and signs. Refuses to know columns or bounds: `synthkit.domain.conditions` checks those.

Grammar: conditions joined by `and`; each is COLUMN OPERATOR VALUE, COLUMN in [VALUE, ...] (or with
parentheses), COLUMN is missing, COLUMN is not missing. Operators: = != < <= > >=. A value may stand
bare, with spaces, up to the next `and`, comma or bracket; quotes ('...' or "...") protect all of these.
A column name with spaces or signs stands in quotes or backticks. A quote inside quotes is doubled.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from synthkit.domain.toml_reading import shown
from synthkit.errors import ConditionError

QUOTED = r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`"""
BARE_NAME = r"""[^\s=!<>'"`,()\[\]]+"""
COLUMN = re.compile(rf"\s*({QUOTED}|{BARE_NAME})\s*")
MISSING_TEST = re.compile(r"is\s+(not\s+)?missing\b\s*", re.IGNORECASE)
COMPARISON = re.compile(r"(!=|<=|>=|=|<|>)\s*")
LIST_START = re.compile(r"in\s*([\[(])\s*", re.IGNORECASE)
QUOTED_VALUE = re.compile(rf"({QUOTED})\s*")
BARE_VALUE = re.compile(r"(.+?)(?:\s+(?=and(?:\s|$))|\s*$)", re.IGNORECASE | re.DOTALL)
BARE_ENTRY = re.compile(r"([^,()\[\]'\"`]+?)\s*(?=[,\])])")
CONJUNCTION = re.compile(r"and(?=\s|$)", re.IGNORECASE)
GRAMMAR = 'for example: age >= 70 and sex = Female and race in ["A", "B"]'


class Operator(StrEnum):
    """How a column is compared."""

    EQUAL = "="
    NOT_EQUAL = "!="
    BELOW = "<"
    AT_MOST = "<="
    ABOVE = ">"
    AT_LEAST = ">="
    IN = "in"
    MISSING = "is missing"
    NOT_MISSING = "is not missing"


ORDER = frozenset({Operator.BELOW, Operator.AT_MOST, Operator.ABOVE, Operator.AT_LEAST})


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One condition; `values` are texts: as written, and once checked as the schema writes them.

    One value for a comparison, one or more for `in`, none for `is missing` and `is not missing`.
    """

    column: str
    operator: Operator
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        name = self.column if re.fullmatch(BARE_NAME, self.column) else _in_quotes(self.column)
        if self.operator is Operator.IN:
            return f"{name} in [{', '.join(_in_quotes(value) for value in self.values)}]"
        return " ".join((name, self.operator.value, *(_in_quotes(value) for value in self.values)))


def parse_text(text: str) -> list[Condition]:
    """Conditions of one text, joined by `and`, values as written.

    Raises:
        ConditionError: The text does not follow the grammar.
    """
    where = f"condition {shown(text)}"
    conditions, place = [], 0
    while True:
        condition, place = _parse_one(text, place, where)
        conditions.append(condition)
        if place == len(text):
            return conditions
        joint = CONJUNCTION.match(text, place)
        if not joint:
            raise ConditionError("text after a complete condition", where=where, fix="join them with and")
        place = joint.end()


def _parse_one(text: str, place: int, where: str) -> tuple[Condition, int]:
    head = COLUMN.match(text, place)
    if not head:
        raise ConditionError("a column name is expected", where=where, fix=GRAMMAR)
    name, place = _unquoted(head[1]), head.end()
    if found := MISSING_TEST.match(text, place):
        operator = Operator.NOT_MISSING if found[1] else Operator.MISSING
        return Condition(column=name, operator=operator), found.end()
    if found := LIST_START.match(text, place):
        values, place = _parse_list(text, found.end(), "]" if found[1] == "[" else ")", where)
        return Condition(column=name, operator=Operator.IN, values=values), place
    if found := COMPARISON.match(text, place):
        value = QUOTED_VALUE.match(text, found.end()) or BARE_VALUE.match(text, found.end())
        if value and value[1].strip():
            operator = Operator(found[1])
            return Condition(column=name, operator=operator, values=(_unquoted(value[1]),)), value.end()
        raise ConditionError("a value is expected at the end", where=where, fix=GRAMMAR)
    raise ConditionError(f"no operator follows {shown(name)}", where=where, fix=GRAMMAR)


def _parse_list(text: str, place: int, closing: str, where: str) -> tuple[tuple[str, ...], int]:
    values = []
    while True:
        entry = QUOTED_VALUE.match(text, place) or BARE_ENTRY.match(text, place)
        if not entry:
            raise ConditionError("a list entry is expected", where=where, fix=GRAMMAR)
        values.append(_unquoted(entry[1]))
        mark, place = text[entry.end() : entry.end() + 1], entry.end() + 1
        place += len(text[place:]) - len(text[place:].lstrip())
        if mark == closing:
            return tuple(values), place
        if mark != ",":
            raise ConditionError("a list is not closed", where=where, fix=GRAMMAR)


def _unquoted(token: str) -> str:
    mark = token[0]
    if mark in "'\"`" and len(token) > 1 and token[-1] == mark:
        return token[1:-1].replace(mark * 2, mark)
    return token.strip()


def _in_quotes(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
