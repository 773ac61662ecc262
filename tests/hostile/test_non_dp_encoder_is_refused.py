"""An encoder learnt from the patients without DP cannot carry a claim, wherever somebody tries.

Why: tests/statistical/test_retraining_audit_of_a_frozen_encoder.py, claimed epsilon 1, audited above 1.9.
"""

import json
from dataclasses import replace

import pytest
from release_workshop import REASON, RULES, Workshop, statement
from small_ward import WARD, ward_model

from synthkit.cli.main import run
from synthkit.cli.model_header import read_model_header
from synthkit.domain.audit import Verdict
from synthkit.domain.privacy import DpSgdEvent, EncoderProvenance
from synthkit.domain.release import Decision
from synthkit.errors import BundleError, InputError, ReleaseRefusedError, SynthkitError
from synthkit.generators.medvae_sgd import MedVaeSgd
from synthkit.privacy.accounting import spend_of
from synthkit.release.gate import decide
from synthkit.training.artefact import HEADER, Model, load_model, save_model

SPEND = spend_of([DpSgdEvent(noise_multiplier=2.0, sample_rate=0.1, steps=10)], 1e-5)
NON_DP = EncoderProvenance.NON_DP
SOUND = [one for one in EncoderProvenance if one is not NON_DP]


def make_model(generator: MedVaeSgd | None = None, **changes) -> Model:
    fields = {
        "schema": WARD,
        "generator": (generator or ward_model()).eval(),
        "spend": SPEND,
        "encoder_provenance": EncoderProvenance.TRAINED,
        "study": "trial",
        "study_digest": "d" * 64,
        "site": "north",
    }
    return Model(**{**fields, **changes})


def frozen() -> MedVaeSgd:
    """The counter-example's generator: an encoder that the private training was kept from."""
    model = ward_model()
    for parameter in model.encoder.parameters():
        parameter.requires_grad_(requires_grad=False)
    return model


def refusal(attempt, kind: type[SynthkitError] = InputError) -> str:
    with pytest.raises(kind) as caught:
        attempt()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_model_with_a_claim_over_it_cannot_exist():
    assert "without DP" in refusal(lambda: make_model(encoder_provenance=NON_DP))
    assert "without DP" in refusal(lambda: replace(make_model(), encoder_provenance=NON_DP))
    unsafe = make_model(spend=None, encoder_provenance=NON_DP)
    assert "without DP" in refusal(lambda: replace(unsafe, spend=SPEND))


@pytest.mark.parametrize("provenance", SOUND)
def test_every_other_provenance_may_carry_a_claim(provenance, tmp_path):
    save_model(make_model(encoder_provenance=provenance), tmp_path / "model")
    assert load_model(tmp_path / "model").encoder_provenance is provenance


def test_without_a_claim_it_is_kept_and_says_so(tmp_path):
    """For comparison and reproduction; unsafe for ever."""
    save_model(make_model(frozen(), spend=None, encoder_provenance=NON_DP), tmp_path / "model")
    assert json.loads((tmp_path / "model" / HEADER).read_text())["unsafe"] is True
    back = load_model(tmp_path / "model")
    assert not back.is_private
    assert back.encoder_provenance is NON_DP
    assert read_model_header(tmp_path / "model").spend is None


def test_frozen_parameters_cannot_pass_as_trained(tmp_path):
    text = refusal(lambda: save_model(make_model(frozen()), tmp_path / "model"))
    assert "provenance" in text
    assert list(tmp_path.iterdir()) == []
    save_model(make_model(frozen(), encoder_provenance=EncoderProvenance.PUBLIC), tmp_path / "model")


@pytest.fixture(params=["a claim added", "the encoder confessed"])
def forged(request, tmp_path):
    """A model folder whose header was edited into a claim over such an encoder."""
    claimed = request.param == "the encoder confessed"
    model = make_model() if claimed else make_model(spend=None, encoder_provenance=NON_DP)
    folder = tmp_path / "model"
    save_model(model, folder)
    header = json.loads((folder / HEADER).read_text())
    edit = {"encoder_provenance": "non_dp"} if claimed else {"spend": SPEND.to_json(), "unsafe": False}
    (folder / HEADER).write_text(json.dumps({**header, **edit}))
    return folder


def test_a_header_edited_into_such_a_claim_is_refused_by_every_reader(forged):
    assert "without DP" in refusal(lambda: load_model(forged))
    assert "without DP" in refusal(lambda: read_model_header(forged))


def test_the_command_line_refuses_to_generate_from_it(forged, tmp_path, capsys):
    code = run(["generate", str(forged), "-n", "5", "-o", str(tmp_path / "table.csv")])
    assert code == InputError.exit_code
    assert "without DP" in capsys.readouterr().err
    assert not (tmp_path / "table.csv").exists()


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL])
@pytest.mark.parametrize("requested", [None, *Decision])
def test_the_gate_refuses_it_under_the_most_lenient_rules(verdict, requested):
    def attempt():
        decide(
            verdict=verdict,
            rules=RULES,
            private=True,
            encoder_provenance=NON_DP,
            requested=requested,
            reason=REASON,
        )

    assert "no epsilon can be claimed" in refusal(attempt, ReleaseRefusedError)


@pytest.mark.parametrize("others", [[], ["south"]])
def test_it_is_never_sealed_alone_or_beside_a_sound_site(others):
    statements = [statement("north", encoder_provenance=NON_DP), *(statement(site) for site in others)]
    assert "without DP" in refusal(lambda: Workshop().sealed(*statements, overlap=1.5), BundleError)


def test_a_sites_claim_is_not_sealed_beside_another_sites_such_encoder():
    """The second site claims nothing; the model is one, and so is its encoder."""
    statements = [statement("north"), statement("south", encoder_provenance=NON_DP)]
    assert "without DP" in refusal(lambda: Workshop().sealed(*statements), BundleError)
