"""`synthkit demo`: the whole job on bundled real patients, narrated. Nothing in it is faked.

Seven steps, each the same library call that the single commands make. Imports that take a second or
more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

import shutil
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.console import Console, epsilon_text, figure
from synthkit.cli.demo_setup import SCENES, STRICT_SITE, Demo, draft_study, make_sites, plan_words
from synthkit.cli.loading import name_of
from synthkit.cli.options import JsonOption
from synthkit.errors import InputError, PolicyError, ReleaseRefusedError

if TYPE_CHECKING:
    from synthkit.cli.federation import Coordinator
    from synthkit.data.table import PatientTable, SyntheticTable
    from synthkit.domain.audit import AuditReport
    from synthkit.domain.privacy import PrivacySpend
    from synthkit.domain.study import Study
    from synthkit.domain.utility import UtilityReport
    from synthkit.training.artefact import Model
    from synthkit_client.site_folder import SiteFolder

MARKER = ".synthkit-demo"
"""Marks a folder that a demo made and another demo may replace."""

DRAWN_WITH = 1
"""Seed of the candidate: every hospital draws it again before it audits it."""

OFFICER_REASON = (
    "The audit cannot decide with so few patients. Released on the differential-privacy claim alone, for "
    "this demonstration on published data."
)


class Data(StrEnum):
    """The bundled data sets."""

    DIABETES = "diabetes"
    HEART = "heart"


def demo(
    *,
    data: Annotated[
        Data, typer.Option("--data", help="Eight hospitals, or four small unlike ones.")
    ] = Data.DIABETES,
    output: Annotated[Path, typer.Option("--output", help="Folder for everything the demo makes.")] = Path(
        "synthkit-demo"
    ),
    epsilon: Annotated[
        float, typer.Option("--epsilon", help="Target epsilon of the study, at each hospital.")
    ] = 3.0,
    generator: Annotated[
        str | None,
        typer.Option(
            "--generator",
            help="medvae (default) or mcm: one release of tables; medvae-sgd or mcm-sgd: trained by DP-SGD.",
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, help="Rounds of DP-SGD; takes medvae-sgd or mcm-sgd.")
    ] = None,
    processes: Annotated[
        bool,
        typer.Option("--processes", help="Real SuperLink and SuperNodes on loopback; with the heart data."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    r"""The whole job on bundled real patients: from hospitals' rows to a signed synthetic release.

    Keys, policies, a signed study, federated private training, generation, evaluation, audits, a
    sealed and verified release, a report to open. About two minutes.

    Example:
      synthkit demo --data heart --output /tmp/demo
    """
    from synthkit.data.bundled import example
    from synthkit.release.framing import write_atomic

    if processes:
        data = Data.HEART
    _make_room(output)
    stage = Demo(
        console=Console(as_json=as_json), output=output, example=example(data.value), scene=SCENES[data.value]
    )
    stage.console.heading(f"synthkit demo: {stage.example.title}")
    study, folders, coordinator = _agree(stage, generator, epsilon, rounds)
    model, spends = _train(stage, study, folders, coordinator, processes=processes)
    table = _generate(stage, model)
    utility, real = _evaluate(stage, study, folders, table)
    audits = _audit(stage, study, folders, model, table)
    refused = _release(
        stage, study=study, folders=folders, model=model, table=table, audits=audits, spends=spends
    )
    from synthkit.cli.demo_report import write_report

    stage.next_step("Report")
    page = write_report(
        stage,
        study=study,
        folders=folders,
        real=real,
        table=table,
        utility=utility,
        audits=audits,
        refused=refused,
    )
    write_atomic(output / "report.html", page.encode("utf-8"))
    stage.console.line(f"  report   {output / 'report.html'}")
    if not refused:
        stage.console.line(f"  release  {output / 'release.synthkit'}")
    stage.console.verdict(
        "DONE" if not refused else "REFUSED", f"in {time.monotonic() - stage.started:.0f} s"
    )
    stage.console.result(
        _summary(stage, study=study, utility=utility, audits=audits, spends=spends, refused=refused)
    )
    raise typer.Exit(1 if refused else 0)


def _make_room(output: Path) -> None:
    """A fresh output folder; only a former demo's is replaced."""
    if output.exists() and not (output / MARKER).exists():
        if not output.is_dir() or any(output.iterdir()):
            raise InputError(
                "exists and was not made by a demo", where=name_of(output), fix="name another --output"
            )
    elif output.exists():
        shutil.rmtree(output)
    output.mkdir(parents=True, exist_ok=True)
    (output / MARKER).touch()


