"""Faults of silence: counts, losses, texts and libraries of patients in what leaves."""

import json
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from hospital import Hospital
from house_stage import Fault, Stage, accusation, draws_of, module_of, the_clinic

from synthkit.data.encoding import fit_encoding
from synthkit.domain import audit as domain_audit
from synthkit.domain.audit import COARSE_EFFECTS, AuditReport
from synthkit.errors import PeerError
from synthkit.federation.refusal import RefusalCode
from synthkit.generators.medvae_sgd import MedVaeSgd
from synthkit.training.artefact import load_model, save_model
from synthkit_client import app as client_app
from synthkit_client.agent import SiteAgent
from synthkit_server.local_grid import run_local
from synthkit_server.strategy import RoundRules


def _federate(stage: Stage, hospital: Hospital) -> None:
    run_local(
        hospital.study,
        hospital.request().weights,
        {"north": client_app.make_app(hospital.agent())},
        rules=RoundRules(min_sites=1),
    )


def _more_in_the_reply(stage: Stage, **extra: object) -> None:
    honest = client_app._pack_reply

    def talkative(reply):
        content = honest(reply)
        content["reply"] = ConfigRecord({**content["reply"], **extra})
        return content

    if stage.is_faulty:
        stage.patch.setattr(client_app, "_pack_reply", talkative)
    _federate(stage, stage.hospital())


def count_in_a_reply(stage: Stage) -> None:
    _more_in_the_reply(stage, num_examples=84)


def loss_in_a_reply(stage: Stage) -> None:
    _more_in_the_reply(stage, loss=0.3704)


def metrics_beside_a_reply(stage: Stage) -> None:
    honest = client_app._pack_reply

    def talkative(reply):
        content = honest(reply)
        content["metrics"] = MetricRecord({"num-examples": 84, "loss": 0.37})
        return content

    if stage.is_faulty:
        stage.patch.setattr(client_app, "_pack_reply", talkative)
    _federate(stage, stage.hospital())


def reason_beside_a_refusal(stage: Stage) -> str:
    def talkative(message, code: RefusalCode):
        record = ConfigRecord({"code": code.value, "reason": "row 18: patient Jane Doe"})
        return Message(RecordDict({"refusal": record}), reply_to=message)

    if stage.is_faulty:
        stage.patch.setattr(client_app, "refusal", talkative)
    hospital = stage.hospital()
    hospital.table.write_bytes(b"age\nJane Doe\n")
    with pytest.raises(PeerError) as refused:
        _federate(stage, hospital)
    said = str(refused.value)
    assert "Jane" not in said
    return "" if "north: input" in said else said


def count_in_an_allowed_field(stage: Stage) -> None:
    """The ledger's counter, of all fields, says how many patients there are."""
    honest = SiteAgent.answer

    def counting(self: SiteAgent, request):
        reply = honest(self, request)
        lines = (self.folder.path / "patients.csv").read_bytes().count(b"\n")
        return replace(reply, ledger_counter=lines - 1)

    if stage.is_faulty:
        stage.patch.setattr(SiteAgent, "answer", counting)
    neighbours = module_of("hostile/test_neighbours_look_alike.py")
    neighbours.test_a_replys_scalars_are_equal(neighbours.answers_of(stage.folder))


def figures_in_the_coarse_audit(stage: Stage) -> None:
    """The part of the audit that leaves gains a digest of the part that does not."""
    honest = AuditReport.coarse
    if stage.is_faulty:
        stage.patch.setattr(
            AuditReport, "coarse", lambda self: {**honest(self), "report_digest": self.digest}
        )
    document = json.loads((stage.papers / "audit.json").read_text())
    check_coarse(AuditReport.from_json(document).coarse())


def fine_effects_in_the_coarse_audit(stage: Stage) -> None:
    """Detectable effects to a hundredth: at a hundred patients they tell the number within two."""
    if stage.is_faulty:
        stage.patch.setattr(domain_audit, "_coarse_effect", lambda effect: round(effect + 0.005, 2))
    document = json.loads((stage.papers / "audit.json").read_text())
    check_coarse(AuditReport.from_json(document).coarse())


COARSE = {
    *("verdict", "attacks", "table_digest", "policy_digest"),
    *("max_advantage", "alpha", "attempt", "versions"),
}


