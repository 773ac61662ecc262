"""`synthkit train --mode paper`: the published Med-VAE, MCM or EVA, for reproduction, without privacy.

Knows the mode's words and options, and how tables are trained on; of records `train_paper_records` does. Rule
kept here: nobody gets it by accident. It needs the word `--unsafe-no-dp`, takes no epsilon, and refuses every
option that would be silently ignored. Imports that take a second or more stand inside the functions that
need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkit.cli.console import Console
from synthkit.cli.loading import check_target, save_text
from synthkit.cli.tables import table_name
from synthkit.domain.documents import schema_to_toml
from synthkit.domain.schema import Schema
from synthkit.errors import InputError

if TYPE_CHECKING:
    from synthkit.data.reading import RawTable
    from synthkit.data.sources import TableSource
    from synthkit.data.table import PatientTable
    from synthkit.training.loop import Progress
    from synthkit.training.paper import PaperModel
    from synthkit.training.paper_eva_loop import EvaSettings
    from synthkit.training.paper_mcm import McmSettings
    from synthkit.training.paper_medvae import MedVaeSettings

MODES = ("private", "paper")

PUBLISHED = ("medvae", "mcm", "eva", "eva-c")
"""Generators that have a paper mode."""


@dataclass(frozen=True, kw_only=True)
class PaperOptions:
    """Options of the paper's mode alone; None where not given. All but `held_out` have published defaults."""

    epochs: int | None = None
    batch_size: int | None = None
    kl_weight: float | None = None
    drop_rare: float | None = None
    held_out: Path | None = None
    visit_vocabulary: int | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the options that were given, as they are typed."""
        return tuple(f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value is not None)

    def medvae(self, learning_rate: float | None) -> "MedVaeSettings":
        """Med-VAE's published settings with what was given in their place.

        Raises:
            InputError: One is out of range, or another generator's.
        """
        from synthkit.training.paper_medvae import MedVaeSettings

        self._check_alien("medvae")
        given = {**self._common(learning_rate), "kl_weight": self.kl_weight, "rare_below": self.drop_rare}
        return replace(MedVaeSettings(), **_only_given(given))

    def mcm(self, learning_rate: float | None) -> "McmSettings":
        """MCM's published settings with what was given in their place.

        Raises:
            InputError: One is out of range, or another generator's.
        """
        from synthkit.training.paper_mcm import McmSettings

        self._check_alien("mcm")
        return replace(McmSettings(), **_only_given(self._common(learning_rate)))

    def eva(self, learning_rate: float | None, most_visits: int | None) -> "EvaSettings":
        """EVA's settings with what was given in their place.

        Raises:
            InputError: One is out of range, or is a table's.
        """
        from synthkit.training.paper_eva_loop import EvaSettings

        self._check_alien("eva")
        given = {"words": self.visit_vocabulary, "most_visits": most_visits}
        return replace(EvaSettings(), **_only_given({**self._common(learning_rate), **given}))

    def _check_alien(self, generator: str) -> None:
        """Refuse what belongs to another generator."""
        owners = {
            "--kl-weight": (self.kl_weight, "medvae"),
            "--drop-rare": (self.drop_rare, "medvae"),
            "--visit-vocabulary": (self.visit_vocabulary, "eva"),
        }
        for name, (value, owner) in owners.items():
            if value is not None and owner != generator:
                what = f"belongs to --generator {owner}"
                raise InputError(what, where=f"option {name}", fix="leave it out")

    def _common(self, learning_rate: float | None) -> dict[str, float | None]:
        return {"epochs": self.epochs, "batch_size": self.batch_size, "learning_rate": learning_rate}


def _only_given(settings: Mapping[str, float | None]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class PaperJob:
    """Which rows to train on, under which names, into which folder."""

    generator: str
    table: "TableSource"
    schema: Schema
    folder: Path
    study: str
    site: str
    seed: int


def is_paper_mode(
    mode: str, options: PaperOptions, *, generator: str, is_unsafe: bool, private: Mapping[str, object]
) -> bool:
    """Whether the paper's mode is asked for, with every word that it takes.

    Args:
        mode: What `--mode` says.
        options: The paper mode's own options.
        generator: What `--generator` says.
        is_unsafe: Whether `--unsafe-no-dp` is given.
        private: Options that mean nothing in the paper's mode, by name; None where not given.

    Raises:
        InputError: An unknown mode, a missing word, or an option that the mode does not know.
    """
    if mode not in MODES:
        raise InputError("there is no such mode", where="option --mode", fix="private or paper")
    if mode == "private":
        if options.given:
            raise InputError(
                "belongs to the paper's mode", where=f"option {options.given[0]}", fix="--mode paper"
            )
        return False
    if generator not in PUBLISHED:
        raise InputError(
            "has no paper mode", where="option --generator", fix=f"--generator {' or '.join(PUBLISHED)}"
        )
    given = [name for name, value in private.items() if value is not None]
    if not is_unsafe or "--epsilon" in given:
        raise InputError(
            "the published system has no privacy and keeps patients' rows",
            where="option --mode paper",
            fix="say so with --unsafe-no-dp and without --epsilon, or use --mode private",
        )
    if given:
        raise InputError("means nothing in the paper's mode", where=f"option {given[0]}", fix="leave it out")
    return True


def train_as_published(
    job: PaperJob, options: PaperOptions, *, learning_rate: float | None, console: Console
) -> None:
    """Read, split off the held-out patients if asked, train, save, print."""
    from synthkit.data.connectors import read_table, read_text
    from synthkit.training.paper_artefact import save_paper

    fit = _trainer(job, options, learning_rate)
    reduced = job.folder.with_name(job.folder.name + ".schema.toml")
    if options.held_out is not None:
        check_target(options.held_out)
    if options.drop_rare:
        check_target(reduced)
    with console.progress("reading the table") as progress:
        raw = read_text(job.table)
        rows = read_table(raw, job.schema, where=table_name(job.table), one_row_per_patient=True)
        if options.held_out is not None:
            rows = _without_held_out(raw, rows, options.held_out, job.seed)
        progress("training WITHOUT privacy")
        model = fit(rows, progress.at)
        save_paper(model, job.folder)
    dropped = [name for name in job.schema.names if name not in model.schema.names]
    if dropped:
        save_text(reduced, schema_to_toml(model.schema))
    _show(console, model, job.folder, dropped, reduced if dropped else None)


def _trainer(
    job: PaperJob, options: PaperOptions, learning_rate: float | None
) -> Callable[["PatientTable", "Progress"], "PaperModel"]:
    """What trains the job's system; its settings are checked before any row is read."""
    from synthkit.training.paper_mcm import train_mcm
    from synthkit.training.paper_medvae import train_medvae

    if job.generator == "mcm":
        fit = partial(train_mcm, settings=options.mcm(learning_rate))
        return lambda rows, progress: fit(
            rows, seed=job.seed, study=job.study, site=job.site, progress=progress
        )
    usual = partial(train_medvae, settings=options.medvae(learning_rate))
    return lambda rows, progress: usual(
        rows, seed=job.seed, study=job.study, site=job.site, progress=progress
    )


