"""SitePolicy: what a hospital allows, decided before anything is asked.

The policy beats the plan: a site never adjusts what a study asks, it refuses, and names the rule.
Every rule has to be written out in the policy file; a missing rule is a refusal, not a default.
"""

import datetime as dt
from dataclasses import dataclass

from synthkit.domain.canonical import JsonObject, digest_of
from synthkit.domain.privacy import Budget


@dataclass(frozen=True, kw_only=True)
class StudyRules:
    """What a study may ask of this site."""

    max_epsilon: float
    """Largest epsilon of one study, over all its rounds, at the asset's delta."""
    max_delta: float
    min_noise_multiplier: float
    max_sample_rate: float
    allowed_generators: tuple[str, ...]
    min_sites: int
    """Smallest roster, this site included."""
    min_patients: int
    """A site with fewer patients than this takes part in nothing."""


@dataclass(frozen=True, kw_only=True)
class AuditRules:
    """When an audit's verdict lets a table leave. Frozen and hashed before the audit runs."""

    max_advantage: float
    """tau: PASS needs the upper confidence limit of the advantage below it for exact match and for the
    attacks at a false-positive rate of 1 %, and the best estimate of every other attack below it."""
    alpha: float
    """Family-wise error over all attacks (Holm), shared over the attempts."""
    max_attempts: int
    """Audited candidates per asset and study; regenerating until it passes is selection."""


@dataclass(frozen=True, kw_only=True)
class ReleaseRules:
    """Who decides, and what may leave when the audit did not PASS by itself."""

    inconclusive: str
    """`refuse`, or `officer`: release on the DP claim plus the officer's recorded decision."""
    fail: str
    """`refuse`, or `officer`: an override with a written reason that travels with the bundle."""
    four_eyes: bool
    """Whether two different officers must approve."""
    allow_non_private: bool
    """Whether a table from a generator trained without DP may leave at all."""
    valid_days: int
    """Days after which a release's approval expires."""


@dataclass(frozen=True, kw_only=True)
class SitePolicy:
    """One hospital's rules for one patient population (the asset)."""

    name: str
    asset: str
    budget: Budget
    """Cap over everything that ever leaves about this asset's patients, all studies together."""
    study: StudyRules
    audit: AuditRules
    release: ReleaseRules
    expires: dt.date

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical policy: what the officer signs and what a release binds."""
        return digest_of(self.to_json())

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {
            "format": 1,
            "name": self.name,
            "asset": {
                "name": self.asset,
                "epsilon": self.budget.epsilon,
                "delta": self.budget.delta,
                "adjacency": self.budget.adjacency.value,
            },
            "study": {**vars(self.study), "allowed_generators": list(self.study.allowed_generators)},
            "audit": dict(vars(self.audit)),
            "release": dict(vars(self.release)),
            "expires": self.expires.isoformat(),
        }