def check_coarse(document: dict) -> None:
    """Exactly the known keys; of each attack its name and one figure, on a coarse scale."""
    assert set(document) == COARSE, "a key that nobody argued for"
    for attack in document["attacks"]:
        assert set(attack) == {"name", "statistic", "minimum_detectable_effect"}
        assert attack["minimum_detectable_effect"] in COARSE_EFFECTS, "fine enough to count patients"


def library_in_a_reply(stage: Stage) -> None:
    """The generator keeps its patients' codes and sends them along as one more array."""
    honest = MedVaeSgd.get_weights

    def with_library(self: MedVaeSgd) -> dict[str, np.ndarray]:
        return {**honest(self), "library": np.zeros((84, 6), dtype=np.float32)}

    hospital = stage.hospital()
    request = hospital.request()
    if stage.is_faulty:
        stage.patch.setattr(MedVaeSgd, "get_weights", with_library)
    run_local(
        hospital.study,
        request.weights,
        {"north": client_app.make_app(hospital.agent())},
        rules=RoundRules(min_sites=1),
    )


def library_in_a_model(stage: Stage) -> None:
    honest = MedVaeSgd.get_weights
    model = load_model(stage.papers / "model")
    if stage.is_faulty:
        stage.patch.setattr(
            MedVaeSgd, "get_weights", lambda self: {**honest(self), "library": np.zeros((84, 6), np.float32)}
        )
    save_model(model, stage.folder / "model")
    load_model(stage.folder / "model")


def library_in_generated_rows(stage: Stage) -> str:
    """Each synthetic row is decoded from the states of one real member, not from the prior."""
    clinic = the_clinic()
    members, holdout, reference, fresh = draws_of(stage)
    if stage.is_faulty:
        encoding = fit_encoding(replace(clinic.SCHEMA, patient_id=None))
        states = encoding.encode(clinic.people(members))
        fresh = encoding.decode(states, np.random.default_rng(1)).frame
    return accusation(clinic.audit(members, holdout, reference, fresh))


def rare_label_generated(stage: Stage) -> str:
    """A ward with one patient: the rows asked for under its name are that patient's record."""
    clinic = the_clinic()
    members, holdout, reference, fresh = draws_of(stage)
    lone = {"age": 19.0, "bmi": 61.0, "systolic": 231.0, "creatinine": 17.5, "stay": 340.0, "grade": "IV"}
    for column, value in lone.items():
        members.loc[0, column] = value
    if stage.is_faulty:
        fresh = clinic.with_rows(fresh, members.iloc[[0]])
    return accusation(clinic.audit(members, holdout, reference, fresh))


MESSAGES: dict[str, Fault] = {
    "exact count in a message": Fault(
        story=count_in_a_reply,
        catcher="federation.messages.TrainReply.from_wire",
        says="fields missing or unknown",
    ),
    "loss in a message": Fault(
        story=loss_in_a_reply, catcher="synthkit_server.wire", says="a field has the wrong type"
    ),
    "metrics beside a message": Fault(
        story=metrics_beside_a_reply, catcher="synthkit_server.wire", says="records missing or unknown"
    ),
    "reason beside a refusal": Fault(
        story=reason_beside_a_refusal, catcher="synthkit_server.wire", says="unknown refusal"
    ),
    "exact count in an allowed field": Fault(
        story=count_in_an_allowed_field,
        catcher="tests/hostile/test_neighbours_look_alike.py",
        says="test_a_replys_scalars_are_equal failed",
    ),
    "digest of the private report in the coarse audit": Fault(
        story=figures_in_the_coarse_audit, catcher="faults_of_messages.check_coarse", says="nobody argued for"
    ),
    "exact count by way of a detectable effect": Fault(
        story=fine_effects_in_the_coarse_audit,
        catcher="faults_of_messages.check_coarse",
        says="fine enough to count patients",
    ),
    "latent library, sent": Fault(
        story=library_in_a_reply, catcher="synthkit_server.wire", says="array names differ"
    ),
    "latent library, saved": Fault(
        story=library_in_a_model, catcher="training.artefact.load_model", says="the model is malformed"
    ),
    "latent library, generated from": Fault(
        story=library_in_generated_rows, catcher="audit.run.run_audit", says="^FAIL: "
    ),
    "rare label generated by heart": Fault(
        story=rare_label_generated, catcher="audit.copies", says="^FAIL: .*rare patient's record"
    ),
}
