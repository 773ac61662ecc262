"""Study and TrainingPlan: what every site approves before any row is touched.

Everything that decides the privacy cost is here and signed: the coordinator cannot change it later,
and a site refuses any request that does not carry this study's digest.
"""

import datetime as dt
from dataclasses import dataclass, field

from synthkit.domain.canonical import JsonObject, digest_of
from synthkit.domain.privacy import DpSgdEvent, EncoderProvenance, GaussianEvent, PrivacyEvent
from synthkit.domain.schema import Schema
from synthkit.errors import InputError

ENCODERS = {
    "trained": EncoderProvenance.TRAINED,
    "public": EncoderProvenance.PUBLIC,
    "random": EncoderProvenance.PUBLIC,
    "dp": EncoderProvenance.DP,
}
"""What a plan may say of its encoder, and what a model made under it says of its own."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A hospital as the roster knows it.

    `public_key` is its Ed25519 key (64 hexadecimal characters). `declared_size` is a public round
    figure for its number of patients: it normalises the gradient and weighs the average. The exact
    number is private.
    """

    name: str
    public_key: str
    declared_size: int

    def __post_init__(self) -> None:
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum():
            raise InputError("a site's name is letters, digits, - and _", where=f"site {self.name!r}")
        if self.declared_size < 1:
            raise InputError("declared_size must be at least 1", where=f"site {self.name}")

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {"name": self.name, "public_key": self.public_key, "declared_size": self.declared_size}


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """One federated (or single-site) private training.

    A site runs `rounds * local_steps` Poisson-sampled steps in all, each clipping every patient's
    gradient to `max_grad_norm` and adding noise of standard deviation
    `noise_multiplier * max_grad_norm` to the sum. One more round then buys, by one Gaussian mechanism of
    `prior_noise_multiplier`, the bounded per-patient statistics that the generator's prior is fitted to;
    with 0 rounds, those that all of it is fitted to, and the figures of the steps say nothing.
    `prior_first`: that round comes before the others, for a generator that starts from what it buys.

    `encoder` says where a frozen encoder comes from: "public" (weights of `encoder_digest`, of no patient
    here), "random" (fixed features, nothing learnt), or "dp" (the whole generator first takes `encoder_steps`
    steps at `encoder_noise_multiplier`, charged like any). "trained": nothing is frozen.
    """

    generator: str
    rounds: int
    local_steps: int
    sample_rate: float
    noise_multiplier: float
    prior_noise_multiplier: float
    max_grad_norm: float
    delta: float
    learning_rate: float
    hyperparameters: dict[str, float] = field(default_factory=dict)
    encoder: str = "trained"
    encoder_digest: str = ""
    encoder_steps: int = 0
    encoder_noise_multiplier: float = 0.0
    prior_first: bool = False

    def __post_init__(self) -> None:
        if self.rounds < 0 or self.local_steps < 0 or (self.rounds == 0) != (self.local_steps == 0):
            raise InputError("rounds and local_steps must both be at least 1, or both 0")
        if not self.max_grad_norm > 0 or not self.learning_rate > 0:
            raise InputError("max_grad_norm and learning_rate must be positive")
        if not 0 < self.delta < 1:
            raise InputError("delta must be within (0, 1)")
        if self.prior_first and not self.rounds:
            raise InputError("prior_first goes with a training by steps")
        self._check_encoder()
        self.total_events()

    def _check_encoder(self) -> None:
        if self.encoder not in ENCODERS:
            raise InputError("unknown encoder", fix=f"one of {', '.join(ENCODERS)}")
        if self.encoder != "trained" and not self.rounds:
            raise InputError("an encoder can be frozen only in a training by steps")
        if (self.encoder == "public") != bool(self.encoder_digest):
            raise InputError('encoder_digest goes with encoder "public", and with no other')
        if (self.encoder == "dp") != bool(self.encoder_steps or self.encoder_noise_multiplier):
            raise InputError('encoder_steps and their noise go with encoder "dp", and with no other')

    @property
    def encoder_provenance(self) -> EncoderProvenance:
        """What a model trained under this plan says of its encoder."""
        return ENCODERS[self.encoder]

    @property
    def server_rounds(self) -> int:
        """Rounds on the wire: the training rounds and the prior's."""
        return self.rounds + 1

    @property
    def total_steps(self) -> int:
        """Training steps a site takes over the whole plan."""
        return self.rounds * self.local_steps

    def is_prior_round(self, server_round: int) -> bool:
        """Whether this round (counted from 1) fits the prior instead of training."""
        return server_round == (1 if self.prior_first else self.server_rounds)

    def begins_from_sum(self, server_round: int) -> bool:
        """Whether this round (counted from 1) takes the first steps, which start from what was bought."""
        return self.prior_first and server_round == 2

    def round_events(self, server_round: int) -> tuple[PrivacyEvent, ...]:
        """What one round (counted from 1) costs a site.

        Raises:
            InputError: The plan has no such round.
        """
        if not 1 <= server_round <= self.server_rounds:
            raise InputError(f"round {server_round} is not in the plan", fix=f"1 to {self.server_rounds}")
        if self.is_prior_round(server_round):
            return (GaussianEvent(noise_multiplier=self.prior_noise_multiplier),)
        return (self._steps(self.local_steps),)

    def total_events(self) -> tuple[PrivacyEvent, ...]:
        """What the whole plan costs a site."""
        # The encoder last, though it comes first: the leading order is chosen for the first one.
        return (*self.training_events(), *self.encoder_events())

    def training_events(self) -> tuple[PrivacyEvent, ...]:
        """What the plan costs a site without an encoder trained before."""
        prior = GaussianEvent(noise_multiplier=self.prior_noise_multiplier)
        return (self._steps(self.total_steps), prior) if self.total_steps else (prior,)

    def encoder_events(self) -> tuple[PrivacyEvent, ...]:
        """What an encoder trained with DP before costs a site; nothing otherwise."""
        if self.encoder != "dp":
            return ()
        noise = self.encoder_noise_multiplier
        return (DpSgdEvent(noise_multiplier=noise, sample_rate=self.sample_rate, steps=self.encoder_steps),)

    def _steps(self, steps: int) -> DpSgdEvent:
        return DpSgdEvent(noise_multiplier=self.noise_multiplier, sample_rate=self.sample_rate, steps=steps)

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {
            "generator": self.generator,
            "rounds": self.rounds,
            "local_steps": self.local_steps,
            "sample_rate": self.sample_rate,
            "noise_multiplier": self.noise_multiplier,
            "prior_noise_multiplier": self.prior_noise_multiplier,
            "max_grad_norm": self.max_grad_norm,
            "delta": self.delta,
            "learning_rate": self.learning_rate,
            "hyperparameters": dict(self.hyperparameters),
            **self._departures(),
        }

    def _departures(self) -> JsonObject:
        """What departs from the default alone: a plan without a frozen encoder keeps its old digest."""
        values: JsonObject = {
            "encoder": self.encoder,
            "encoder_digest": self.encoder_digest,
            "encoder_steps": self.encoder_steps,
            "encoder_noise_multiplier": self.encoder_noise_multiplier,
            "prior_first": self.prior_first,
        }
        return {name: value for name, value in values.items() if value != getattr(TrainingPlan, name)}


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is asked of whom. Signed by the coordinator, approved by each site's policy."""

    name: str
    purpose: str
    schema: Schema
    plan: TrainingPlan
    roster: tuple[Site, ...]
    expires: dt.date
    initial_seed: int = 0
    """Seeds the initial weights only; noise and sampling never depend on it."""

    def __post_init__(self) -> None:
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum():
            raise InputError("a study's name is letters, digits, - and _", where=f"study {self.name!r}")
        if not self.roster:
            raise InputError("the roster is empty", where=f"study {self.name}", fix="add [[roster]] entries")
        names = [site.name for site in self.roster]
        if len(set(names)) != len(names):
            raise InputError("a site is on the roster twice", where=f"study {self.name}")

    def site(self, name: str) -> Site:
        """The roster entry of that name.

        Raises:
            InputError: The site is not on the roster.
        """
        for site in self.roster:
            if site.name == name:
                return site
        raise InputError(f"site {name} is not on the roster", where=f"study {self.name}")

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical study: what is signed, approved and sent with each round."""
        return digest_of(self.to_json())

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {
            "format": 1,
            "name": self.name,
            "purpose": self.purpose,
            "schema": self.schema.to_json(),
            "plan": self.plan.to_json(),
            "roster": [site.to_json() for site in self.roster],
            "expires": self.expires.isoformat(),
            "initial_seed": self.initial_seed,
        }

    @classmethod
    def from_json(cls, document: JsonObject) -> "Study":
        """Inverse of `to_json`.

        Raises:
            InputError: A field is missing, unknown or of the wrong type.
        """
        try:
            if document["format"] != 1:
                raise InputError("unknown study format", fix="read it with the version that wrote it")
            return cls(
                name=document["name"],
                purpose=document["purpose"],
                schema=Schema.from_json(document["schema"]),
                plan=TrainingPlan(**document["plan"]),
                roster=tuple(Site(**entry) for entry in document["roster"]),
                expires=dt.date.fromisoformat(document["expires"]),
                initial_seed=document["initial_seed"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError("the study document is malformed", fix="draft and sign it again") from error
