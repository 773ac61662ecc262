"""SitePolicy: what a hospital allows, decided before anything is asked.

The policy beats the plan: a site never adjusts what a study asks, it refuses, and names the rule.
Every rule has to be written out in the policy file; a missing rule is a refusal, not a default.
"""

import datetime as dt
from dataclasses import dataclass

from synthkit.domain.canonical import JsonObject, digest_of
from synthkit.domain.privacy import Budget

POLICY_FORMAT = 2
"""Of the canonical form. Format 1 had no rules for signature, vault and egress."""

ANY_COLUMN = "*"
"""In a list of columns: every column."""

ANYONE = "*"
"""In a list of recipients: whoever is given the file."""

READERS = ("officer", "auditor", "site")
"""Whose keys may open a vault."""

KINDS_OF_FILE = ("table", "records", "annex", "audit-page", "weights")
"""What may leave: a release of one row a patient, a release of records, any further file in a release, the
redacted page of an audit, and the weights or noisy tables that a federated study sends."""


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
class VaultRules:
    """Whether a generated table lies encrypted at the site until it is exported, and for whom."""

    required: bool
    """Whether only a table that was written into a vault can be audited for release and sealed."""
    readers: tuple[str, ...]
    """Whose keys open it, of READERS."""

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {**vars(self), "readers": list(self.readers)}


@dataclass(frozen=True, kw_only=True)
class EgressRules:
    """To whom a release may be given, and what kinds of file may leave. Both empty: nothing leaves."""

    recipients: tuple[str, ...]
    """Names of recipients; ANYONE alone: the release need not name one."""
    files: tuple[str, ...]
    """Of KINDS_OF_FILE."""

    @property
    def is_for_anyone(self) -> bool:
        """Whether a release may go to whoever is given it."""
        return ANYONE in self.recipients

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {"recipients": list(self.recipients), "files": list(self.files)}

    @classmethod
    def from_json(cls, document: JsonObject) -> "EgressRules":
        """Inverse of `to_json`; KeyError, TypeError or ValueError when malformed."""
        rules = cls(**{name: tuple(texts) for name, texts in document.items() if isinstance(texts, list)})
        if not all(isinstance(text, str) for text in (*rules.recipients, *rules.files)):
            raise TypeError("a text is expected")
        return rules


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
    vault: VaultRules
    egress: EgressRules
    signed: bool
    """Whether every command demands an officer's signature on this policy before it acts on it."""
    expires: dt.date

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical policy: what the officer signs and what a release binds."""
        return digest_of(self.to_json())

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {
            "format": POLICY_FORMAT,
            "name": self.name,
            "signed": self.signed,
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
            "vault": self.vault.to_json(),
            "egress": self.egress.to_json(),
            "expires": self.expires.isoformat(),
        }
