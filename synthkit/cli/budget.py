"""`synthkit budget show|history|verify|export`: reading a site's ledger."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from synthkit.cli.console import Console, epsilon_text, figure
from synthkit.cli.loading import check_file, check_target, name_of, read_json, save_text
from synthkit.cli.options import ForceOption, JsonOption, LedgerOption
from synthkit.domain.canonical import JsonObject, canonical_json
from synthkit.domain.toml_reading import shown
from synthkit.domain.witness import WitnessStatement
from synthkit.errors import InputError, LedgerError
from synthkit.privacy.ledger import Ledger, verify_ledger
from synthkit.privacy.ledger_chain import Entry
from synthkit.privacy.ledger_verify import read_entries
from synthkit.release.signing import TrustStore, check_envelope, open_document


def show(ledger: LedgerOption, as_json: JsonOption = False) -> None:
    """Show an asset's cap and what was spent of it, in all and by study.

    Two figures, never confused: the reported epsilon is tight and describes what was done; the planned
    bound is what the next request is judged by, and stays valid however requests depended on results.
    A reservation without an outcome counts as spent.

    Example:
      synthkit budget show --ledger heart.ledger
    """
    check_file(ledger)
    console = Console(as_json=as_json)
    with console.progress("composing the spend"):
        summary = _summary(ledger)
    cap = summary["cap"]
    console.heading(f"Asset {summary['asset']} at {summary['site']}")
    console.pairs(
        {
            "cap": f"epsilon {figure(cap['epsilon'])} at delta {figure(cap['delta'])}",
            "spent (reported)": f"epsilon {epsilon_text(summary['reported_epsilon'])}",
            "planned bound": f"epsilon {epsilon_text(summary['planned_epsilon'])}",
            "open reservations": f"{summary['open_reservations']}, counted as spent",
            "ledger head": f"entry {summary['counter']}, {summary['head'][:16]}",
        }
    )
    if summary["studies"]:
        console.heading("By study")
        rows = [
            (name[:16], epsilon_text(entry["reported_epsilon"]), str(entry["audits"]))
            for name, entry in summary["studies"].items()
        ]
        console.table(("study", "epsilon", "audits"), rows)
        console.note("epsilons of studies compose; they do not add up to the figure above")
    console.result(summary)


def _summary(path: Path) -> JsonObject:

    book = Ledger.open(path)
    names = verify_ledger(path).studies
    number, head = book.head
    return {
        "asset": book.asset,
        "site": book.site,
        "cap": {
            "epsilon": book.budget.epsilon,
            "delta": book.budget.delta,
            "adjacency": book.budget.adjacency.value,
        },
        "reported_epsilon": book.spend().epsilon,
        "planned_epsilon": book.planned_epsilon(),
        "accountant": book.spend().accountant,
        "studies": {name: _study(book, name) for name in names},
        "open_reservations": len(book.open_reservations()),
        "counter": number,
        "head": head,
    }


def _study(book: Ledger, name: str) -> JsonObject:
    return {"reported_epsilon": book.spend(name).epsilon, "audits": book.audit_attempts(name)}


def history(ledger: LedgerOption, as_json: JsonOption = False) -> None:
    """List every entry of a ledger, oldest first, after verifying each.

    An audit's line says whether the entry binds the report; the report's digest stays in the ledger, for
    who knows all patients but one could test a guess at the last one against it.

    Example:
      synthkit budget history --ledger heart.ledger
    """
    check_file(ledger)
    console = Console(as_json=as_json)
    entries = read_entries(ledger)
    console.table(("entry", "time", "kind", "what"), [(str(e.n), e.time, e.kind, _words(e)) for e in entries])
    console.result(
        {"entries": [{"n": e.n, "time": e.time, "kind": e.kind, **e.shown, "hash": e.hash} for e in entries]}
    )


def _words(entry: Entry) -> str:
    """One entry's content in words."""
    fields = entry.fields
    match entry.kind:
        case "open":
            cap = f"epsilon {fields['epsilon']:g} at delta {fields['delta']:g}"
            return f"asset {fields['asset']} at {fields['site']}, cap {cap}"
        case "reserve":
            what = "; ".join(_event_words(event) for event in fields["events"])
            return f"study {fields['study'][:16]} round {fields['server_round']}: {what}"
        case "commit":
            return f"entry {fields['reservation']}: the reply was stored"
        case "abandon":
            outcome = "given back" if fields["refunded"] else "stays spent"
            return f"entry {fields['reservation']}: {fields['reason']}, {outcome}"
        case "audit":
            table = fields["table_digest"][:16]
            bound = ", its report bound" if "report_digest" in fields else ""
            return f"study {fields['study'][:16]}: table {table} {fields['verdict']}{bound}"
        case _:
            return "an incomplete last line was cut off"


