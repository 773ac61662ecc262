"""Wire the nodes of one federation together, on this machine: what `federate` and `demo` share.

Knows the coordinator's key, the sites' folders, and both nodes. Decides nothing: each site's guard
admits or refuses the study, each site's agent trains, the coordinator's loop aggregates.
"""

# ruff: noqa: PLC0415

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.domain.privacy import PrivacySpend
from synthkit.domain.study import Site, Study
from synthkit.errors import PolicyError
from synthkit.federation.messages import Weights
from synthkit.release.signing import SigningKey, TrustedKey, generate_key, read_key, seal_document, write_key

if TYPE_CHECKING:
    from synthkit.training.artefact import Model
    from synthkit_client.site_folder import SiteFolder
    from synthkit_server.result import FederationResult, RoundSummary

COORDINATOR = "coordinator"
COORDINATOR_KEY = "coordinator.key"

AVERAGE_LAST = 2
"""Training rounds whose averages are averaged again before the prior is fitted: free of charge, and the
noise of two rounds partly cancels."""

WORKERS = 2
"""Sites that train at the same time in one process; more than cores gains nothing."""


@dataclass(frozen=True, kw_only=True)
class Coordinator:
    """The coordinator's key and folder."""

    folder: Path
    key: SigningKey

    @property
    def trusted(self) -> TrustedKey:
        """As sites' trust stores list it."""
        return TrustedKey(name=COORDINATOR, role="coordinator", public_key=self.key.public_key_hex)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A site whose policy does not allow the study: the deciding rule, what it says, the whole line."""

    site: str
    rule: str
    what: str
    reason: str


def open_coordinator(folder: Path) -> Coordinator:
    """The coordinator of a folder; its key is made the first time."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / COORDINATOR_KEY
    if not path.exists():
        write_key(generate_key(), path, None)
    coordinator = Coordinator(folder=folder, key=read_key(path))
    trust = {"keys": [coordinator.trusted.to_json()]}
    (folder / "trust.json").write_text(json.dumps(trust, indent=1) + "\n", encoding="utf-8")
    return coordinator


def with_roster(study: Study, folders: Sequence["SiteFolder"]) -> Study:
    """The study with exactly these sites, by their own names, keys and declared sizes."""
    roster = tuple(
        Site(
            name=folder.name,
            public_key=folder.key.public_key_hex,
            declared_size=folder.config.declared_size,
        )
        for folder in folders
    )
    return replace(study, roster=roster)


def ask_sites(study: Study, folders: Sequence["SiteFolder"], coordinator: Coordinator) -> tuple[Refusal, ...]:
    """Sign a study, bring it to every site, and let each officer approve it or her policy refuse.

    Raises:
        SynthkitError: A site's folder cannot be used.
    """
    from synthkit_client.enrol import OFFICER_KEY, bring_study, officer_name
    from synthkit_client.guard import approve_study

    envelope = seal_document(study.to_json(), "study", coordinator.key, COORDINATOR)
    (coordinator.folder / "study.json").write_text(json.dumps(envelope), encoding="utf-8")
    refusals = []
    for folder in folders:
        bring_study(folder, envelope)
        officer = read_key(folder.path / OFFICER_KEY)
        try:
            approve_study(folder, study, officer_name(folder.name), officer, today=_today())
        except PolicyError as error:
            what = error.what.removesuffix(f" [rule {error.rule}]")
            refusals.append(Refusal(site=folder.name, rule=error.rule, what=what, reason=str(error)))
    return tuple(refusals)


def run_study(
    study: Study,
    folders: Mapping[str, "SiteFolder"],
    coordinator: Coordinator,
    *,
    processes: bool,
    encoder: Weights | None = None,
    on_round: Callable[["RoundSummary"], None] | None = None,
) -> "FederationResult":
    """Run all rounds, in this process or over real Flower processes on loopback.

    `encoder` is the public encoder's arrays, if the study's plan freezes one.

    Raises:
        PeerError: A round had fewer usable replies than the quorum.
        InputError: The public encoder is missing, or not the plan's.
    """
    from synthkit_server.storage import write_weights

    start = initial_weights(study, encoder)
    if not processes:
        return _run_here(study, folders, start, coordinator, on_round)
    from synthkit_server.rehearsal import run_processes
    from synthkit_server.strategy import RoundRules

    initial = coordinator.folder / "initial.safetensors"
    write_weights(initial, start)
    return run_processes(
        coordinator.folder / "study.json",
        initial,
        {name: folder.path for name, folder in folders.items()},
        coordinator.folder / "processes",
        trust=coordinator.folder / "trust.json",
        key=coordinator.folder / COORDINATOR_KEY,
        rules=RoundRules(average_last=average_last(study)),
        progress=on_round,
    )


