"""A site's agent without torch: deterministic updates, a counter for a ledger, real signatures."""

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from flwr.app import Context, RecordDict

from synthkit.domain.canonical import sha256_hex
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.domain.study import Site, Study, TrainingPlan
from synthkit.federation.messages import Closing, TrainReply, TrainRequest, Weights, digest_weights
from synthkit.release.signing import SigningKey, generate_key, read_key, seal_document
from synthkit.release.trust import TrustedKey, TrustStore
from synthkit_client.app import make_app
from synthkit_server.app import app as server_app
from synthkit_server.flower_adapter import task_identity
from synthkit_server.local_grid import LocalGrid, run_local
from synthkit_server.strategy import RoundRules

SIZES = {"north": 100, "south": 300, "west": 700}

Tamper = Callable[[TrainReply], TrainReply]


def make_keys(names=tuple(SIZES)) -> dict[str, SigningKey]:
    return {name: generate_key() for name in names}


def make_study(keys: dict[str, SigningKey], *, rounds: int = 3, name: str = "trial") -> Study:
    plan = TrainingPlan(
        generator="medvae-sgd",
        rounds=rounds,
        local_steps=5,
        sample_rate=0.1,
        noise_multiplier=1.0,
        prior_noise_multiplier=4.0,
        max_grad_norm=1.0,
        delta=1e-5,
        learning_rate=0.1,
    )
    roster = tuple(
        Site(name=site, public_key=key.public_key_hex, declared_size=SIZES.get(site, 100))
        for site, key in keys.items()
    )
    return Study(
        name=name,
        purpose="a test",
        schema=Schema(columns=(Column(name="age", kind=Kind.NUMERIC, minimum=0, maximum=120),)),
        plan=plan,
        roster=roster,
        expires=dt.date(2999, 1, 1),
    )


def make_initial() -> Weights:
    rng = np.random.default_rng(7)
    return {
        "decoder.weight": rng.standard_normal((4, 3)).astype(np.float32),
        "decoder.bias": rng.standard_normal(3).astype(np.float32),
        "scale": np.array(0.5, dtype=np.float32),
    }


def write_signed_study(directory: Path, study: Study, key: SigningKey | None = None) -> tuple[Path, Path]:
    """A signed study and the trust file that accepts it."""
    key = key or generate_key()
    envelope = seal_document(study.to_json(), "study", key, "hub")
    trust = TrustStore(keys=(TrustedKey(name="hub", role="coordinator", public_key=key.public_key_hex),))
    study_file, trust_file = directory / "study.json", directory / "trust.json"
    study_file.write_text(json.dumps(envelope))
    trust_file.write_text(json.dumps(trust.to_json()))
    return study_file, trust_file


def local_update(site: str, base: Weights, server_round: int) -> Weights:
    """What the stand-in learns: differs by site and round, equal at every repetition."""
    rng = np.random.default_rng([server_round, *site.encode()])
    return {
        name: array + (0.1 * rng.standard_normal(array.shape)).astype(np.float32)
        for name, array in base.items()
    }


class StandIn:
    """Answers honestly, unless told to tamper with its replies (before or after signing)."""

    def __init__(
        self,
        site: str,
        key: SigningKey,
        *,
        before_signing: Tamper | None = None,
        after_signing: Tamper | None = None,
        error: Exception | None = None,
    ) -> None:
        self.site, self.key, self.error = site, key, error
        self.before_signing, self.after_signing = before_signing, after_signing
        self.counter = 0
        self.asked: list[int] = []
        self.witnesses: list[str] = []
        self.noted: list[str] = []
        self.stored: dict[tuple[int, str], TrainReply] = {}

    @classmethod
    def open(cls, site_dir: Path) -> "StandIn":
        return cls(site_dir.name, read_key(site_dir / "site.key"))

    def answer(self, request: TrainRequest) -> TrainReply:
        self.asked.append(request.server_round)
        self.witnesses.append(request.witness)
        if self.error is not None:
            raise self.error
        request_key = (request.server_round, digest_weights(request.weights))
        if request_key not in self.stored:
            self.stored[request_key] = self._train(request)
        return self.stored[request_key]

    def note(self, closing: Closing) -> None:
        if self.error is not None:
            raise self.error
        self.noted.append(closing.witness)

    def _train(self, request: TrainRequest) -> TrainReply:
        self.counter += 1
        reply = TrainReply(
            site=self.site,
            study_digest=request.study_digest,
            server_round=request.server_round,
            base_digest=digest_weights(request.weights),
            weights=local_update(self.site, request.weights, request.server_round),
            ledger_head=sha256_hex(f"{self.site}/{self.counter}".encode()),
            ledger_counter=self.counter,
        )
        if self.before_signing:
            reply = self.before_signing(reply)
        reply = replace(reply, signature=self.key.sign(reply.signed_text()).hex())
        return self.after_signing(reply) if self.after_signing else reply


def honest(keys):
    """One honest agent by site name."""
    return {name: StandIn(name, key) for name, key in keys.items()}


def run_app(config, agents):
    """The coordinator's app over these agents, in this process."""
    grid = LocalGrid(apps_of(agents))
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    with task_identity(run_id=1):
        server_app(grid, context)


def apps_of(agents):
    """The ClientApps of these agents."""
    return {name: make_app(agent) for name, agent in agents.items()}


def refusals_of(study, agents, rules=None, **options):
    """Refusals of round 1 when the two other sites are enough."""
    result = run_local(
        study, make_initial(), apps_of(agents), rules=rules or RoundRules(min_sites=2), **options
    )
    return {refusal.site: refusal for refusal in result.rounds[0].refusals}, result
