"""`synthkit train --mode paper` on records of visits: EVA or EVA_c as published, without privacy.

Rule kept here: as published four patients in five are trained on; the fifth is the control that the copies
are counted against, and is written to no file. Imports that take a second or more stand inside the functions
that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from typing import TYPE_CHECKING

from synthkit.cli.console import Console
from synthkit.cli.loading import check_target, save_text
from synthkit.cli.train_paper import PaperOptions
from synthkit.cli.train_sequences import MOST_CODES, SequenceOptions
from synthkit.domain.documents import schema_to_toml
from synthkit.domain.schema import Schema
from synthkit.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from synthkit.training.paper_eva import PublishedEva


def train_records_as_published(
    options: SequenceOptions, schema: Schema, paper: PaperOptions, *, console: Console
) -> None:
    """Read, train on the published share of the patients, save, and say what came of it.

    Raises:
        InputError: An option that says nothing here, or the records cannot be learnt from.
    """
    from synthkit.data.sequence_reading import Caps, read_sequences
    from synthkit.training.paper import TRAIN_SHARES
    from synthkit.training.paper_artefact import save_paper
    from synthkit.training.paper_eva import train_eva

    if paper.held_out is not None:
        fix = "leave it out: one patient in five is held out of records as the control"
        raise InputError("belongs to a table", where="option --held-out", fix=fix)
    settings = paper.eva(options.learning_rate, options.most_visits)
    reduced = options.folder.with_name(options.folder.name + ".schema.toml")
    check_target(reduced)
    with console.progress("reading the records") as progress:
        caps = Caps(visits=settings.most_visits, codes=MOST_CODES, is_cut=True)
        records = read_sequences(options.table, schema, patients=options.patients, caps=caps)
        trained, unseen = records.split(TRAIN_SHARES, seed=options.seed, purpose="paper")
        progress("training WITHOUT privacy")
        model = train_eva(
            trained,
            settings,
            unseen=unseen,
            is_conditional=options.generator == "eva-c",
            seed=options.seed,
            study=options.study,
            site=options.site,
            progress=progress.at,
        )
        save_paper(model, options.folder)
    dropped = [name for name in model.schema.ignored if name not in schema.ignored]
    if dropped:
        save_text(reduced, schema_to_toml(model.schema))
    _show(console, model, options.folder, dropped, reduced if dropped else None)


def _show(
    console: Console, model: "PublishedEva", folder: "Path", dropped: list[str], schema_file: "Path | None"
) -> None:
    from synthkit.training.paper import MODE

    console.heading(f"Trained {model.kind}, as published, into {folder}")
    console.line("The folder holds, without any protection:")
    console.items(model.holds)
    replaced = f"{100 * model.replaced_share:.1f} % of the visits are no such word; the nearest stands for it"
    facts = {"visits as words": f"{len(model.vocabulary):,}", "replaced": replaced}
    if schema_file is not None:
        facts |= {
            "not known to the paper": ", ".join(dropped),
            "schema": f"{schema_file}: give this one to later commands",
        }
    console.pairs(facts)
    copies = model.copies
    if copies is not None:
        console.line(f"Measured against the patients who were held out: {copies.words}.")
    console.verdict("NOT PRIVATE", "nothing made from this model may be called private")
    console.result(
        {
            "model": str(folder),
            "mode": MODE,
            "generator": model.kind,
            "study": model.study,
            "study_digest": model.study_digest,
            "encoder_provenance": model.encoder_provenance.value,
            "unsafe": True,
            "spend": None,
            "dropped": dropped,
            "schema": str(schema_file) if schema_file is not None else None,
            "holds": list(model.holds),
            "words": len(model.vocabulary),
            "replaced_share": model.replaced_share,
            "verbatim": None if copies is None else copies.to_json(),
        }
    )