def _event_words(event: JsonObject) -> str:
    if event["kind"] == "dp_sgd":
        steps, noise, rate = event["steps"], event["noise_multiplier"], event["sample_rate"]
        return f"{steps} steps, noise_multiplier {noise:g}, sample_rate {rate:g}"
    if event["kind"] == "gaussian_threshold":
        noise, failure = event["noise_multiplier"], event["failure_delta"]
        return f"1 Gaussian above a threshold, noise_multiplier {noise:g}, failure_delta {failure:g}"
    return f"{event['count']} Gaussian, noise_multiplier {event['noise_multiplier']:g}"


def verify(
    ledger: LedgerOption,
    witness: Annotated[
        Path | None,
        typer.Option(
            "--witness", help="The coordinator's signed witness.json, or a head that `budget export` wrote."
        ),
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option("--trust", help="Trusted keys; the witness has to be signed by a coordinator of them."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a ledger's chain, and that it contains the head a witness noted.

    Ends with 6 when it does not. Changes nothing. Without a witness, a ledger that was cut at its end or
    replaced by an older copy cannot be told from a true one; an older witness shows what is older still.

    Example:
      synthkit budget verify --ledger heart.ledger --witness head.json
    """
    check_file(ledger)
    console = Console(as_json=as_json)
    noted = _read_witness(witness, trust) if witness is not None else None
    summary = verify_ledger(ledger, asset=noted.asset, witness=noted.mark) if noted else verify_ledger(ledger)
    if noted and noted.site != summary.site:
        raise LedgerError("the witness noted another site's", where=name_of(ledger), fix="give its own head")
    console.pairs(
        {
            "asset": summary.asset,
            "site": summary.site,
            "head": f"entry {summary.head[0]}, {summary.head[1]}",
            "reservations": f"{summary.reservations}, {summary.open_reservations} without an outcome",
            "audits": str(summary.audits),
            "repairs": str(summary.repairs),
            **({"witness": noted.words} if noted else {}),
        }
    )
    if noted is None:
        console.note("no witness: a ledger cut at its end or replaced by an older copy looks the same")
    console.verdict("VERIFIED", "the chain is whole" + (" and contains the witness's head" if noted else ""))
    console.result(
        {
            "verified": True,
            "witnessed": noted is not None,
            "witness_counter": noted.mark[0] if noted else None,
            "witness_signer": noted.signer if noted else None,
            "asset": summary.asset,
            "site": summary.site,
            "counter": summary.head[0],
            "head": summary.head[1],
            "reservations": summary.reservations,
            "open_reservations": summary.open_reservations,
            "audits": summary.audits,
            "repairs": summary.repairs,
        }
    )


@dataclass(frozen=True, kw_only=True)
class _Noted:
    """What a witness file says. A coordinator does not know the asset's name, and need not."""

    mark: tuple[int, str]
    site: str
    words: str
    asset: str | None = None
    signer: str | None = None


def _read_witness(path: Path, trust: Path | None) -> _Noted:
    """A coordinator's signed statement, or a head as `budget export` wrote it."""
    document = read_json(path)
    if "signature" in document:
        return _read_statement(document, path, trust)
    expected = {"asset": str, "site": str, "counter": int, "head": str}
    if any(type(document.get(name)) is not kind for name, kind in expected.items()):
        raise InputError(
            "is not a ledger's head", where=name_of(path), fix="give a witness.json, or what export wrote"
        )
    if trust is not None:
        raise InputError("is not signed", where=name_of(path), fix="leave --trust out for an exported head")
    mark = (document["counter"], document["head"])
    words = f"entry {mark[0]}, exported, not signed"
    return _Noted(mark=mark, site=document["site"], asset=document["asset"], words=words)


def _read_statement(envelope: JsonObject, path: Path, trust: Path | None) -> _Noted:
    """A signed statement; without trusted keys its signature shows only that nobody altered it."""
    checked = check_envelope(envelope, "witness", where=name_of(path))
    signer, remark = checked["signer"], ", its key not checked: add --trust"
    if trust is not None:
        _, signer = open_document(envelope, "witness", TrustStore.read(trust), where=name_of(path))
        remark = ""
    statement = WitnessStatement.from_json(checked["document"])
    words = (
        f"entry {statement.ledger_counter}, round {statement.server_round} of study "
        f"{statement.study_digest[:16]}, signed by {shown(signer)}{remark}"
    )
    return _Noted(mark=statement.mark, site=statement.site, words=words, signer=signer)


def export(
    ledger: LedgerOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="The head to write, JSON.")],
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the ledger's head for a witness outside: number, hash and time, no spend.

    Give it to somebody who cannot change the ledger, such as the coordinator. An older head is not
    replaced unasked, because it may be the one that proves a loss.

    Example:
      synthkit budget export --ledger heart.ledger -o head.json
    """
    check_file(ledger)
    check_target(output, force=force)
    head = Ledger.open(ledger).export_head()
    save_text(output, canonical_json(head).decode("utf-8") + "\n", force=force)
    console = Console(as_json=as_json)
    console.line(f"Head of entry {head['counter']} in {name_of(output)}: give it to the witness.")
    console.result(head)