def initial_weights(study: Study, encoder: Weights | None) -> Weights:
    """What the first round starts from: fresh weights by the study's seed, with the public encoder if any.

    Raises:
        InputError: The public encoder is missing, or not the plan's.
    """
    from synthkit.cli.federation_records import initial_record_weights
    from synthkit.training.artefact import new_generator
    from synthkit.training.freeze import place_encoder

    if study.schema.is_longitudinal:
        return initial_record_weights(study)
    generator = new_generator(
        study.plan.generator, study.schema, study.plan.hyperparameters, seed=study.initial_seed
    )
    place_encoder(generator, study.plan, encoder)
    return generator.get_weights()


def average_last(study: Study) -> int:
    """Training rounds whose averages are averaged again."""
    from synthkit.training.record_rounds import averaged_rounds

    return averaged_rounds(study.plan) if study.plan.prior_first else AVERAGE_LAST


def _run_here(
    study: Study,
    folders: Mapping[str, "SiteFolder"],
    initial: Weights,
    coordinator: Coordinator,
    on_round: Callable[["RoundSummary"], None] | None,
) -> "FederationResult":
    import torch

    from synthkit_client.agent import SiteAgent
    from synthkit_client.app import make_app
    from synthkit_server.countersign import Countersigner
    from synthkit_server.local_grid import run_local
    from synthkit_server.strategy import RoundRules

    apps = {name: make_app(SiteAgent.open(folder.path)) for name, folder in folders.items()}
    checkpoint = coordinator.folder / "checkpoint"
    rules = RoundRules(average_last=average_last(study))
    # The sites share the cores: one thread each, or they wait for one another at every operation.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run_local(
            study,
            initial,
            apps,
            rules=rules,
            checkpoint=checkpoint,
            on_round=on_round,
            workers=WORKERS,
            countersigner=Countersigner(key=coordinator.key, name=COORDINATOR),
        )
    finally:
        torch.set_num_threads(threads)


def model_of(
    study: Study,
    result: "FederationResult",
    spend: PrivacySpend,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> "Model":
    """The federation's model: the study's generator with the final weights, fitted if it needs to be."""
    from synthkit.training.artefact import Model, new_generator
    from synthkit.training.freeze import check_encoder
    from synthkit.training.loop import finish

    generator = new_generator(
        study.plan.generator, study.schema, study.plan.hyperparameters, seed=study.initial_seed
    )
    generator.set_weights(result.weights)
    check_encoder(generator, study.plan)
    last = set(result.rounds[-1].sites) if result.rounds else {site.name for site in study.roster}
    sizes = [site.declared_size for site in study.roster if site.name in last]
    finish(generator, study.plan, sizes, progress=progress)
    generator.eval()
    return Model(
        schema=study.schema,
        generator=generator,
        spend=spend,
        encoder_provenance=study.plan.encoder_provenance,
        study=study.name,
        study_digest=study.digest,
        site=COORDINATOR,
    )


def save_result(
    study: Study,
    result: "FederationResult",
    spend: PrivacySpend,
    folder: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the federation's model, of a table or of records."""
    from synthkit.cli.federation_records import record_model_of
    from synthkit.training.artefact import save_model
    from synthkit.training.sequence_artefact import save_sequence_model

    if study.schema.is_longitudinal:
        save_sequence_model(record_model_of(study, result, spend, site=COORDINATOR), folder)
    else:
        save_model(model_of(study, result, spend, progress=progress), folder)


def spends_of(study: Study, folders: Mapping[str, "SiteFolder"]) -> dict[str, PrivacySpend]:
    """What the study cost each site's patients, from each site's own ledger."""
    schema = study.schema.digest
    return {name: folder.open_ledger().spend(study.digest, schema=schema) for name, folder in folders.items()}


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()
