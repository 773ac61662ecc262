"""`synthkit train`: one site on its own, from a table to a model.

Rule kept here: everything that can be refused is refused before the ledger is touched. Imports that
take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.console import Console, Progress
from synthkit.cli.encoder_option import EncoderOption, parse_encoder
from synthkit.cli.ledgers import TEMPLATE_ASSET, TEMPLATE_NOTE, open_ledger
from synthkit.cli.loading import check_target, load_schema, name_of, save_text
from synthkit.cli.options import JsonOption, PolicyTrustOption, SchemaOption, SeedOption, ShareOption
from synthkit.cli.policy_in_force import policy_in_force
from synthkit.cli.tables import PatientsOption, QueryOption, TableArgument, default_ledger, given_tables
from synthkit.cli.train_checks import check_share, check_stepwise
from synthkit.cli.train_outcome import Outcome, show
from synthkit.cli.train_paper import PaperJob, PaperOptions, is_paper_mode, train_as_published
from synthkit.cli.train_paper_records import train_records_as_published
from synthkit.cli.train_sequences import SequenceOptions, is_of_records, train_on_records
from synthkit.domain.canonical import JsonObject
from synthkit.domain.documents import schema_to_toml
from synthkit.domain.policy import SitePolicy
from synthkit.domain.privacy import Budget, PrivacyEvent
from synthkit.errors import InputError
from synthkit.privacy.ledger import Ledger

if TYPE_CHECKING:
    from synthkit.data.table import PatientTable
    from synthkit.domain.study import Study
    from synthkit.training.planning import Effort
    from synthkit.training.single_site import Job


def train(
    *,
    table: TableArgument,
    schema: SchemaOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="The model's folder; must be new.")],
    generator: Annotated[
        str,
        typer.Option(
            "--generator",
            help="medvae or mcm (one release of tables), medvae-sgd or mcm-sgd (by steps); records: eva, "
            "eva-c, lstm, vae-lstm, vae-deconv.",
        ),
    ] = "medvae",
    epsilon: Annotated[
        float | None, typer.Option("--epsilon", help="Target epsilon of this training.")
    ] = None,
    delta: Annotated[float, typer.Option("--delta", help="Delta of the guarantee.")] = 1e-5,
    ledger: Annotated[
        Path | None,
        typer.Option(
            "--ledger", help="The asset's ledger; made when missing. Default: ASSET.ledger beside the table."
        ),
    ] = None,
    policy: Annotated[
        str, typer.Option("--policy", help="The site's policy: a file, or a shipped one's name.")
    ] = "single-site",
    trust: PolicyTrustOption = None,
    site: Annotated[str, typer.Option("--site", help="This hospital's name.")] = "site",
    study: Annotated[
        str | None, typer.Option("--study", help="The study's name. Default: the model folder's.")
    ] = None,
    declared_size: Annotated[
        int,
        typer.Option(
            "--declared-size", min=1, help="A public round figure for the number of patients; never counted."
        ),
    ] = 5000,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Steps in all.")] = None,
    sample_rate: Annotated[
        float | None, typer.Option("--sample-rate", help="Chance of each patient to be in a step's batch.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Adam's.")] = None,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", help="Freeze medvae-sgd's: public:MODEL, random, or dp:EPSILON."),
    ] = None,
    preprocessing_share: ShareOption = None,
    patients: PatientsOption = None,
    query: QueryOption = None,
    most_visits: Annotated[
        int | None,
        typer.Option(
            "--most-visits", min=1, help="Records: visits of one patient that are trained on. Default: 200."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            help="Records: point, one set (usual), or posterior, ten draws of them that patients are drawn "
            "from (EVA's published Algorithm 1).",
        ),
    ] = None,
    seed: SeedOption = 0,
    unsafe_no_dp: Annotated[
        bool, typer.Option("--unsafe-no-dp", help="Train WITHOUT privacy. The model says so for ever.")
    ] = False,
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            help="private, or paper: the published system, which keeps patients' rows (--unsafe-no-dp).",
        ),
    ] = "private",
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Paper mode: passes over the patients; else as published.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Paper mode: patients in a batch; else as published.")
    ] = None,
    kl_weight: Annotated[
        float | None, typer.Option("--kl-weight", help="Paper mode: beta in the last epoch. Default: 1.")
    ] = None,
    drop_rare: Annotated[
        float | None,
        typer.Option(
            "--drop-rare",
            help="Paper mode: drop columns of categories rarer than this share, in the paper 0.1 for drugs.",
        ),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option("--held-out", help="Paper mode: train on 80 % of the patients, write the rest here."),
    ] = None,
    visit_vocabulary: Annotated[
        int | None,
        typer.Option(
            "--visit-vocabulary", help="Paper mode, records: most visits that are words. Default: 50,000."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    r"""Train a generator at one site under differential privacy.

    The unit is one patient. Budget is reserved in the ledger before anything is drawn and committed
    once the model is stored; a crash in between leaves it spent. The seed fixes the initial weights
    only: noise and sampling come from the operating system.

    What the schema marks `provenance = "dp"` is bought first, with a share of epsilon, and the completed
    schema is written beside the model, as MODEL.schema.toml. Later commands take that one.

    A longitudinal schema takes records, one row a code, and --generator eva; the unit is a patient with
    the whole record.

    With `--mode paper --unsafe-no-dp` the model is the published Med-VAE or MCM, or of records EVA, for
    reproduction: its folder holds the training patients' rows or visits, and no shipped policy lets
    anything made with it leave.

    Example:
      synthkit train patients.csv --schema schema.toml --epsilon 3 --delta 1e-5 \
        --ledger patients.ledger --policy policy.toml --site north -o model
      synthkit train records.parquet --patients patients.csv --schema schema.toml --generator eva \
        --epsilon 8 --declared-size 20000 --policy policy.toml -o model
      synthkit train sqlite:///hospital.db --query "SELECT * FROM patients" --schema schema.toml \
        --epsilon 3 --ledger patients.ledger --policy policy.toml -o model
    """
    from synthkit.data.connectors import read_table
    from synthkit.training.planning import hyperparameters_without_privacy, plan_for
    from synthkit.training.single_site import Job, train_unsafe

    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError("exists and is not an empty folder", where=name_of(output), fix="name a new folder")
    rules = policy_in_force(policy, trust, site=site)
    given = given_tables(query, table=table, patients=patients)
    records = SequenceOptions(
        generator=generator,
        table=given.of("table"),
        patients=given.get("patients"),
        folder=output,
        epsilon=epsilon,
        delta=delta,
        ledger=ledger,
        site=site,
        study=study or output.name,
        declared_size=declared_size,
        most_visits=most_visits,
        weights=weights,
        steps=steps,
        sample_rate=sample_rate,
        learning_rate=learning_rate,
        seed=seed,
        preprocessing_share=preprocessing_share,
    )
    published = PaperOptions(
        epochs=epochs,
        batch_size=batch_size,
        kl_weight=kl_weight,
        drop_rare=drop_rare,
        held_out=held_out,
        visit_vocabulary=visit_vocabulary,
    )
    others: JsonObject = {"--preprocessing-share": preprocessing_share, "--encoder": encoder}
    private = {"--epsilon": epsilon, "--ledger": ledger, "--steps": steps, "--sample-rate": sample_rate}
    private |= others
    is_paper = partial(is_paper_mode, mode, published, generator=generator, is_unsafe=unsafe_no_dp)
    if is_of_records(schema, records):
        if is_paper(private={**private, "--weights": weights}):
            train_records_as_published(
                records, load_schema(schema), published, console=Console(as_json=as_json)
            )
            return
        train_on_records(
            records,
            load_schema(schema),
            policy=policy,
            is_unsafe=unsafe_no_dp,
            refused=[] if encoder is None else ["--encoder"],
            console=Console(as_json=as_json),
        )
        return
    if is_paper(private=private):
        paper = PaperJob(
            generator=generator,
            table=given.of("table"),
            schema=load_schema(schema),
            folder=output,
            study=study or output.name,
            site=site,
            seed=seed,
        )
        train_as_published(paper, published, learning_rate=learning_rate, console=Console(as_json=as_json))
        return
    if (epsilon is None) is not unsafe_no_dp:
        raise InputError(
            "give either --epsilon or --unsafe-no-dp", where="option --epsilon", fix="for example --epsilon 3"
        )
    console = Console(as_json=as_json)
    frozen = parse_encoder(encoder, generator=generator, epsilon=epsilon)
    known = load_schema(schema)
    check_share(preprocessing_share, is_draft=bool(known.to_buy()))
    stepwise = {"--steps": steps, "--sample-rate": sample_rate, "--learning-rate": learning_rate}
    check_stepwise(generator, [name for name, value in stepwise.items() if value is not None])
    unsafe = generator if unsafe_no_dp else None
    effort = _effort(declared_size, steps, sample_rate, learning_rate, unsafe=unsafe)
    job = Job(
        study=study or output.name,
        site=site,
        declared_size=declared_size,
        min_patients=rules.study.min_patients,
        seed=seed,
    )
    with console.progress("reading the table") as progress:
        rows = read_table(given.of("table"), known, is_draft=epsilon is not None)
        if epsilon is None:
            usual = hyperparameters_without_privacy(generator, declared_size)
            plan = plan_for(generator, effort, target_epsilon=1.0, delta=delta, hyperparameters=usual)
            progress("training WITHOUT privacy")
            model = train_unsafe(rows, plan, job, folder=output, progress=progress.at)
            outcome = Outcome(model=model, plan=plan)
        else:
            terms = _Terms(
                epsilon=epsilon,
                delta=delta,
                share=preprocessing_share,
                generator=generator,
                encoder=frozen,
                effort=effort,
                policy=rules,
                job=job,
                ledger=ledger or default_ledger(given.of("table"), rules.asset),
                folder=output,
            )
            outcome = _train_privately(rows, terms, console, progress)
    show(console, outcome, output)
    if rules.vault.required:
        # Whoever reads the weights draws the rows that the vault is to keep.
        output.chmod(0o700)
        console.line("Its folder opens for its owner alone, for the policy requires a vault.")
    if unsafe == "mcm":
        console.note("without privacy --generator mcm-sgd learns more: also what pairs of columns do not say")


def _effort(
    declared_size: int, steps: int | None, rate: float | None, speed: float | None, *, unsafe: str | None
) -> "Effort":
    """The usual effort for this size, or for a generator without privacy, with what the options override."""
    from synthkit.training.planning import Effort, effort_for, effort_without_privacy

    usual = effort_without_privacy(declared_size, unsafe) if unsafe else effort_for(declared_size)
    return Effort(
        rounds=1,
        local_steps=steps or usual.local_steps,
        sample_rate=rate if rate is not None else usual.sample_rate,
        learning_rate=speed if speed is not None else usual.learning_rate,
    )


def _check_policy(policy: SitePolicy, study: "Study", bought: Sequence[PrivacyEvent]) -> None:
    """The policy's word on this plan, with what the schema costs, as for any study."""
    from synthkit.domain.policy_check import check_study_against_policy
    from synthkit.privacy.accounting import admission_epsilon, check_delta

    entry = study.roster[0]
    check_delta(study.plan.delta, entry.declared_size)
    planned = admission_epsilon((*bought, *study.plan.total_events()), policy.budget.delta)
    today = dt.datetime.now(dt.UTC).date()
    check_study_against_policy(study, policy, planned_epsilon=planned, today=today)


