"""`synthkit train`: one site on its own, from a table to a model.

Rule kept here: everything that can be refused is refused before the ledger is touched. Imports that
take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.console import Console, epsilon_text, figure
from synthkit.cli.loading import check_in_force, check_target, load_policy, load_schema, name_of
from synthkit.cli.options import JsonOption, SchemaOption, SeedOption
from synthkit.domain.canonical import JsonObject
from synthkit.domain.policy import SitePolicy
from synthkit.domain.privacy import Budget
from synthkit.errors import InputError, LedgerError
from synthkit.privacy.ledger import Ledger

if TYPE_CHECKING:
    from synthkit.domain.study import Study, TrainingPlan
    from synthkit.training.artefact import Model
    from synthkit.training.planning import Effort


TEMPLATE_ASSET = "name-of-your-patient-population"
"""What the shipped policies call the asset, until a hospital names its own."""


def train(
    *,
    table: Annotated[Path, typer.Argument(help="The patients, one row each: CSV, CSV.GZ or Parquet.")],
    schema: SchemaOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="The model's folder; must be new.")],
    generator: Annotated[str, typer.Option("--generator", help="medvae")] = "medvae",
    epsilon: Annotated[
        float | None, typer.Option("--epsilon", help="Target epsilon of this training.")
    ] = None,
    delta: Annotated[float, typer.Option("--delta", help="Delta of the guarantee.")] = 1e-5,
    ledger: Annotated[
        Path | None,
        typer.Option("--ledger", help="The asset's ledger; made when missing. Default: beside the table."),
    ] = None,
    policy: Annotated[
        str, typer.Option("--policy", help="The site's policy: a file, or a shipped one's name.")
    ] = "single-site",
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
    seed: SeedOption = 0,
    unsafe_no_dp: Annotated[
        bool, typer.Option("--unsafe-no-dp", help="Train WITHOUT privacy. The model says so for ever.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    r"""Train a generator at one site under differential privacy.

    The unit is one patient. Budget is reserved in the ledger before anything is drawn and committed
    once the model is stored; a crash in between leaves it spent. The seed fixes the initial weights
    only: noise and sampling come from the operating system.

    Example:
      synthkit train patients.csv --schema schema.toml --epsilon 3 --delta 1e-5 \
        --ledger patients.ledger --policy policy.toml --site north -o model
    """
    from synthkit.data.connectors import read_table
    from synthkit.training.planning import hyperparameters_without_privacy, plan_for
    from synthkit.training.single_site import Job, check_trainable, train_privately, train_unsafe

    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError("exists and is not an empty folder", where=name_of(output), fix="name a new folder")
    if (epsilon is None) is not unsafe_no_dp:
        raise InputError(
            "give either --epsilon or --unsafe-no-dp", where="option --epsilon", fix="for example --epsilon 3"
        )
    console = Console(as_json=as_json)
    rules, known = load_policy(policy), load_schema(schema)
    check_in_force(rules)
    effort = _effort(declared_size, steps, sample_rate, learning_rate, is_private=not unsafe_no_dp)
    job = Job(
        study=study or output.name,
        site=site,
        declared_size=declared_size,
        min_patients=rules.study.min_patients,
        seed=seed,
    )
    with console.progress("reading the table") as progress:
        rows = read_table(table, known, one_row_per_patient=True)
        if epsilon is None:
            usual = hyperparameters_without_privacy(generator)
            plan = plan_for(generator, effort, target_epsilon=1.0, delta=delta, hyperparameters=usual)
            progress("training WITHOUT privacy")
            model = train_unsafe(rows, plan, job, folder=output, progress=progress.at)
        else:
            check_trainable(rows, job)
            plan = plan_for(generator, effort, target_epsilon=epsilon, delta=delta)
            _check_policy(rules, job.as_study(rows, plan))
            if rules.asset == TEMPLATE_ASSET:
                console.note("this policy names no patient population: copy it, name yours, sign it")
            book = _open_ledger(ledger or table.with_name(table.name + ".ledger"), rules, site, plan)
            quota = Budget(epsilon=rules.study.max_epsilon, delta=rules.budget.delta)
            progress("training privately")
            model = train_privately(
                rows, plan, job, ledger=book, quota=quota, folder=output, progress=progress.at
            )
    _show(console, model, plan, output)


def _effort(
    declared_size: int, steps: int | None, rate: float | None, speed: float | None, *, is_private: bool
) -> "Effort":
    """The usual effort for this size, with what the options override."""
    from synthkit.training.planning import Effort, effort_for, effort_without_privacy

    usual = effort_for(declared_size) if is_private else effort_without_privacy(declared_size)
    return Effort(
        rounds=1,
        local_steps=steps or usual.local_steps,
        sample_rate=rate if rate is not None else usual.sample_rate,
        learning_rate=speed if speed is not None else usual.learning_rate,
    )


def _check_policy(policy: SitePolicy, study: "Study") -> None:
    """The policy's word on this plan, as for any study."""
    from synthkit.domain.policy_check import check_study_against_policy
    from synthkit.privacy.accounting import admission_epsilon, check_delta

    entry = study.roster[0]
    check_delta(study.plan.delta, entry.declared_size)
    planned = admission_epsilon(study.plan.total_events(), policy.budget.delta)
    today = dt.datetime.now(dt.UTC).date()
    check_study_against_policy(study, policy, planned_epsilon=planned, today=today)


def _open_ledger(path: Path, policy: SitePolicy, site: str, plan: "TrainingPlan") -> Ledger:
    """The asset's ledger; a new one with the policy's cap when there is none yet."""
    if not path.exists():
        check_target(path)
        return Ledger.create(
            path, asset=policy.asset, site=site, budget=policy.budget, reference=plan.total_events()[0]
        )
    ledger = Ledger.open(path, asset=policy.asset)
    if ledger.site != site:
        raise LedgerError("the ledger is another site's", where=name_of(path), fix="name its --site")
    if ledger.budget != policy.budget:
        raise LedgerError(
            "its cap is not the policy's",
            where=name_of(path),
            fix="a cap is fixed for a ledger's whole life; use the policy it was opened under",
        )
    return ledger


def _show(console: Console, model: "Model", plan: "TrainingPlan", folder: Path) -> None:
    spend = model.spend
    document: JsonObject = {
        "model": str(folder),
        "study": model.study,
        "study_digest": model.study_digest,
        "encoder_provenance": model.encoder_provenance.value,
        "unsafe": not model.is_private,
        "spend": None,
    }
    if spend is None:
        console.verdict("NOT PRIVATE", "nothing made from this model may be called private")
    else:
        document["spend"] = {
            "epsilon": spend.epsilon,
            "delta": spend.delta,
            "accountant": spend.accountant,
            "adjacency": spend.adjacency.value,
            "noise_multiplier": plan.noise_multiplier,
            "prior_noise_multiplier": plan.prior_noise_multiplier,
            "sample_rate": plan.sample_rate,
            "steps": plan.total_steps,
        }
        console.heading(f"Trained {model.generator.kind} into {folder}")
        console.pairs(
            {
                "epsilon": f"{epsilon_text(spend.epsilon)} at delta {figure(spend.delta)}, for one patient",
                "noise_multiplier": f"{figure(plan.noise_multiplier)}, and "
                f"{figure(plan.prior_noise_multiplier)} for the prior",
                "sample_rate": figure(plan.sample_rate),
                "steps": str(plan.total_steps),
            }
        )
    console.result(document)
