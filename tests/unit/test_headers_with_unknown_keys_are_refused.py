"""What a model's header says and this version does not know is refused, not passed over."""

import json

import pytest
from record_ward import SMALL as SMALL_RECORDS
from record_ward import simulated
from small_ward import WARD

from synthkit.domain.privacy import EncoderProvenance, GaussianEvent
from synthkit.errors import InputError
from synthkit.privacy.accounting import spend_of
from synthkit.training.artefact import HEADER, Model, load_model, new_generator, save_model
from synthkit.training.paper_artefact import open_model
from synthkit.training.sequence_artefact import (
    SequenceModel,
    load_sequence_model,
    new_sequence_generator,
    save_sequence_model,
)

SMALL = {"hidden_1": 8, "hidden_2": 8, "hidden_3": 8}
LINEAGE = {"study": "s", "study_digest": "0" * 64, "site": "north"}


@pytest.fixture
def folders(tmp_path):
    spend = spend_of([GaussianEvent(noise_multiplier=5.0)], 1e-5)
    generator = new_generator("medvae-sgd", WARD, SMALL, seed=0)
    trained = EncoderProvenance.TRAINED
    model = Model(schema=WARD, generator=generator, spend=spend, encoder_provenance=trained, **LINEAGE)
    save_model(model, tmp_path / "table")
    schema = simulated(3).schema
    records = new_sequence_generator("eva", schema, SMALL_RECORDS, seed=0)
    save_sequence_model(
        SequenceModel(schema=schema, generator=records, spend=spend, **LINEAGE), tmp_path / "records"
    )
    return {tmp_path / "table": (load_model, open_model), tmp_path / "records": (load_sequence_model,)}


def change(folder, **changes):
    path = folder / HEADER
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")


@pytest.mark.parametrize(
    "key", ["withdrawn", "caveat", "format_2", "encoder_digest_2", "", "a\nb", "posterior_2"]
)
def test_an_unknown_key_is_named_in_one_line(folders, key):
    for folder, readers in folders.items():
        change(folder, **{key: {"do not use": True}})
        for read in readers:
            with pytest.raises(InputError, match="which this version does not know") as caught:
                read(folder)
            assert "\n" not in str(caught.value)
            assert folder.name in str(caught.value)
            assert str(folder.parent) not in str(caught.value)


def test_a_known_key_that_is_not_this_models_is_unknown_to_it(folders):
    table, records = folders
    change(table, posterior={"format": 1, "steps": []})
    change(records, encoder_digest="0" * 64)
    for folder, readers in folders.items():
        with pytest.raises(InputError, match="does not know of such a model"):
            readers[0](folder)


def test_what_was_written_is_read_and_an_older_header_with_fewer_keys_too(folders):
    for folder, readers in folders.items():
        for read in readers:
            assert read(folder).site == "north"
        path = folder / HEADER
        header = json.loads(path.read_text())
        del header["version"]
        path.write_text(json.dumps(header), encoding="utf-8")
        assert readers[0](folder).study == "s"
