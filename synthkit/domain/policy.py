"""SitePolicy: what a hospital allows, decided before anything is asked.

The policy beats the plan: a site never adjusts what a study asks, it refuses, and names the rule.
Every rule has to be written out in the policy file; a missing rule is a refusal, not a default.
"""

import datetime as dt
from dataclasses import dataclass

from synthkit.domain.canonical import JsonObject, digest_of
from synthkit.domain.privacy import Budget

ANY_COLUMN = "*"
"""In a list of columns: every column."""


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
class ConditionRules:
    """Under which conditions ("only patients over 70 with diabetes") a table may be generated and leave.

    Conditions cost no privacy: the rows are post-processing of a model that was paid for. The limits keep
    apart what the model knows of patients from what it says of groups so rare that noise speaks.
    """

    floor: float
    """Smallest share of patients who meet all conditions, by the model itself; never a count of rows."""
    min_reliability: float
    """Smallest reliability that the model states of its rows under the conditions, up to 1."""
    max_columns: int
    """Most columns that one table's conditions name. 0: no conditions at all."""
    allowed_columns: tuple[str, ...]
    """Columns that conditions may name; ANY_COLUMN alone is every column, and none is no condition."""

    def allows(self, column: str) -> bool:
        """Whether conditions may name this column."""
        return ANY_COLUMN in self.allowed_columns or column in self.allowed_columns

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {**vars(self), "allowed_columns": list(self.allowed_columns)}

    @classmethod
    def from_json(cls, document: JsonObject) -> "ConditionRules":
        """Inverse of `to_json`; KeyError, TypeError or ValueError when malformed."""
        rules = cls(**{**document, "allowed_columns": tuple(document["allowed_columns"])})
        figures = (rules.floor, rules.min_reliability, rules.max_columns)
        if any(isinstance(one, bool) or not isinstance(one, int | float) for one in figures):
            raise TypeError("a figure is not a number")
        if not isinstance(document["allowed_columns"], list):
            raise TypeError("allowed_columns is not a list")
        return rules


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
    conditions: ConditionRules
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
            "conditions": self.conditions.to_json(),
            "audit": dict(vars(self.audit)),
            "release": dict(vars(self.release)),
            "expires": self.expires.isoformat(),
        }
