"""Schemas, policies and studies as TOML documents a person writes, reads and signs.

Knows the form of the three documents. Refuses unknown keys, wrong types, contradictions and, in a
policy, any rule left out: a hospital that has not decided a rule has not allowed anything. The signed
form is the canonical JSON of the nouns; TOML is for people.
"""

import datetime as dt
import json
import re
from collections.abc import Callable, Iterable

from synthkit.domain.canonical import JsonObject
from synthkit.domain.policy import SitePolicy
from synthkit.domain.policy_reading import (
    check_in_range,
    read_audit_rules,
    read_condition_rules,
    read_egress_rules,
    read_release_rules,
    read_study_rules,
    read_vault_rules,
)
from synthkit.domain.privacy import Budget
from synthkit.domain.record_caps import caps_from_toml, caps_to_toml
from synthkit.domain.schema import NUMERIC_KINDS, Column, Kind, Provenance, Scale, Schema
from synthkit.domain.study import Site, Study, TrainingPlan
from synthkit.domain.toml_reading import Section, parse_toml
from synthkit.domain.vocabulary import codes_from_toml, codes_to_toml, prefixes_from_toml
from synthkit.errors import InputError, PolicyError, SchemaError, SynthkitError

EPOCH = dt.date(1970, 1, 1)

NUMERIC_DECIMALS = 2
"""Decimals of a `numeric` column that declares none: losing them silently would be worse."""

BOUND_KEYS = ("minimum", "maximum", "decimals", "scale", "spikes", "edges", "bins")
COLUMN_KEYS = ("categories", "codes", "prefixes", "unit", "missing", "provenance", "role", *BOUND_KEYS)
TABLE_KEYS = ("unit", "patient_id", "visit", "time", "name", "ignore", "quasi_identifiers", "caps")
PUBLIC_KEY = re.compile(r"(?:[0-9a-f]{64})?")
PLAN_NUMBERS = (
    "sample_rate",
    "noise_multiplier",
    "prior_noise_multiplier",
    "max_grad_norm",
    "delta",
    "learning_rate",
)
PLAN_KEYS = ("generator", "rounds", "local_steps", *PLAN_NUMBERS)
PLAN_OPTIONS = ("hyperparameters", "encoder", "encoder_digest", "prior_first")


def schema_from_toml(text: str, where: str) -> Schema:
    """Read a schema. `where` names the document in messages, for example its file name.

    A column that states no provenance is public: whoever writes a bound by hand vouches for it, and
    `schema infer` marks every bound it reads off the data. A column whose provenance is "dp" may be empty
    unless it says otherwise: whether a cell was missing is not read off the rows either.

    Raises:
        InputError: The text is not TOML.
        SchemaError: A key is unknown, missing, of the wrong type or contradicts another.
    """
    root = Section(values=parse_toml(text, where), path="", where=where, refuse=_schema_error)
    root.check_keys(required=("columns",), optional=("table",))
    table = root.section("table")
    table.check_keys(optional=TABLE_KEYS)
    table.choice("unit", ("patient",), "patient")
    columns = root.section("columns")
    for name in table.texts("ignore"):
        if columns.has(name) or name == table.text("patient_id"):
            raise table.error("names a column that has a role", "ignore", "ignore it or declare it, not both")
    try:
        return Schema(
            columns=tuple(_column(columns.section(name), name) for name in columns.values),
            patient_id=table.text("patient_id") or None,
            visit=table.text("visit") or None,
            time=table.text("time") or None,
            name=table.text("name", "table"),
            ignored=table.texts("ignore"),
            quasi_identifiers=table.texts("quasi_identifiers"),
            caps=caps_from_toml(table.section("caps")) if table.has("caps") else None,
        )
    except SchemaError as error:
        if error.where.startswith(where):
            raise
        place, problem = f"{where}: {error.where}" if error.where else where, error
    raise SchemaError(problem.what, where=place, fix=problem.fix)


