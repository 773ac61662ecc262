"""Audited epsilon against claimed epsilon, over a thousand retrainings of each kind.

Prints, for the clean build and for planted faults, the claim, the attacker's lower bound at 95 %, and the
ceiling that no attack can pass with so many retrainings. The attack is the slow tests', which are content
with fewer retrainings. One argument: retrainings of each kind (default 1000; half of them bear the bound).
"""

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "statistical")]

import test_retraining_audit_of_a_frozen_encoder as frozen_encoder  # noqa: E402
from retraining import DELTA, CanaryAudit, audit_plan, claimed_epsilon  # noqa: E402

from synthkit.audit.empirical_epsilon import epsilon_ceiling  # noqa: E402
from synthkit.domain.layout import PatientStates  # noqa: E402
from synthkit.privacy import rng  # noqa: E402
from synthkit.training.unsafe import UnsafeNoPrivacy  # noqa: E402

CONFIDENCE = 0.95
LOOSE = audit_plan(noise_multiplier=0.25, prior_noise_multiplier=3.0)


def with_noise(factor: float, audit: Callable[[], float]) -> float:
    """The audit while all privacy noise is `factor` of what is accounted."""
    true = rng.normal
    rng.normal = lambda count, *, std: true(count, std=factor * std)
    try:
        return audit()
    finally:
        rng.normal = true


def rows_as_patients(runs: int) -> float:
    audit = CanaryAudit(audit_plan(), rows=40)
    several = PatientStates.one_row_each(audit.together.states)
    return audit.audited(runs, confidence=CONFIDENCE, together=several)


def main() -> None:
    logging.disable(logging.WARNING)
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    plan, loose = claimed_epsilon(audit_plan()), claimed_epsilon(LOOSE)
    frozen = claimed_epsilon(frozen_encoder.PLAN)

    def canary(**changes) -> float:
        return CanaryAudit(audit_plan()).audited(runs, confidence=CONFIDENCE, **changes)

    def of_encoder(kind: str) -> float:
        return frozen_encoder.audited(kind, runs=runs, confidence=CONFIDENCE)

    cases = {
        "clean build": (plan, canary),
        "clean build, loose claim": (
            loose,
            lambda: CanaryAudit(LOOSE).audited(runs, confidence=CONFIDENCE),
        ),
        "encoder from simulated patients": (frozen, lambda: of_encoder("public")),
        "encoder fitted to the patients": (frozen, lambda: of_encoder("fitted to the patients")),
        "no noise": (plan, lambda: with_noise(0.0, canary)),
        "a sixteenth of the noise": (plan, lambda: with_noise(1 / 16, canary)),
        "half of the noise": (plan, lambda: with_noise(0.5, canary)),
        "prior without noise": (plan, lambda: canary(prior_privacy=UnsafeNoPrivacy)),
        "rows counted as patients": (plan, lambda: rows_as_patients(runs)),
    }
    ceiling = epsilon_ceiling(runs - runs // 2, delta=DELTA, confidence=CONFIDENCE)
    print(f"{runs} retrainings of each kind; no attack can show more than {ceiling:.2f}")
    for name, (claim, audit) in cases.items():
        begun = time.process_time()
        found = audit()
        spent = time.process_time() - begun
        print(f"{name:<34} claimed {claim:6.2f}   audited {found:6.2f}   {spent:6.1f} s of the processor")


if __name__ == "__main__":
    main()
