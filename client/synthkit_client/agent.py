"""One round at one site: guard, replay or reserve, train, store, commit, reply.

Knows the site's folder. Refuses whatever the guard refuses, and takes nothing from the coordinator but
a study's digest, a round number and weights. The order is the promise:

  1. guard: approved study, signed policy; the ledger contains what the coordinator's witness statement
     says it saw, and the newest statement is kept               (nothing read, nothing drawn)
  2. replay: the same study, round and base weights get the stored bytes again, at no charge
  3. rows: read, checked, enough patients; base weights fit the architecture
  4. reserve the round's budget                                  (on disk before anything is drawn)
  5. train from the base weights, with privacy noise
  6. store the exact reply                                       (on disk)
  7. commit                                                      (on disk)
  8. sign and send
A crash after 4 leaves an open reservation, which counts as spent.
"""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.numpy

from synthkit.data.encoding import fit_encoding
from synthkit.domain.layout import PatientStates
from synthkit.domain.privacy import Budget
from synthkit.domain.sequence_layout import RecordStates
from synthkit.domain.study import Study
from synthkit.errors import InputError, LedgerError, PolicyError
from synthkit.federation.messages import Closing, TrainReply, TrainRequest, Weights, digest_weights
from synthkit.generators.base import Generator, SteppedGenerator
from synthkit.generators.sequence_base import SequenceGenerator
from synthkit.privacy.ledger import Ledger
from synthkit.privacy.ledger_book import Commit
from synthkit.training.artefact import new_generator
from synthkit.training.freeze import freeze
from synthkit.training.loop import close, train
from synthkit_client.guard import Admission, check_plan
from synthkit_client.record_rounds import (
    read_state,
    record_generator,
    record_members,
    take_record_round,
    write_state,
)
from synthkit_client.site_folder import SiteFolder
from synthkit_client.storage import write_durably
from synthkit_client.witness import take_witness