def _schema_error(what: str, key: str, where: str, fix: str) -> SynthkitError:
    del key
    return SchemaError(what, where=where, fix=fix)


def _column(section: Section, name: str) -> Column:
    section.check_keys(required=("kind",), optional=COLUMN_KEYS)
    if not name or not name.isprintable():
        raise section.error("must be a name on one line", "its heading", "rename the column")
    kind = Kind(section.choice("kind", tuple(kind.value for kind in Kind)))
    for key in ("categories", "codes", "prefixes") if kind in NUMERIC_KINDS else BOUND_KEYS:
        if section.has(key):
            raise section.error(f"does not belong to a column of kind {kind.value}", key, "remove it")
    low, high, spikes, edges = _bounds(section, kind)
    if section.has("codes") and (kind is not Kind.CODE or section.has("categories")):
        raise section.error("stands in place of categories in a column of kind code", "codes", "remove it")
    codes, types = codes_from_toml(section.section("codes"))
    provenance = Provenance(section.choice("provenance", ("public", "dp", "data"), "public"))
    return Column(
        name=name,
        kind=kind,
        minimum=low,
        maximum=high,
        categories=codes or _categories(section),
        unit=section.text("unit"),
        missing=section.flag("missing", default=provenance is Provenance.DP),
        provenance=provenance,
        decimals=_decimals(section, kind),
        scale=Scale(section.choice("scale", ("linear", "log"), "linear")),
        spikes=spikes,
        target=section.choice("role", ("target", ""), "") == "target",
        edges=edges,
        bins=Provenance(section.choice("bins", ("public", "dp"), "public")),
        types=types,
        prefixes=prefixes_from_toml(section.section("prefixes")),
    )


_Bounds = tuple[float | None, float | None, tuple[float, ...], tuple[float, ...]]


def _bounds(section: Section, kind: Kind) -> _Bounds:
    """Minimum, maximum, spikes and edges."""
    if kind is Kind.DATETIME:
        low, high = (_days(section.date(key)) if section.has(key) else None for key in BOUND_KEYS[:2])
        spikes, edges = (tuple(_days(day) for day in section.dates(key)) for key in ("spikes", "edges"))
        return low, high, spikes, edges
    low, high = (section.number(key) if section.has(key) else None for key in BOUND_KEYS[:2])
    spikes, edges = section.numbers("spikes"), section.numbers("edges")
    if kind is Kind.INTEGER:
        named = {"minimum": (low,), "maximum": (high,), "spikes": spikes, "edges": edges}
        for key, values in named.items():
            if any(value is not None and not value.is_integer() for value in values):
                raise section.error("must be whole in an integer column", key)
    return low, high, spikes, edges


def _days(date: dt.date) -> float:
    return float((date - EPOCH).days)


def _decimals(section: Section, kind: Kind) -> int:
    decimals = section.whole("decimals", NUMERIC_DECIMALS if kind is Kind.NUMERIC else 0)
    if decimals and kind in (Kind.INTEGER, Kind.DATETIME):
        raise section.error(f"must be 0 in a column of kind {kind.value}", "decimals")
    return decimals


def _categories(section: Section) -> tuple[str, ...]:
    """Levels as text; whole numbers may stand without quotes, for their text form is unambiguous."""
    if section.has("categories") and isinstance(section.values["categories"], list):
        levels = section.values["categories"]
        if levels and all(isinstance(level, int) and not isinstance(level, bool) for level in levels):
            return tuple(str(level) for level in levels)
    return section.texts("categories")