def _agree(
    stage: Demo, generator: str | None, epsilon: float, rounds: int | None
) -> "tuple[Study, dict[str, SiteFolder], Coordinator]":
    """Step 1: keys, policies, a study that all sign, and one that refuses."""
    from dataclasses import replace

    from synthkit.cli.federation import ask_sites, open_coordinator, with_roster
    from synthkit.training.planning import effort_for, plan_for

    stage.next_step("Keys, policies and a signed study")
    coordinator = open_coordinator(stage.output / "coordinator")
    folders = make_sites(stage.example, stage.scene, stage.output / "sites", coordinator)
    stage.console.line(f"  {len(folders)} hospitals made keys, had their policy signed and opened a ledger.")
    effort = effort_for(max(stage.scene.declared_sizes.values()), sites=len(folders))
    plan = plan_for(
        generator or ("medvae-sgd" if rounds else "medvae"),
        replace(effort, rounds=rounds or effort.rounds),
        target_epsilon=epsilon,
        delta=1e-5,
    )
    if rounds and not plan.rounds:
        raise InputError(
            f"{plan.generator} takes no rounds of DP-SGD", where="option --rounds", fix="leave it out"
        )
    draft = draft_study(stage.example, plan)
    stage.console.pairs(plan_words(plan))
    refusals = ask_sites(with_roster(draft, list(folders.values())), list(folders.values()), coordinator)
    for refusal in refusals:
        stage.console.line(f"  {refusal.site} refuses: {refusal.reason}")
        del folders[refusal.site]
    study = with_roster(draft, list(folders.values())) if folders else None
    again = ask_sites(study, list(folders.values()), coordinator) if study else refusals
    if study is None or again:
        raise PolicyError(
            again[0].what,
            rule=again[0].rule,
            where=f"site {again[0].site}",
            fix="lower --epsilon or --rounds",
        )
    stage.console.line(
        f"  Drafted again without {STRICT_SITE}; {len(folders)} officers approved study {study.digest[:12]}."
    )
    return study, folders, coordinator


def _train(
    stage: Demo,
    study: "Study",
    folders: "dict[str, SiteFolder]",
    coordinator: "Coordinator",
    *,
    processes: bool,
) -> "tuple[Model, dict[str, PrivacySpend]]":
    """Step 2: private training at each hospital, averaged over rounds."""
    from synthkit.cli.federation import model_of, run_study, spends_of
    from synthkit.training.artefact import save_model

    how = "real Flower processes, TLS and node keys" if processes else "one process, real messages"
    stage.next_step(f"Federated private training ({how})")
    with stage.console.progress("training") as progress:
        result = run_study(
            study,
            folders,
            coordinator,
            processes=processes,
            on_round=lambda done: progress.at(done.server_round, study.plan.server_rounds),
        )
    spends = spends_of(study, folders)
    largest = max(spends.values(), key=lambda spend: spend.epsilon)
    with stage.console.progress("fitting the generator to what the sites released") as progress:
        model = model_of(study, result, largest, progress=progress.at)
    save_model(model, stage.output / "model")
    rounds = f"{len(result.rounds)} rounds" if len(result.rounds) > 1 else "One round"
    stage.console.line(
        f"  {rounds}; in each site's ledger: reserved before training, committed before the reply."
    )
    stage.console.line(
        f"  epsilon {epsilon_text(largest.epsilon)} at delta {figure(largest.delta)}, for one patient of one "
        "hospital."
    )
    return model, spends


def _generate(stage: Demo, model: "Model") -> "SyntheticTable":
    """Step 3: rows without and with conditions."""
    from synthkit.data.connectors import write_table
    from synthkit.domain.conditions import parse_conditions
    from synthkit.training.synthesis import synthesize

    stage.next_step("Generation")
    drawn = synthesize(model, stage.scene.rows, seed=DRAWN_WITH)
    write_table(drawn.table, stage.output / "synthetic.csv")
    missing = {name: share for name, share in drawn.table.frame.isna().mean().items() if share > 0}
    stage.console.line(f"  {stage.scene.rows} rows into synthetic.csv.")
    if missing:
        shown = ", ".join(f"{name} {share:.0%}" for name, share in list(missing.items())[:4])
        stage.console.line(f"  Missing values are generated too: {shown}.")
    conditions = parse_conditions([stage.scene.condition], model.schema)
    some = synthesize(model, 1000, seed=2, conditions=conditions)
    write_table(some.table, stage.output / "synthetic-conditional.csv")
    stage.console.line(
        f"  1000 rows where {stage.scene.condition} into synthetic-conditional.csv; reliability "
        f"{some.reliability:.2f}."
    )
    return drawn.table


