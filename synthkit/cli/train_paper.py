"""`synthkit train --mode paper`: the published Med-VAE, for reproduction, without privacy.

Rule kept here: nobody gets it by accident. It needs the word `--unsafe-no-dp`, takes no epsilon, and
refuses every option that would be silently ignored. Imports that take a second or more stand inside the
functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.cli.console import Console
from synthkit.cli.loading import check_target, save_text
from synthkit.domain.documents import schema_to_toml
from synthkit.domain.schema import Schema
from synthkit.errors import InputError

if TYPE_CHECKING:
    from synthkit.data.table import PatientTable
    from synthkit.training.paper import PaperModel, PaperSettings

MODES = ("private", "paper")


@dataclass(frozen=True, kw_only=True)
class PaperOptions:
    """Options of the paper's mode alone; None where not given. All but `held_out` have published defaults."""

    epochs: int | None = None
    batch_size: int | None = None
    kl_weight: float | None = None
    drop_rare: float | None = None
    held_out: Path | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the options that were given, as they are typed."""
        return tuple(f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value is not None)

    def settings(self, learning_rate: float | None) -> "PaperSettings":
        """The published settings with what was given in their place.

        Raises:
            InputError: One is out of range.
        """
        from synthkit.training.paper import PaperSettings

        usual = PaperSettings()
        return PaperSettings(
            epochs=usual.epochs if self.epochs is None else self.epochs,
            batch_size=usual.batch_size if self.batch_size is None else self.batch_size,
            learning_rate=usual.learning_rate if learning_rate is None else learning_rate,
            kl_weight=usual.kl_weight if self.kl_weight is None else self.kl_weight,
            rare_below=usual.rare_below if self.drop_rare is None else self.drop_rare,
        )


@dataclass(frozen=True, kw_only=True)
class PaperJob:
    """Which rows to train on, under which names, into which folder."""

    table: Path
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
    if generator != "medvae":
        raise InputError(
            "has no paper mode in this version", where="option --generator", fix="--generator medvae"
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
    from synthkit.data.connectors import read_table
    from synthkit.training.paper import train_paper
    from synthkit.training.paper_artefact import save_paper

    settings = options.settings(learning_rate)
    reduced = job.folder.with_name(job.folder.name + ".schema.toml")
    if options.held_out is not None:
        check_target(options.held_out)
    if settings.rare_below > 0:
        check_target(reduced)
    with console.progress("reading the table") as progress:
        rows = read_table(job.table, job.schema, one_row_per_patient=True)
        if options.held_out is not None:
            rows = _without_held_out(job.table, rows, options.held_out, job.seed)
        progress("training WITHOUT privacy")
        model = train_paper(
            rows, settings, seed=job.seed, study=job.study, site=job.site, progress=progress.at
        )
        save_paper(model, job.folder)
    dropped = [name for name in job.schema.names if name not in model.schema.names]
    if dropped:
        save_text(reduced, schema_to_toml(model.schema))
    _show(console, model, job.folder, dropped, reduced if dropped else None)


def _without_held_out(table: Path, rows: "PatientTable", target: Path, seed: int) -> "PatientTable":
    """The published 80 % of the patients; the other 20 % are written as they came."""
    from synthkit.data.connectors import read_frame
    from synthkit.training.paper import TRAIN_SHARES

    kept, held = rows.split_masks(TRAIN_SHARES, seed=seed, purpose="paper")
    text: str = read_frame(table).loc[held].to_csv(index=False, lineterminator="\n")
    save_text(target, text)
    return rows.take(kept)


def _show(
    console: Console, model: "PaperModel", folder: Path, dropped: list[str], schema_file: Path | None
) -> None:
    from synthkit.training.paper import MODE
    from synthkit.training.paper_artefact import HOLDS

    console.heading(f"Trained medvae, as published, into {folder}")
    console.line("The folder holds, without any protection:")
    console.items(HOLDS)
    if schema_file is not None:
        console.pairs(
            {
                "dropped as rare": ", ".join(dropped),
                "schema": f"{schema_file}: give this one to later commands",
            }
        )
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
            "holds": list(HOLDS),
        }
    )