def schema_to_toml(schema: Schema) -> str:
    """Write a schema; `schema_from_toml` of the result equals it."""
    table = ["[table]", f"name = {_quoted(schema.name)}", 'unit = "patient"']
    for key, name in (("patient_id", schema.patient_id), ("visit", schema.visit), ("time", schema.time)):
        if name is not None:
            table.append(f"{key} = {_quoted(name)}")
    for key, names in (("ignore", schema.ignored), ("quasi_identifiers", schema.quasi_identifiers)):
        if names:
            table.append(f"{key} = {_listed(_quoted(name) for name in names)}")
    caps = [] if schema.caps is None else [caps_to_toml(schema.caps)]
    blocks = ["\n".join(table), *caps, *(_column_to_toml(column) for column in schema)]
    return "\n\n".join(blocks) + "\n"


def _column_to_toml(column: Column) -> str:
    bare = re.fullmatch(r"[A-Za-z0-9_-]+", column.name)
    heading = f"columns.{column.name if bare else _quoted(column.name)}"
    lines = [f"[{heading}]", f'kind = "{column.kind.value}"']
    if column.is_numeric:
        lines += _bounds_to_toml(column)
    elif column.categories and not column.types:
        lines.append(f"categories = {_listed(_quoted(level) for level in column.categories)}")
    if column.unit:
        lines.append(f"unit = {_quoted(column.unit)}")
    if column.missing or column.provenance is Provenance.DP:
        lines.append(f"missing = {str(column.missing).lower()}")
    lines.append(f'provenance = "{column.provenance.value}"')
    if column.target:
        lines.append('role = "target"')
    if column.types:
        lines += ["", f"[{heading}.codes]", codes_to_toml(column.categories, column.types, _quoted)]
    if column.prefixes:
        order = list(dict.fromkeys(kind for _, kind in column.prefixes))
        by_type = sorted(column.prefixes, key=lambda one: order.index(one[1]))
        lines += ["", f"[{heading}.prefixes]"]
        lines.append(codes_to_toml(tuple(p for p, _ in by_type), tuple(t for _, t in by_type), _quoted))
    return "\n".join(lines)


def _bounds_to_toml(column: Column) -> list[str]:
    is_date = column.kind is Kind.DATETIME
    form: Callable[[float], str] = _date_text if is_date else _number_text
    lines = [
        f"{key} = {form(value)}"
        for key, value in (("minimum", column.minimum), ("maximum", column.maximum))
        if value is not None
    ]
    if column.decimals or column.kind is Kind.NUMERIC:
        lines.append(f"decimals = {column.decimals}")
    if column.scale is not Scale.LINEAR:
        lines.append(f'scale = "{column.scale.value}"')
    if column.spikes:
        lines.append(f"spikes = {_listed(form(spike) for spike in column.spikes)}")
    if column.edges:
        lines.append(f"edges = {_listed(form(edge) for edge in column.edges)}")
    if column.bins is not Provenance.PUBLIC:
        lines.append(f'bins = "{column.bins.value}"')
    return lines


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, but for the delete character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _listed(entries: Iterable[str]) -> str:
    return f"[{', '.join(entries)}]"


def _number_text(value: float) -> str:
    is_plain = float(value).is_integer() and abs(value) < 2**53
    return str(int(value)) if is_plain else repr(float(value))


def _date_text(days: float) -> str:
    return (EPOCH + dt.timedelta(days=int(days))).isoformat()


def policy_from_toml(text: str, where: str) -> SitePolicy:
    """Read a site policy. Every rule must be written out.

    Raises:
        InputError: The text is not TOML.
        PolicyError: A rule is missing, unknown, of the wrong type, out of range or contradicts another;
            `rule` is its dotted name.
    """
    root = Section(values=parse_toml(text, where), path="", where=where, refuse=_policy_error)
    root.check_keys(
        required=("policy", "asset", "study", "conditions", "audit", "release", "vault", "egress")
    )
    head, asset = root.section("policy"), root.section("asset")
    head.check_keys(required=("name", "signed", "expires"))
    asset.check_keys(required=("name", "epsilon", "delta"))
    check_in_range(asset, "epsilon", low=0, above=True)
    check_in_range(asset, "delta", low=0, above=True, high=1e-3)
    return SitePolicy(
        name=_filled(head, "name"),
        asset=_filled(asset, "name"),
        budget=Budget(epsilon=asset.number("epsilon"), delta=asset.number("delta")),
        study=read_study_rules(root.section("study"), asset),
        conditions=read_condition_rules(root.section("conditions")),
        audit=read_audit_rules(root.section("audit")),
        release=read_release_rules(root.section("release")),
        vault=read_vault_rules(root.section("vault")),
        egress=read_egress_rules(root.section("egress"), root.section("study")),
        signed=head.flag("signed"),
        expires=head.date("expires"),
    )