@dataclass(frozen=True, kw_only=True)
class _Terms:
    """On which terms to train privately: all public, all as given by options."""

    epsilon: float
    delta: float
    share: float | None
    generator: str
    encoder: EncoderOption
    effort: "Effort"
    policy: SitePolicy
    job: "Job"
    ledger: Path
    folder: Path


def _train_privately(rows: "PatientTable", terms: _Terms, console: Console, progress: Progress) -> Outcome:
    """Buy what the schema leaves open, then train; whatever can be refused is refused before either."""
    from synthkit.data.purchase import conform
    from synthkit.training.encoder_source import plan_with_encoder
    from synthkit.training.planning import PREPROCESSING_SHARE, purchase_for
    from synthkit.training.purchasing import buy_schema, check_bought
    from synthkit.training.single_site import check_trainable, train_privately

    job, rules, path = terms.job, terms.policy, bought_schema_path(terms.folder)
    check_trainable(rows, job)
    purchase, share = None, terms.share if terms.share is not None else PREPROCESSING_SHARE
    known = Ledger.open(terms.ledger, asset=rules.asset) if terms.ledger.exists() else None
    source = terms.encoder.source(rows.schema, site=job.site, study=job.study, ledger=known)
    if rows.schema.to_buy():
        check_target(path)
        purchase = purchase_for(rows.schema, target_epsilon=share * terms.epsilon, delta=terms.delta)
        bought = purchase.events
    else:
        bought = check_bought(rows.schema, known)
    plan = plan_with_encoder(
        source,
        terms.generator,
        terms.effort,
        target_epsilon=terms.epsilon,
        delta=terms.delta,
        history=bought,
    )
    _check_policy(rules, job.as_study(rows, plan), bought)
    if rules.asset == TEMPLATE_ASSET:
        console.note(TEMPLATE_NOTE)
    if terms.encoder.vow:
        console.note(terms.encoder.vow)
    book = open_ledger(terms.ledger, rules, job.site, reference=plan.total_events()[0])
    quota = Budget(epsilon=rules.study.max_epsilon, delta=rules.budget.delta)
    if purchase is not None:
        # The training first: the quota's leading order is chosen for it.
        book.check_room((*plan.total_events(), *bought), quota=quota)
        progress("buying the schema")
        completed = buy_schema(
            rows, purchase, ledger=book, quota=quota, store=lambda s: save_text(path, schema_to_toml(s))
        )
        rows = conform(rows, completed)
    progress("training privately")
    model = train_privately(
        rows,
        plan,
        job,
        ledger=book,
        quota=quota,
        folder=terms.folder,
        encoder=source.weights,
        progress=progress.at,
    )
    if purchase is None:
        return Outcome(model=model, plan=plan, bought=bought)
    return Outcome(model=model, plan=plan, bought=bought, share=share, schema_file=path)


def bought_schema_path(folder: Path) -> Path:
    """Where the completed schema of a draft is written: beside the model's folder, before the model is."""
    return folder.with_name(folder.name + ".schema.toml")