def _without_held_out(raw: "RawTable", rows: "PatientTable", target: Path, seed: int) -> "PatientTable":
    """The published 80 % of the patients; the other 20 % are written as they came."""
    from synthkit.training.paper import TRAIN_SHARES

    kept, held = rows.split_masks(TRAIN_SHARES, seed=seed, purpose="paper")
    text: str = raw.frame.loc[held].to_csv(index=False, lineterminator="\n")
    save_text(target, text)
    return rows.take(kept)


def _show(
    console: Console, model: "PaperModel", folder: Path, dropped: list[str], schema_file: Path | None
) -> None:
    from synthkit.training.paper import MODE

    console.heading(f"Trained {model.kind}, as published, into {folder}")
    console.line("The folder holds, without any protection:")
    console.items(model.holds)
    if schema_file is not None:
        console.pairs(
            {
                "dropped as rare": ", ".join(dropped),
                "schema": f"{schema_file}: give this one to later commands",
            }
        )
    linkage = [one.to_json() for one in model.linkage]
    if model.linkage:
        console.line("Rows that it makes by completing real ones, measured on the training patients:")
        console.items(one.words for one in model.linkage)
    console.verdict("NOT PRIVATE", "nothing made from this model may be called private")
    console.result(
        {
            "model": str(folder),
            "mode": MODE,
            "study": model.study,
            "study_digest": model.study_digest,
            "encoder_provenance": model.encoder_provenance.value,
            "unsafe": True,
            "spend": None,
            "preprocessing": None,
            "dropped": dropped,
            "schema": str(schema_file) if schema_file is not None else None,
            "holds": list(model.holds),
            "linkage": linkage,
        }
    )
