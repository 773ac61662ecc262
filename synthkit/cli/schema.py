"""`synthkit schema infer`, `synthkit schema check` and `synthkit schema buy`.

Imports that take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.console import Console, epsilon_text, figure
from synthkit.cli.ledgers import TEMPLATE_ASSET, TEMPLATE_NOTE, open_ledger
from synthkit.cli.loading import check_in_force, check_target, load_policy, load_schema, name_of, save_text
from synthkit.cli.options import ForceOption, JsonOption, LedgerOption, SchemaOption
from synthkit.cli.tables import PatientsOption, QueryOption, TableArgument, given_tables, table_name
from synthkit.domain.canonical import JsonObject
from synthkit.domain.documents import schema_to_toml
from synthkit.domain.policy import SitePolicy
from synthkit.domain.privacy import Budget
from synthkit.domain.schema import Schema
from synthkit.domain.toml_reading import shown
from synthkit.errors import InputError, PolicyError, SchemaError
from synthkit.privacy.accounting import ACCOUNTANT

if TYPE_CHECKING:
    from synthkit.data.checking import CheckResult
    from synthkit.data.inference import Inference
    from synthkit.data.purchase import Purchase
    from synthkit.data.sources import TableSource
    from synthkit.data.table import PatientTable


def infer(
    *,
    table: TableArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The schema to write, TOML.")],
    patient_id: Annotated[
        str | None, typer.Option("--patient-id", metavar="COLUMN", help="The column that identifies them.")
    ] = None,
    visit: Annotated[
        str | None, typer.Option("--visit", metavar="COLUMN", help="Records: the column that orders visits.")
    ] = None,
    time: Annotated[
        str | None, typer.Option("--time", metavar="COLUMN", help="Records: each visit's date, or its day.")
    ] = None,
    code: Annotated[
        str | None, typer.Option("--code", metavar="COLUMN", help="Records: the column of codes.")
    ] = None,
    patients: PatientsOption = None,
    query: QueryOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draft a schema from a table, for a person to correct.

    Every bound and category is read off the patients' rows and marked `provenance = "data"`. Private
    training refuses such a schema until a person has replaced each by what is publicly known, or asks to
    buy it with budget. --visit makes it a schema of records of visits, one row a code.

    A number that is never below 0 and whose moment skewness exceeds 2 is drafted with `scale = "log"`, for
    review like its bounds: is such a quantity known to have a long tail?

    Example:
      synthkit schema infer records.csv --visit visit --time date --patients patients.csv -o schema.toml
      synthkit schema infer admissions.csv -o schema.toml --patient-id mrn
      synthkit schema infer sqlite:///hospital.db --query "SELECT * FROM admissions" -o schema.toml
    """
    from synthkit.data.inference import infer_schema
    from synthkit.data.record_inference import Roles, infer_records

    check_target(output, force=force)
    for option, value in {"--time": time, "--code": code, "--patients": patients}.items():
        if value is not None and visit is None:
            raise InputError("belongs to records of visits", where=f"option {option}", fix="give --visit too")
    given = given_tables(query, table=table, patients=patients)
    source = given.of("table")
    console = Console(as_json=as_json)
    with console.progress("reading the table"):
        if visit is None:
            draft = infer_schema(source, patient_id=patient_id)
        else:
            roles = Roles(visit=visit, patient_id=patient_id, time=time, code=code)
            draft = infer_records(source, roles, patients=given.get("patients"))
    save_text(output, schema_to_toml(draft.schema), force=force)
    told = _told(source) if given.get("patients") is None else f"{_told(source)} --patients TABLE"
    _show_draft(console, draft, output, told)


def _show_draft(console: Console, draft: "Inference", output: Path, told: str) -> None:
    """What was guessed, and what is to be done; `told`: the tables as the next command takes them."""
    unreviewed = draft.schema.not_public()
    console.line(f"Drafted {len(draft.schema)} columns into {name_of(output)}.")
    console.items((*draft.notes, *_records_after_all(draft)))
    console.heading("What you have to do now")
    console.items(
        (
            f'Review every column with provenance = "data": {", ".join(map(shown, unreviewed))}.',
            "Replace each bound and category by what is known without these rows: a code list, a range.",
            'Then write provenance = "public" there. It is your word that the line came from no patient.',
            'Or write provenance = "dp": what the draft says there is ignored, and bought with budget.',
            f"Check the result: synthkit schema check {told} --schema {name_of(output)}",
        )
    )
    console.result(
        {
            "schema": str(output),
            "schema_digest": draft.schema.digest,
            "columns": list(draft.schema.names),
            "patient_id": draft.schema.patient_id,
            "to_review": list(unreviewed),
            "quasi_identifiers": list(draft.schema.quasi_identifiers),
            "notes": list(draft.notes),
        }
    )


