"""AttackResult and AuditReport: what an attacker achieved, with its evidence.

Rules kept by the types: a rate never stands without its interval; an attack that decides states its
minimum detectable effect; the report names the table it judged by hash.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from synthkit.domain.canonical import JsonObject, digest_of
from synthkit.errors import InputError

COARSE_EFFECTS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""How finely a detectable effect leaves the site. It follows from the numbers of patients: to a hundredth it
would tell a hospital of about a hundred how many it has, give or take two."""

HIDDEN_COLUMN = "secret"
"""Before the name of the column that attribute inference is after, in its statistic's name."""

EVERYONE = "all"
"""The stratum that no patient is outside of."""


class Verdict(StrEnum):
    """PASS opens the gate by itself. A crash or a NaN is INVALID, never PASS."""

    PASS = "PASS"  # noqa: S105 - a verdict
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    INVALID = "INVALID"

    @property
    def exit_code(self) -> int:
        """Exit code of `synthkit audit`: 0, 1, 2 or 3."""
        return {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 2, "INVALID": 3}[self.value]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval at `confidence` (for example 0.95)."""

    lower: float
    upper: float
    confidence: float

    def __post_init__(self) -> None:
        if math.isnan(self.lower) or math.isnan(self.upper) or self.lower > self.upper:
            raise ValueError("an interval needs lower <= upper and no NaN")

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {"lower": self.lower, "upper": self.upper, "confidence": self.confidence}

    @classmethod
    def from_json(cls, document: JsonObject) -> "Interval":
        """Inverse of `to_json`; KeyError, TypeError or ValueError when malformed."""
        return cls(**document)


@dataclass(frozen=True, kw_only=True)
class AttackResult:
    """One attack at one operating point.

    `attack_rate` is how often the attacker claims membership of real members, `control_rate` of
    holdout patients the generator never saw; `baseline_rate` is what guessing without the synthetic
    table achieves. `advantage` = attack_rate - control_rate, with its interval. All within [0, 1]
    (advantage within [-1, 1]). `decides` is False for diagnostics, which never move the verdict.
    """

    name: str
    statistic: str
    attack_rate: float
    control_rate: float
    baseline_rate: float
    attack_interval: Interval
    control_interval: Interval
    advantage: float
    advantage_interval: Interval
    p_value: float
    p_adjusted: float
    minimum_detectable_effect: float
    decides: bool = True
    stratum: str = EVERYONE

    def to_json(self) -> JsonObject:
        """Canonical form; the field names are the command line's contract."""
        return {
            "name": self.name,
            "statistic": self.statistic,
            "stratum": self.stratum,
            "attack_rate": self.attack_rate,
            "control_rate": self.control_rate,
            "baseline_rate": self.baseline_rate,
            "attack_interval": self.attack_interval.to_json(),
            "control_interval": self.control_interval.to_json(),
            "advantage": self.advantage,
            "interval": self.advantage_interval.to_json(),
            "p_value": self.p_value,
            "p_value_adjusted": self.p_adjusted,
            "minimum_detectable_effect": self.minimum_detectable_effect,
            "decides": self.decides,
        }

    @classmethod
    def from_json(cls, document: JsonObject) -> "AttackResult":
        """Inverse of `to_json`; KeyError, TypeError or ValueError when malformed."""
        fields = dict(document)
        for name in ("attack_interval", "control_interval"):
            fields[name] = Interval.from_json(fields[name])
        fields["advantage_interval"] = Interval.from_json(fields.pop("interval"))
        fields["p_adjusted"] = fields.pop("p_value_adjusted")
        return cls(**fields)


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """The verdict on one table, and why.

    `table_digest` is the SHA-256 of the synthetic table's canonical CSV bytes; a gate that is handed
    another table refuses. `hard_rules` lists violated rules in words (for example a copied rare
    patient). `diagnostics` are labelled figures that decide nothing.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    attacks: tuple[AttackResult, ...]
    hard_rules: tuple[str, ...]
    diagnostics: dict[str, float]
    table_digest: str
    schema_digest: str
    policy_digest: str
    max_advantage: float
    alpha: float
    attempt: int
    seed: int
    versions: dict[str, str] = field(default_factory=dict)
    earlier: tuple[str, ...] = ()
    """Digests of the tables released before from the same patients that were attacked along with this."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Patients of members, holdout and reference, and synthetic rows; empty in reports of older versions."""

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical report."""
        return digest_of(self.to_json())

    def to_json(self) -> JsonObject:
        """Canonical form. For the site's own eyes: see `coarse` for what may leave."""
        return {
            "verdict": self.verdict.value,
            "reasons": list(self.reasons),
            "attacks": [attack.to_json() for attack in self.attacks],
            "hard_rules": list(self.hard_rules),
            "diagnostics": dict(self.diagnostics),
            "table_digest": self.table_digest,
            "schema_digest": self.schema_digest,
            "policy_digest": self.policy_digest,
            "max_advantage": self.max_advantage,
            "alpha": self.alpha,
            "attempt": self.attempt,
            "seed": self.seed,
            "versions": dict(self.versions),
            **({"earlier": list(self.earlier)} if self.earlier else {}),
            **({"sizes": dict(self.sizes)} if self.sizes else {}),
        }

    @classmethod
    def from_json(cls, document: JsonObject) -> "AuditReport":
        """Inverse of `to_json`: what a site saved for its own eyes.

        Raises:
            InputError: A field is missing, unknown or of the wrong type.
        """
        try:
            report = _report(document)
            is_same = digest_of(report.to_json()) == digest_of(document)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError("the audit document is malformed", fix="run the audit again") from error
        if not is_same:
            raise InputError("the audit document is malformed", fix="run the audit again")
        return report

    def coarse(self) -> JsonObject:
        """The part that may leave the site: verdict, limits, attack names and detectable effects
        rounded up to one of `COARSE_EFFECTS`. No rate, p value or reason computed from patients, and no
        digest of the report either: who knows all patients but one could compute it for both cases. Nor
        any stratum: strata without people are not attacked, so naming one says that somebody is in it.
        """
        return {
            "verdict": self.verdict.value,
            "attacks": [
                {
                    "name": attack.name,
                    "statistic": _coarse_statistic(attack.statistic),
                    "minimum_detectable_effect": _coarse_effect(attack.minimum_detectable_effect),
                }
                for attack in self.attacks
                if attack.decides and attack.stratum == EVERYONE
            ],
            "table_digest": self.table_digest,
            "policy_digest": self.policy_digest,
            "max_advantage": self.max_advantage,
            "alpha": self.alpha,
            "attempt": self.attempt,
            "versions": dict(self.versions),
        }


def _coarse_statistic(statistic: str) -> str:
    """Without the name of the secret column: where the schema names none, patients decide which it is."""
    return HIDDEN_COLUMN if statistic.startswith(f"{HIDDEN_COLUMN}_") else statistic


def _coarse_effect(effect: float) -> float:
    return next((step for step in COARSE_EFFECTS if effect <= step), 1.0)


def _report(document: JsonObject) -> AuditReport:
    fields = dict(document)
    fields["verdict"] = Verdict(fields["verdict"])
    fields["attacks"] = tuple(AttackResult.from_json(entry) for entry in fields["attacks"])
    for name in ("reasons", "hard_rules", "earlier"):
        fields[name] = tuple(fields.get(name, ()))
    return AuditReport(**fields)
