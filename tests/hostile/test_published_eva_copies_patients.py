"""The leak of the published EVA, shown and not denied: every visit that it makes is a training patient's.

These tests pass because the leak is there. They say what the private mode closes, and that what is measured
when a model is trained is what is there (tests/cli/test_train_paper_records.py has the refusal of a release).
"""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from synthkit.cli.model_header import read_model_header
from synthkit.data.sequences import PatientSequences, SyntheticSequences, starts_of
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.data.visit_vocabulary import visit_keys
from synthkit.domain.audit import Verdict
from synthkit.domain.policy import ReleaseRules
from synthkit.domain.release import Decision
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.domain.verbatim import Verbatim
from synthkit.errors import ReleaseRefusedError
from synthkit.release.gate import decide
from synthkit.training.artefact import HEADER
from synthkit.training.paper_artefact import save_paper
from synthkit.training.paper_copies import verbatim
from synthkit.training.paper_eva import train_eva
from synthkit.training.paper_eva_loop import EvaSettings

SETTINGS = EvaSettings(epochs=2, channels=16, latent=4, layers=2, posterior=1)
PROCESS = standard_process(visits_mean=5, most_visits=12)
EVERYONE = PatientSequences(**vars(simulate(PROCESS, 500, seed=3)))
TRAINED, UNSEEN = EVERYONE.take(np.arange(400)), EVERYONE.take(np.arange(400, 500))


@pytest.fixture(scope="module")
def model():
    return train_eva(TRAINED, SETTINGS, unseen=UNSEEN, seed=0, study="ward", site="north")


def test_every_visit_it_makes_is_a_training_patients_code_for_code(model):
    known = set(visit_keys(TRAINED))
    made = visit_keys(model.draw_records(300, seed=5).records)
    assert all(visit in known for visit in made)
    assert (model.copies.visits, model.replaced_share) == (1.0, 0.0)


def test_most_of_its_visits_are_had_by_trained_patients_more_than_by_unseen_ones(model):
    """As many of the one as of the other; by chance alone the two shares would agree."""
    assert model.copies.known_visits > model.copies.unseen_visits + 0.05
    assert model.copies.lone_visits > 0.3


def test_the_folder_holds_a_rare_patients_visit(model, tmp_path):
    """A combination of twelve codes that one patient had can be read off the weights' file."""
    starts = TRAINED.visit_starts
    longest = int(np.argmax(np.diff(starts)))
    codes = TRAINED.codes[starts[longest] : starts[longest + 1]]
    assert codes.size > 8
    save_paper(model, tmp_path / "model")
    assert codes.astype("<i4").tobytes() in (tmp_path / "model" / "weights.safetensors").read_bytes()


def records(kind: type, visits: list[list[list[int]]]):
    """Patients as lists of visits."""
    code = Column(name="code", kind=Kind.CODE, categories=tuple(f"c{i}" for i in range(9)))
    schema = Schema(columns=(code,), patient_id="p", visit="v")
    flat = [visit for patient in visits for visit in patient]
    return kind(
        schema=schema,
        codes=np.array([c for visit in flat for c in visit], dtype=np.int32),
        visit_starts=starts_of(np.array([len(visit) for visit in flat])),
        patient_starts=starts_of(np.array([len(patient) for patient in visits])),
        statics=pd.DataFrame(index=range(len(visits))),
    )


def test_copies_are_counted_as_planted():
    """Two training patients share [0, 1]; [2] is one patient's alone, twice; [5] is an unseen patient's."""
    trained = records(PatientSequences, [[[0, 1], [2], [2]], [[0, 1], [3]]])
    unseen = records(PatientSequences, [[[5]], [[0, 1], [5]]])
    made = records(
        SyntheticSequences, [[[0, 1], [2]], [[0, 1], [3]], [[5]], [[0, 1], [5]], [[0], [1]], [[2], [0, 1]]]
    )
    found = verbatim(made, trained, unseen, seed=0)
    assert found.visits == pytest.approx(7 / 11)
    assert found.lone_visits == pytest.approx(3 / 11)
    assert found.known_visits == found.visits
    assert found.unseen_visits == pytest.approx(6 / 11)
    assert (found.known_records, found.unseen_records) == (1 / 5, 1 / 5)


def test_equal_numbers_of_patients_are_compared():
    """Of 40 trained patients with a visit each of their own, one is compared with one unseen."""
    trained = records(PatientSequences, [[[i % 9, 0] if i % 9 else [0]] for i in range(9)])
    made = records(SyntheticSequences, [[[0]]] * 9)
    shares = {
        verbatim(made, trained, records(PatientSequences, [[[8]]]), seed=seed).known_visits
        for seed in range(40)
    }
    assert shares == {0.0, 1.0}


def test_a_stranger_is_not_copied():
    """Records of another draw of the same process: trained and unseen patients have alike many of them.

    600 made patients, 100 trained and 100 unseen; fixed seeds; the two shares are of about 2,800 visits.
    """
    strangers = simulate(PROCESS, 600, seed=77)
    found = verbatim(strangers, TRAINED, UNSEEN, seed=1)
    assert abs(found.known_visits - found.unseen_visits) < 0.05
    assert found.visits < 0.9


def test_the_header_says_what_it_holds_and_how_much_it_copies(model, tmp_path):
    save_paper(model, tmp_path / "model")
    header = json.loads((tmp_path / "model" / HEADER).read_text())
    assert (header["mode"], header["generator"], header["unsafe"]) == ("paper", "eva", True)
    assert (header["spend"], header["encoder_provenance"]) == (None, "non_dp")
    assert any("visits of the training patients" in held for held in header["holds"])
    assert read_model_header(tmp_path / "model").verbatim == Verbatim.from_json(model.copies.to_json())
    assert "100.0 % of the visits it makes are a training patient's" in model.copies.words
    altered = {**model.copies.to_json(), "lone_visits": -0.1}
    with pytest.raises(ValueError, match="share"):
        Verbatim.from_json(altered)


@pytest.mark.parametrize("verdict", Verdict)
def test_no_verdict_opens_the_gate_unless_the_policy_says_so_in_so_many_words(model, verdict):
    rules = ReleaseRules(
        inconclusive="officer", fail="officer", four_eyes=False, allow_non_private=False, valid_days=90
    )
    for requested in (None, *Decision):
        with pytest.raises(ReleaseRefusedError, match="allow_non_private"):
            decide(
                verdict=verdict,
                rules=rules,
                private=model.is_private,
                encoder_provenance=model.encoder_provenance,
                requested=requested,
                reason="The registry needs it for its yearly report",
            )


def test_fewer_words_do_not_make_it_a_stranger():
    """With a tenth of the words nine visits in ten are replaced, and what is made is still a patient's."""
    few = replace(SETTINGS, words=100, epochs=1)
    model = train_eva(TRAINED, few, unseen=UNSEEN, seed=0, study="ward", site="north")
    assert model.replaced_share > 0.3
    assert model.copies.visits == 1.0
