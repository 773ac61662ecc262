"""Faults of provenance: what the private training did not learn itself, and the patients it is given."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
from hospital import found
from house_stage import Fault, Stage, edit_header, module_of, saved_model, train_once
from release_workshop import RULES, Workshop, statement
from small_ward import WARD, ward_table

from synthkit.cli.model_header import read_model_header
from synthkit.data.encoding import ColumnEncoding
from synthkit.data.table import PatientTable
from synthkit.domain.audit import Verdict
from synthkit.domain.privacy import EncoderProvenance
from synthkit.domain.schema import Provenance, Schema
from synthkit.release.gate import decide
from synthkit.training.artefact import load_model


def unknown_encoder(stage: Stage) -> None:
    folder = saved_model(stage)
    if stage.is_faulty:
        edit_header(folder, encoder_provenance="borrowed from a colleague")
    read_model_header(folder)
    load_model(folder)


def encoder_without_word(stage: Stage) -> None:
    folder = saved_model(stage)
    if stage.is_faulty:
        header = json.loads((folder / "model.json").read_text())
        del header["encoder_provenance"]
        (folder / "model.json").write_text(json.dumps(header))
    read_model_header(folder)


def _provenance(stage: Stage) -> EncoderProvenance:
    return EncoderProvenance.NON_DP if stage.is_faulty else EncoderProvenance.PUBLIC


def private_encoder_at_the_gate(stage: Stage) -> None:
    decide(
        verdict=Verdict.PASS,
        rules=RULES,
        private=True,
        encoder_provenance=_provenance(stage),
        requested=None,
        reason="",
    )


def private_encoder_at_the_recipient(stage: Stage) -> None:
    """An insider signs everything without any gate."""
    world = Workshop()
    stated = statement("north", encoder_provenance=_provenance(stage))
    world.verified(world.forged(statements=[world.stated(stated), world.stated(statement("south"))]))


def _read_off(schema: Schema) -> Schema:
    first, *others = schema.columns
    return replace(schema, columns=(replace(first, provenance=Provenance.DATA), *others))


def bounds_read_off_at_one_site(stage: Stage) -> None:
    table = ward_table(120)
    table = replace(table, schema=_read_off(WARD)) if stage.is_faulty else table
    train_once(stage, table, seed=0)


def bounds_read_off_in_a_study(stage: Stage) -> None:
    hospital = found(stage.folder)
    study = replace(hospital.study, schema=_read_off(WARD)) if stage.is_faulty else hospital.study
    hospital.bring(study)
    hospital.force_approval(study)
    hospital.agent().answer(hospital.request(study=study))


def encoding_fits_bounds(stage: Stage) -> None:
    """Bins between the smallest and the largest value that is there, as min-max scaling does."""

    def from_rows(self: ColumnEncoding, numbers: np.ndarray) -> np.ndarray:
        edges = np.linspace(np.nanmin(numbers), np.nanmax(numbers), self.edges.size)
        bins = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, edges.size - 2)
        return np.where(np.isnan(numbers), self.present_states, bins + len(self.spikes)).astype(np.int64)

    if stage.is_faulty:
        stage.patch.setattr(ColumnEncoding, "_encode_numbers", from_rows)
    module_of("hostile/test_neighbours_look_alike.py").check_encoding_knows_no_other_patient()


def encoding_fits_vocabulary(stage: Stage) -> None:
    """Categories in the order in which the rows bring them, as an ordinal encoder fitted to them does."""
    honest = ColumnEncoding.encode

    def from_rows(self: ColumnEncoding, values: pd.Series) -> np.ndarray:
        if self.column.is_numeric:
            return honest(self, values)
        return pd.Categorical(values).codes.astype(np.int64)

    if stage.is_faulty:
        stage.patch.setattr(ColumnEncoding, "encode", from_rows)
    check = module_of("hostile/test_neighbours_look_alike.py").check_encoding_knows_no_other_patient
    stage.patch.setitem(check.__globals__["OUTLIER"], "unit", "a unit of one patient")
    if not stage.is_faulty:
        stage.patch.setitem(check.__globals__["OUTLIER"], "unit", "day clinic")
    check()


def split_by_permutation(stage: Stage) -> None:
    """Members drawn by permuting everybody: one patient fewer reshuffles the rest."""

    def permuted(
        self: PatientTable, shares: tuple[float, ...], *, seed: int, **_purpose: str
    ) -> tuple[np.ndarray, ...]:
        ids = np.random.default_rng(seed).permutation(np.unique(self.patients))
        cuts = np.floor(np.cumsum((0.0, *shares)) * ids.size + 1e-9).astype(int)
        groups = [ids[start:stop] for start, stop in pairwise(cuts)]
        return tuple(np.isin(self.patients, group) for group in groups)

    if stage.is_faulty:
        stage.patch.setattr(PatientTable, "split_masks", permuted)
    module_of("hostile/test_neighbours_look_alike.py").check_split_moves_one_patient(stage.folder)


PROVENANCE: dict[str, Fault] = {
    "encoder of unknown provenance": Fault(
        story=unknown_encoder, catcher="cli.model_header.read_model_header", says="header is malformed"
    ),
    "encoder that says nothing of its provenance": Fault(
        story=encoder_without_word, catcher="cli.model_header.read_model_header", says="header is malformed"
    ),
    "encoder of the patients without DP, approved": Fault(
        story=private_encoder_at_the_gate, catcher="release.gate.decide", says=r"release\.encoder_provenance"
    ),
    "encoder of the patients without DP, exported": Fault(
        story=private_encoder_at_the_recipient,
        catcher="release.claims.check_encoders",
        says="an encoder was trained on patients without DP",
    ),
    "bounds read off the rows, one site": Fault(
        story=bounds_read_off_at_one_site, catcher="training.single_site.check_trainable", says="read off"
    ),
    "bounds read off the rows, a study": Fault(
        story=bounds_read_off_in_a_study,
        catcher="domain.policy_check.check_study_against_policy",
        says=r"rule schema\.provenance",
    ),
    "bounds fitted while encoding": Fault(
        story=encoding_fits_bounds,
        catcher="tests/hostile/test_neighbours_look_alike.py",
        says="check_encoding_knows_no_other_patient failed: .*moved a state",
    ),
    "vocabulary fitted while encoding": Fault(
        story=encoding_fits_vocabulary,
        catcher="tests/hostile/test_neighbours_look_alike.py",
        says="check_encoding_knows_no_other_patient failed: .*moved a state",
    ),
    "split by a permutation of everybody": Fault(
        story=split_by_permutation,
        catcher="tests/hostile/test_neighbours_look_alike.py",
        says="check_split_moves_one_patient failed: .*other patients changed their part",
    ),
}