def _evaluate(
    stage: Demo, study: "Study", folders: "dict[str, SiteFolder]", table: "SyntheticTable"
) -> "tuple[UtilityReport, PatientTable]":
    """Step 4: how useful, beside a floor, a ceiling, and each hospital alone."""
    from synthkit.cli.demo_report import real_tables
    from synthkit.evaluation.run import evaluate
    from synthkit.evaluation.targets import parse_target

    stage.next_step("Evaluation on held-out real patients")
    with stage.console.progress("evaluating") as progress:
        real, pooled, members = real_tables(stage, study, folders)
        report = evaluate(
            real=real,
            synthetic=table,
            train=pooled,
            targets=tuple(parse_target(text, study.schema) for text in stage.scene.targets),
            others=members,
            progress=progress,
        )
    quality = report.quality
    stage.console.line(
        f"  sdmetrics overall {quality.overall:.3f} (floor of independent columns "
        f"{report.floor.overall:.3f}, ceiling of real rows {report.ceiling.overall:.3f})"
    )
    for task in report.utility:
        alone = [score.auc for score in task.others.values()]
        stage.console.line(
            f"  AUC of {task.target}: trained on synthetic {task.synthetic.auc:.3f}, on all real "
            f"{task.real.auc:.3f}, on one hospital alone {min(alone):.3f} to {max(alone):.3f}"
        )
    return report, real


def _audit(
    stage: Demo, study: "Study", folders: "dict[str, SiteFolder]", model: "Model", table: "SyntheticTable"
) -> "dict[str, AuditReport]":
    """Step 5: each hospital attacks the candidate, and the weights behind it, with its own patients."""
    from synthkit_client.release_desk import Drawing, audit_candidate

    stage.next_step("Audits, each hospital on its own patients")
    reports = {}
    drawing = Drawing(model=model, seed=DRAWN_WITH)
    with stage.console.progress("auditing") as progress:
        for name, folder in folders.items():
            progress(f"audit at {name}")
            reports[name] = audit_candidate(folder, study, table, drawing=drawing)
    for name, report in reports.items():
        stage.console.line(
            f"  {name:<12} {report.verdict.value:<13} {report.reasons[0] if report.reasons else ''}"
        )
    return reports


def _release(
    stage: Demo,
    *,
    study: "Study",
    folders: "dict[str, SiteFolder]",
    model: "Model",
    table: "SyntheticTable",
    audits: "dict[str, AuditReport]",
    spends: "dict[str, PrivacySpend]",
) -> str:
    """Step 6: seal, approve, export, verify, tamper. Returns why it was refused, or nothing."""
    from synthkit.cli.joint_release import make_release, recipient_trust, show_tampering, verify_release

    stage.next_step("Release")
    trust = recipient_trust(folders, stage.output / "recipient-trust.json")
    path = stage.output / "release.synthkit"
    try:
        decisions = make_release(
            study,
            folders,
            model=model,
            table=table,
            audits=audits,
            spends=spends,
            reason=OFFICER_REASON,
            path=path,
        )
    except ReleaseRefusedError as error:
        stage.console.line(f"  REFUSED, nothing left: {error}")
        return str(error)
    for site, decision in decisions.items():
        stage.console.line(f"  {site:<12} approved: {decision}")
    verified = verify_release(path, trust)
    stage.console.line(f"  Exported and verified as a recipient would: {verified}")
    stage.console.line(f"  One byte flipped in a copy: refused, {show_tampering(path, trust)}")
    return ""


def _summary(
    stage: Demo,
    *,
    study: "Study",
    utility: "UtilityReport",
    audits: "dict[str, AuditReport]",
    spends: "dict[str, PrivacySpend]",
    refused: str,
) -> dict[str, object]:
    return {
        "output": str(stage.output),
        "study_digest": study.digest,
        "spend": {name: spend.to_json() for name, spend in spends.items()},
        "evaluation": utility.to_json(),
        "verdicts": {name: report.verdict.value for name, report in audits.items()},
        "released": not refused,
        "refused": refused,
        "seconds": round(time.monotonic() - stage.started, 1),
    }