def _records_after_all(draft: "Inference") -> tuple[str, ...]:
    """A hint for who has records and did not say so."""
    from synthkit.data.record_inference import looks_like_records

    if draft.schema.is_longitudinal or not looks_like_records(draft):
        return ()
    return ("Is each row a code of a visit? Then draft it as records: --visit with the column of visits.",)


def _told(source: "TableSource") -> str:
    """A table as the next command takes it; no address is printed."""
    return name_of(source) if isinstance(source, Path) else "ADDRESS --query SELECT"


def check(
    *,
    table: TableArgument,
    schema: SchemaOption,
    patients: PatientsOption = None,
    query: QueryOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what in a table does not fit its schema: row and column of each violation, never the cell.

    The first 20 are listed and all are counted; of records of visits, the first alone. Ends with 4 when
    there is any.

    Example:
      synthkit schema check admissions.csv --schema schema.toml
    """
    from synthkit.data.checking import check_table

    console = Console(as_json=as_json)
    given = given_tables(query, table=table, patients=patients)
    source, known = given.of("table"), load_schema(schema)
    if known.is_longitudinal:
        _check_records(console, source, known, given.get("patients"))
        return
    if patients is not None:
        raise InputError("belongs to records of visits", where="option --patients", fix="leave it out")
    with console.progress("checking the table"):
        result = check_table(source, known)
    console.result(_document(result))
    if known.not_public():
        names = ", ".join(map(shown, known.not_public()))
        console.note(f"private training refuses this schema: read off the data are {names}")
    if known.to_buy():
        console.note(f"still to be bought, hence hardly checked: {', '.join(map(shown, known.to_buy()))}")
    if not known.quasi_identifiers:
        console.note("no quasi-identifiers are declared under [table]: an audit draws what attackers know")
    if result.is_valid:
        console.line(f"{table_name(source)} fits {name_of(schema)}.")
        return
    console.items(str(violation) for violation in result.violations)
    hidden = result.count - len(result.violations)
    if hidden:
        console.line(f"  and {hidden} more")
    count = f"{result.count} violation{'s' if result.count > 1 else ''}"
    raise SchemaError(
        f"{count} of the schema", where=table_name(source), fix="correct the table or the schema"
    )


def _check_records(
    console: Console, table: "TableSource", known: Schema, patients: "TableSource | None"
) -> None:
    from synthkit.data.checking import CheckResult
    from synthkit.data.sequence_reading import read_code_rows, read_sequences

    with console.progress("checking the records"):
        if known.to_buy():
            read_code_rows(table, known, patients=patients)
        else:
            read_sequences(table, known, patients=patients)
    console.result(_document(CheckResult(violations=(), count=0, kinds={})))
    if known.to_buy():
        console.note(f"still to be bought, hence hardly checked: {', '.join(map(shown, known.to_buy()))}")
    console.line(f"{table_name(table)} holds records that fit the schema.")


def buy(
    *,
    table: TableArgument,
    schema: SchemaOption,
    epsilon: Annotated[float, typer.Option("--epsilon", help="What it may cost at most.")],
    policy: Annotated[
        str, typer.Option("--policy", help="The site's policy: a file, or a shipped one's name.")
    ],
    ledger: LedgerOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="The completed schema to write, TOML.")],
    delta: Annotated[float, typer.Option("--delta", help="Delta of the guarantee.")] = 1e-5,
    site: Annotated[str, typer.Option("--site", help="This hospital's name.")] = "site",
    patients: PatientsOption = None,
    query: QueryOption = None,
    as_json: JsonOption = False,
) -> None:
    r"""Buy what a draft leaves open: bounds, bins and categories marked `provenance = "dp"`.

    Noise is added to counts of patients; bounds, quantiles and frequent categories are read off those.
    Budget is reserved in the ledger before anything is drawn and committed once the schema is stored. A
    federation needs this: its study is signed with the completed schema. Of records of visits the code list
    is bought the same way: a patient supports few of their own codes, and a code that too few patients hold
    becomes `other`.

    Example:
      synthkit schema buy admissions.csv --schema draft.toml --epsilon 0.3 --policy policy.toml \
        --ledger admissions.ledger --site north -o schema.toml
    """
    from synthkit.training.planning import effort_for, plan_for, purchase_for
    from synthkit.training.purchasing import buy_schema, check_reviewed

    check_target(output)
    given = given_tables(query, table=table, patients=patients)
    console = Console(as_json=as_json)
    rules, draft = load_policy(policy), load_schema(schema)
    check_in_force(rules)
    check_reviewed(draft)
    purchase = purchase_for(draft, target_epsilon=epsilon, delta=delta)
    _check_purchase(rules, purchase, delta)
    if rules.asset == TEMPLATE_ASSET:
        console.note(TEMPLATE_NOTE)
    with console.progress("reading the table") as progress:
        rows = _rows_to_buy_from(given.of("table"), draft, given.get("patients"))
        if rows.patient_count < rules.study.min_patients:
            raise PolicyError(
                f"fewer patients than {rules.study.min_patients}: noise would drown them",
                rule="study.min_patients",
                where=table_name(given.of("table")),
            )
        usual = plan_for("medvae", effort_for(5000), target_epsilon=rules.study.max_epsilon, delta=delta)
        book = open_ledger(ledger, rules, site, reference=usual.total_events()[0])
        quota = Budget(epsilon=rules.study.max_epsilon, delta=rules.budget.delta)
        progress("buying")
        completed = buy_schema(
            rows, purchase, ledger=book, quota=quota, store=lambda s: save_text(output, schema_to_toml(s))
        )
    _show_bought(console, purchase, completed, output, delta)


def _rows_to_buy_from(table: "TableSource", draft: Schema, patients: "TableSource | None") -> "PatientTable":
    """The patients' rows, of records one a code."""
    from synthkit.data.connectors import read_table
    from synthkit.data.sequence_reading import read_code_rows

    if draft.is_longitudinal:
        return read_code_rows(table, draft, patients=patients)
    if patients is not None:
        raise InputError("belongs to records of visits", where="option --patients", fix="leave it out")
    return read_table(table, draft, is_draft=True)


def _check_purchase(policy: SitePolicy, purchase: "Purchase", delta: float) -> None:
    """The policy's word on a purchase: it is a study of its own."""
    from synthkit.privacy.accounting import admission_epsilon

    planned = admission_epsilon(purchase.events, policy.budget.delta)
    for rule, asked, allowed in (
        ("study.max_delta", delta, policy.study.max_delta),
        ("study.max_epsilon", planned, policy.study.max_epsilon),
    ):
        if not asked <= allowed:
            raise PolicyError(
                f"the purchase asks for {asked:.6g}, at most {allowed:g} is allowed",
                rule=rule,
                fix="ask for less",
            )


def _show_bought(
    console: Console, purchase: "Purchase", completed: Schema, output: Path, delta: float
) -> None:
    from synthkit.privacy.accounting import reported_epsilon

    cost = reported_epsilon(purchase.events, delta)
    console.line(f"Bought {len(completed.bought())} columns into {name_of(output)}.")
    console.pairs(
        {
            "columns": ", ".join(map(shown, completed.bought())),
            "epsilon": f"{epsilon_text(cost)} at delta {figure(delta)}, for one patient",
            "schema": completed.digest,
        }
    )
    console.line("Any change to this file makes it a schema that was not bought.")
    console.result(
        {
            "schema": str(output),
            "schema_digest": completed.digest,
            "columns": list(completed.bought()),
            "spend": {
                "epsilon": cost,
                "delta": delta,
                "accountant": ACCOUNTANT,
                "events": [event.to_json() for event in purchase.events],
            },
        }
    )


def _document(result: "CheckResult") -> JsonObject:
    return {
        "valid": result.is_valid,
        "count": result.count,
        "violations": [
            {
                "column": violation.column,
                "row": violation.row,
                "line": violation.line,
                "rule": violation.rule.value,
                "fix": violation.fix,
            }
            for violation in result.violations
        ],
    }