class SiteAgent:
    """Answers a coordinator's requests for one site."""

    def __init__(self, folder: SiteFolder, ledger: Ledger) -> None:
        self.folder, self.ledger = folder, ledger
        self._states: dict[str, PatientStates | RecordStates] = {}

    @classmethod
    def open(cls, site_dir: Path) -> "SiteAgent":
        """The agent of a site's folder, with its ledger verified.

        Raises:
            SynthkitError: Folder, policy or ledger cannot be used.
            RollbackError: The ledger lacks an entry that the stored witness statement names.
        """
        folder = SiteFolder(site_dir)
        return cls(folder, folder.open_ledger())

    def answer(self, request: TrainRequest) -> TrainReply:
        """Answer one request, by the eight steps of the module docstring.

        Raises:
            PolicyError: The guard refuses.
            SignatureError: So it does, or the witness statement is not by a trusted coordinator.
            RollbackError: The ledger lacks an entry that the coordinator saw.
            BudgetExceededError: The asset or the study's quota has no room for this round.
            InputError: The request does not fit the study, or the site's rows do not fit its schema.
            LedgerError: The ledger is broken, or a stored reply is.
        """
        admission = check_plan(self.folder, request.study_digest, today=dt.date.today())  # 1
        self._check_witness(request.witness)
        study, base = admission.study, digest_weights(request.weights)
        committed = self.ledger.find_commit(study.digest, request.server_round, base)  # 2
        if committed is None:
            committed = self._run_round(admission, request, base)
        weights = self._read_reply(committed)
        return self._sign(request, base, weights, committed)  # 8

    def note(self, closing: Closing) -> None:
        """Keep the coordinator's last word in a study. Reads no row, spends nothing.

        Raises:
            SignatureError: The statement is not by a trusted coordinator.
            InputError: It is malformed, or of another site.
            RollbackError: The ledger lacks an entry that the coordinator saw.
        """
        self._check_witness(closing.witness)

    def _check_witness(self, text: str) -> None:
        folder = self.folder
        path, trust = folder.witness_path, folder.trust
        take_witness(text, path=path, ledger=self.ledger, site=folder.name, trust=trust)

    def _run_round(self, admission: Admission, request: TrainRequest, base: str) -> Commit:
        study, server_round = admission.study, request.server_round
        events = study.plan.round_events(server_round)
        states = self._members(study, admission.policy.study.min_patients)  # 3
        generator = _generator_of(study, request)
        cap = admission.policy
        quota = Budget(epsilon=cap.study.max_epsilon, delta=cap.budget.delta, adjacency=cap.budget.adjacency)
        reservation = self.ledger.reserve(  # 4
            study=study.digest, server_round=server_round, base_digest=base, events=events, study_budget=quota
        )
        weights = self._train_round(study, request, generator, states)  # 5
        digest = digest_weights(weights)
        write_durably(self._reply_path(study.digest, digest), safetensors.numpy.save(weights))  # 6
        return self.ledger.commit(reservation, reply_digest=digest)  # 7

    def _train_round(
        self,
        study: Study,
        request: TrainRequest,
        generator: Generator | SequenceGenerator,
        states: PatientStates | RecordStates,
    ) -> Weights:
        """What the plan has in this round, and what comes of it."""
        if isinstance(generator, SequenceGenerator) and isinstance(states, RecordStates):
            return take_record_round(
                generator,
                states,
                study,
                request.server_round,
                asked=request.weights,
                declared_size=study.site(self.folder.name).declared_size,
                memory=self._memory(study),
            )
        if not isinstance(generator, Generator) or not isinstance(states, PatientStates):
            raise RuntimeError("a generator of tables met records, or the other way round")
        if study.plan.is_prior_round(request.server_round):
            close(generator, states, study.plan)
        elif isinstance(generator, SteppedGenerator):
            self._train(study, generator, states)
        return generator.get_weights()

    def _members(self, study: Study, min_patients: int) -> PatientStates | RecordStates:
        """The encoded patients to train on, read once per process."""
        if study.digest not in self._states and study.schema.is_longitudinal:
            self._states[study.digest] = record_members(self.folder, study, min_patients)
        if study.digest not in self._states:
            members = self.folder.read_split(study.schema).members
            if members.patient_count < min_patients:
                raise PolicyError(
                    f"fewer patients to train on than {min_patients}",
                    rule="study.min_patients",
                    where=f"site {self.folder.name}",
                    fix="take no part, or join with a larger population",
                )
            self._states[study.digest] = fit_encoding(study.schema).encode_patients(members)
        return self._states[study.digest]

    def _train(self, study: Study, generator: SteppedGenerator, states: PatientStates) -> None:
        after = train(
            generator,
            states,
            study.plan,
            steps=study.plan.local_steps,
            declared_size=study.site(self.folder.name).declared_size,
            state=read_state(self._memory(study)),
        )
        write_state(self._memory(study), after)

    def _memory(self, study: Study) -> Path:
        return self.folder.study_folder(study.digest) / "state.safetensors"

    def _reply_path(self, study_digest: str, reply_digest: str) -> Path:
        return self.folder.study_folder(study_digest) / "replies" / f"{reply_digest}.safetensors"

    def _read_reply(self, committed: Commit) -> Weights:
        """The stored bytes of a committed reply, checked against the ledger."""
        path = self._reply_path(committed.reservation.study, committed.reply_digest)
        try:
            weights: Weights = safetensors.numpy.load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise LedgerError("a committed reply is missing", where=f"site {self.folder.name}") from error
        if digest_weights(weights) != committed.reply_digest:
            raise LedgerError(
                "a stored reply is not what the ledger recorded", where=f"site {self.folder.name}"
            )
        return weights

    def _sign(self, request: TrainRequest, base: str, weights: Weights, committed: Commit) -> TrainReply:
        """The reply with the ledger's head right after its commit: a replay is equal to the byte."""
        unsigned = TrainReply(
            site=self.folder.name,
            study_digest=request.study_digest,
            server_round=request.server_round,
            base_digest=base,
            weights=weights,
            ledger_head=committed.entry_hash,
            ledger_counter=committed.number,
        )
        return replace(unsigned, signature=self.folder.key.sign(unsigned.signed_text()).hex())


def _generator_of(study: Study, request: TrainRequest) -> Generator | SequenceGenerator:
    """The study's generator, as a round begins with it; frozen is what the signed plan freezes.

    Raises:
        InputError: They do not fit the study's architecture, are not finite, or hold another encoder than
            the one that the plan freezes.
    """
    weights = request.weights
    if not all(np.isfinite(array).all() for array in weights.values()):
        raise InputError("the weights are not finite", where="train request")
    if study.schema.is_longitudinal:
        return record_generator(study, weights, request.server_round)
    generator = new_generator(
        study.plan.generator, study.schema, study.plan.hyperparameters, seed=study.initial_seed
    )
    try:
        generator.set_weights(weights)
    except ValueError as error:
        raise InputError("the weights do not fit the study's generator", where="train request") from error
    freeze(generator, study.plan)
    return generator