def _policy_error(what: str, key: str, where: str, fix: str) -> SynthkitError:
    return PolicyError(what, rule=key, where=where, fix=fix)


def _filled(section: Section, name: str) -> str:
    value = section.text(name)
    if not value.strip() or not value.isprintable():
        raise section.error("must be one line of text", name, "give it a name")
    return value


def check_is_study(text: str, where: str) -> None:
    """Refuse what is no study's draft, before anybody looks for its schema.

    Raises:
        InputError: The text is not TOML, or has other tables than a draft.
    """
    _study_root(text, where)


def _study_root(text: str, where: str) -> Section:
    root = Section(values=parse_toml(text, where), path="", where=where, refuse=_study_error)
    root.check_keys(required=("study", "training", "roster"))
    return root


def study_from_toml(text: str, where: str, *, schema: Schema) -> Study:
    """Read a study's draft; the schema comes from its own document.

    Raises:
        InputError: The text is not TOML, or a key is unknown, missing, of the wrong type or out of range.
    """
    root = _study_root(text, where)
    head = root.section("study")
    head.check_keys(required=("name", "purpose", "expires"), optional=("initial_seed",))
    if head.whole("initial_seed") < 0:
        raise head.error("must be at least 0", "initial_seed")
    entries = root.sections("roster")
    return _located(
        where,
        lambda: Study(
            name=_filled(head, "name"),
            purpose=_filled(head, "purpose"),
            schema=schema,
            plan=_plan(root.section("training")),
            roster=tuple(_site(entry) for entry in entries),
            expires=head.date("expires"),
            initial_seed=head.whole("initial_seed"),
        ),
    )


def _study_error(what: str, key: str, where: str, fix: str) -> SynthkitError:
    del key
    return InputError(what, where=where, fix=fix)


def _located(where: str, make: Callable[[], Study]) -> Study:
    """Run `make`; an error of the nouns themselves gets the document's name in front."""
    try:
        return make()
    except InputError as error:
        if error.where.startswith(where):
            raise
        problem = error
    place = f"{where}: {problem.where}" if problem.where else where
    raise InputError(problem.what, where=place, fix=problem.fix)


def _plan(section: Section) -> TrainingPlan:
    section.check_keys(required=PLAN_KEYS, optional=PLAN_OPTIONS)
    extra = section.section("hyperparameters")
    numbers: JsonObject = {name: section.number(name) for name in PLAN_NUMBERS}
    try:
        return TrainingPlan(
            generator=_filled(section, "generator"),
            rounds=section.whole("rounds"),
            local_steps=section.whole("local_steps"),
            **numbers,
            hyperparameters={name: extra.number(name) for name in extra.values},
            encoder=section.text("encoder") or "trained",
            encoder_digest=section.text("encoder_digest"),
            prior_first=section.flag("prior_first"),
        )
    except InputError as error:
        if error.where:
            raise
        problem = error
    raise InputError(problem.what, where=f"{section.where}: [training]", fix=problem.fix)


def _site(section: Section) -> Site:
    section.check_keys(required=("name", "declared_size"), optional=("public_key",))
    key = section.text("public_key")
    if not PUBLIC_KEY.fullmatch(key):
        raise section.error("must be 64 hexadecimal characters", "public_key", 'or "" in a draft')
    return Site(name=_filled(section, "name"), public_key=key, declared_size=section.whole("declared_size"))
