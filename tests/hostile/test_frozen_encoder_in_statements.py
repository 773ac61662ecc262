"""A hospital's statement names the frozen encoder by its weights' digest; anything else there is refused."""

import pytest
from release_workshop import Workshop, statement

from synthkit.domain.privacy import EncoderProvenance
from synthkit.errors import BundleError
from synthkit.release.documents import read_statement


def test_a_statement_names_the_frozen_encoder_and_older_ones_keep_their_bytes():
    older = statement("north")
    assert "encoder_digest" not in older.to_json()
    assert read_statement(older.to_json()) == older
    newer = statement("north", encoder_provenance=EncoderProvenance.PUBLIC, encoder_digest="ab" * 32)
    assert newer.to_json()["encoder_digest"] == "ab" * 32
    assert read_statement(newer.to_json()) == newer
    for bad in ("ab", "", None, 7):
        with pytest.raises(BundleError, match=r"encoder_digest|canonical form"):
            read_statement({**newer.to_json(), "encoder_digest": bad})


def test_the_recipients_note_names_it():
    stated = statement("north", encoder_provenance=EncoderProvenance.PUBLIC, encoder_digest="ab" * 32)
    texts = (Workshop().sealed(one).parts["README.txt"].decode() for one in (stated, statement("north")))
    assert ["encoder public (weights abababababab)" in text for text in texts] == [True, False]
