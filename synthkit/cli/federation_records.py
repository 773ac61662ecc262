"""What a federation of records of visits has of its own: where it starts, what it ends in, a site's files.

Decides nothing; see `synthkit.cli.federation`, which wires the nodes for both.
"""

# ruff: noqa: PLC0415

from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.domain.privacy import PrivacySpend
from synthkit.domain.schema import Schema
from synthkit.domain.study import Study
from synthkit.errors import InputError
from synthkit.federation.messages import Weights

if TYPE_CHECKING:
    from synthkit.generators.sequence_base import SequenceGenerator
    from synthkit.training.sequence_artefact import SequenceModel
    from synthkit_server.result import FederationResult

TABLE_ENDINGS = (".csv", ".csv.gz", ".parquet")

STATICS = "patients"
"""Beside a site's records the table of this name holds their static columns."""


def initial_record_weights(study: Study) -> Weights:
    """Fresh weights of the study's generator, by its public seed; nothing bought beside them yet."""
    from synthkit.federation.bought_sum import BoughtSum
    from synthkit.training.record_rounds import sum_width

    generator = _fresh(study)
    return BoughtSum.nothing(sum_width(generator)).beside(generator.get_weights())


def record_model_of(
    study: Study, result: "FederationResult", spend: PrivacySpend, *, site: str
) -> "SequenceModel":
    """The federation's model: the study's generator with the final weights, settled by what sites bought."""
    from synthkit.federation.bought_sum import taken_apart
    from synthkit.training.record_rounds import settle_rounds
    from synthkit.training.sequence_artefact import SequenceModel

    weights, bought = taken_apart(result.weights, where="the federation's result")
    generator = _fresh(study)
    generator.set_weights(weights)
    settle_rounds(generator, bought)
    generator.eval()
    return SequenceModel(
        schema=study.schema,
        generator=generator,
        spend=spend,
        study=study.name,
        study_digest=study.digest,
        site=site,
    )


def _fresh(study: Study) -> "SequenceGenerator":
    from synthkit.training.sequence_artefact import new_sequence_generator

    plan = study.plan
    return new_sequence_generator(plan.generator, study.schema, plan.hyperparameters, seed=study.initial_seed)


def site_tables(path: Path, schema: Schema) -> tuple[str, str]:
    """A site's table, and of records the one of static columns; empty where there is none.

    Raises:
        InputError: Too few or too many tables.
    """
    tables = sorted(file.name for file in path.iterdir() if file.name.endswith(TABLE_ENDINGS))
    statics = [name for name in tables if name.split(".")[0] == STATICS]
    if schema.is_longitudinal and len(tables) == 2 and len(statics) == 1:
        (records,) = (name for name in tables if name not in statics)
        return records, statics[0]
    if len(tables) != 1:
        fix = "put it there"
        what = "needs exactly one table (CSV, CSV.GZ or Parquet)"
        if schema.is_longitudinal:
            what += ", and beside it patients.csv if static columns stand apart"
        raise InputError(what, where=f"site {path.name}", fix=fix)
    return tables[0], ""
