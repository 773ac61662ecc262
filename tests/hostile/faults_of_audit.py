"""Faults of the audit and of the papers around it."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from canary_story import Story
from hospital import policy_text
from house_stage import Fault, Stage, accusation, audited, draws_of, module_of, sealed, the_clinic
from release_workshop import REASON, Workshop, coarse, statement

from synthkit.audit import findings, steps
from synthkit.audit.claims import Claims, Scores
from synthkit.domain.audit import Verdict
from synthkit.privacy.ledger import Ledger
from synthkit.release.signing import seal_document
from synthkit_client.enrol import officer_name


def holdout_inside_train(stage: Stage) -> str:
    """A fifth of the holdout are members: the attacks' control has seen the training too."""
    clinic = the_clinic()
    members, holdout, reference, fresh = draws_of(stage)
    if stage.is_faulty:
        holdout = clinic.with_rows(holdout, members.iloc[:100])
    return accusation(clinic.audit(members, holdout, reference, fresh))


def threshold_from_train(stage: Stage) -> None:
    honest = Scores.claims_at

    def tuned(self: Scores, rate: float, **names: object) -> Claims:
        return honest(replace(self, reference=self.members, reference_ties=self.member_ties), rate, **names)

    if stage.is_faulty:
        stage.patch.setattr(Scores, "claims_at", tuned)
    check_threshold_knows_no_member()


def check_threshold_knows_no_member() -> None:
    """Whom the attacker calls a member among the holdout is the same whoever the members are."""
    draws = np.random.default_rng(4)
    sets = {name: draws.normal(size=300) for name in ("members", "holdout", "reference")}
    ties = {f"{name[:-1] if name == 'members' else name}_ties": draws.random(300) for name in sets}
    scores = Scores(**sets, **ties)
    moved = replace(scores, members=scores.members + 100.0)
    for rate in (0.01, 0.1, 0.5):
        one, other = scores.claims_at(rate, name="a"), moved.claims_at(rate, name="a")
        assert one.baseline_rate == other.baseline_rate
        assert np.array_equal(one.holdout, other.holdout), "the threshold follows the members"


def crash_counted_as_pass(stage: Stage) -> None:
    """A step that raises yields nothing, silently."""

    def swallowing(name: str, step: Callable[[], object]) -> object:
        try:
            return step()
        except Exception:
            return ()

    if stage.is_faulty:
        stage.patch.setattr(findings, "guarded", swallowing)
    crash = module_of("hostile/test_audit_never_passes_a_crash.py")
    crash.test_an_attack_that_raises_is_invalid_named_and_quoted_nowhere(
        stage.patch, "membership_density_ratio"
    )


def nan_counted_as_pass(stage: Stage) -> None:
    if stage.is_faulty:
        stage.patch.setattr(steps, "has_nan", lambda _result: False)
    module_of("hostile/test_audit_never_passes_a_crash.py").test_a_p_value_that_is_nan_is_invalid(stage.patch)


def invalid_audit_approved(stage: Stage) -> None:
    world = Workshop()
    verdict = Verdict.INVALID if stage.is_faulty else Verdict.PASS
    stated = statement("north", verdict=verdict, audit=coarse(verdict))
    world.approved(world.sealed(stated, overlap=1.5), "north", reason=REASON)


def policy_changed_after_signing(stage: Stage) -> None:
    hospital = stage.hospital()
    if stage.is_faulty:
        (hospital.path / "policy.toml").write_text(policy_text(max_epsilon="7.0"))
    hospital.agent().answer(hospital.request())


def policy_signed_by_the_site(stage: Stage) -> None:
    hospital = stage.hospital()
    if stage.is_faulty:
        signed = seal_document(hospital.folder.policy.to_json(), "policy", hospital.folder.key, "north")
        hospital.folder.write_json(hospital.path / "policy.signed.json", signed)
    else:
        signed = seal_document(
            hospital.folder.policy.to_json(), "policy", hospital.officer, officer_name("north")
        )
        hospital.folder.write_json(hospital.path / "policy.signed.json", signed)
    hospital.agent().answer(hospital.request())


def policy_changed_after_the_audit(stage: Stage) -> str:
    desk = stage.desk()
    if stage.is_faulty:
        text = (desk.folder / "policy.toml").read_text()
        (desk.folder / "policy.toml").write_text(text.replace("max_attempts = 3", "max_attempts = 2"))
    return sealed(desk)


def another_table_sealed(stage: Stage) -> str:
    desk = stage.desk()
    if stage.is_faulty:
        lines = (desk.folder / "synthetic.csv").read_text().splitlines(keepends=True)
        (desk.folder / "synthetic.csv").write_text("".join(lines[:-1]))
    return sealed(desk)


def rows_near_patients_dropped(stage: Stage) -> str:
    """The ten rows nearest to a real patient are left out, and the rest is audited and sealed."""
    desk = stage.desk()
    made = pd.read_csv(desk.folder / "synthetic.csv", dtype=str, keep_default_na=False)
    real = pd.read_csv(desk.folder / "parts" / "members.csv")
    gaps = [
        np.abs(real["age"] - float(age)).min() + np.abs(real["bmi"] - float(bmi)).min() / 10
        for age, bmi in zip(made["age"], made["bmi"], strict=True)
    ]
    kept = np.sort(np.argsort(gaps)[10:]) if stage.is_faulty else np.arange(len(made))
    made.iloc[kept].to_csv(desk.folder / "synthetic.csv", index=False, lineterminator="\n")
    (desk.folder / "audit.json").unlink()
    audited(desk, "--ledger", "book.ledger", "--model", "model")
    return sealed(desk)


def best_row_of_each_pair_kept(stage: Stage) -> str:
    """As many rows as asked for, but each the better of two draws, in whatever sense: selection."""
    desk = stage.desk()
    assert desk.tell("more", "generate", "model", "-n", 800, "-o", "more.csv") == 0
    lines = (desk.folder / "more.csv").read_text().splitlines(keepends=True)
    if stage.is_faulty:
        (desk.folder / "synthetic.csv").write_text("".join([lines[0], *lines[1::2]]))
    (desk.folder / "audit.json").unlink()
    audited(desk, "--ledger", "book.ledger", "--model", "model")
    return sealed(desk)


def another_table_stated(stage: Stage) -> None:
    world = Workshop()
    judged = coarse(Verdict.PASS, b"age,sex\n1,F\n") if stage.is_faulty else coarse(Verdict.PASS)
    north = statement("north", audit=judged)
    world.verified(world.forged(statements=[world.stated(north), world.stated(statement("south"))]))


def attempts_uncounted(stage: Stage) -> str:
    """An audit that no ledger counted: generate again until one passes, then seal that one."""
    desk = stage.desk()
    assert (
        desk.tell("again", "generate", "model", "-n", 400, "-o", "synthetic.csv", "--seed", 1, "--force") == 0
    )
    counted = ("--ledger", "book.ledger", "--model", "model")
    (desk.folder / "audit.json").unlink()
    audited(desk, *(() if stage.is_faulty else counted))
    return sealed(desk, "--seed", 1)


def attempts_not_recorded(stage: Stage) -> str:
    """The ledger's line is never written: sealing finds no attempt."""
    desk = stage.desk()
    (desk.folder / "audit.json").unlink()
    if stage.is_faulty:
        stage.patch.setattr(Ledger, "record_audit", lambda _self, **_fields: 1)
        _forget_audits(desk)
    audited(desk, "--ledger", "book.ledger", "--model", "model")
    return sealed(desk)


def _forget_audits(desk: Story) -> None:
    """The ledger as it was before the shared audit: its last line is that audit's."""
    path = desk.folder / "book.ledger"
    lines = path.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[-1])["kind"] == "audit"
    path.write_bytes(b"".join(lines[:-1]))


def one_attempt_too_many(stage: Stage) -> str:
    desk = stage.desk()
    for _ in range(3 if stage.is_faulty else 2):
        (desk.folder / "audit.json").unlink(missing_ok=True)
        code = audited(desk, "--ledger", "book.ledger", "--model", "model")
    return desk.said["audit.err"].decode() if code not in (0, 2) else ""


AUDIT: dict[str, Fault] = {
    "holdout inside train": Fault(
        story=holdout_inside_train,
        catcher="audit.overlap",
        says="^INVALID: members and holdout share patients",
    ),
    "threshold from train": Fault(
        story=threshold_from_train,
        catcher="faults_of_audit.check_threshold_knows_no_member",
        says="the threshold follows the members",
    ),
    "crash counted as pass": Fault(
        story=crash_counted_as_pass,
        catcher="tests/hostile/test_audit_never_passes_a_crash.py",
        says="test_an_attack_that_raises_is_invalid_.* failed",
    ),
    "NaN counted as pass": Fault(
        story=nan_counted_as_pass,
        catcher="tests/hostile/test_audit_never_passes_a_crash.py",
        says="test_a_p_value_that_is_nan_is_invalid failed",
    ),
    "INVALID audit approved": Fault(
        story=invalid_audit_approved, catcher="release.gate.decide", says="the audit is INVALID"
    ),
    "policy changed after signing": Fault(
        story=policy_changed_after_signing,
        catcher="synthkit_client.guard.read_signed_policy",
        says=r"rule policy\.signature",
    ),
    "policy signed by the site itself": Fault(
        story=policy_signed_by_the_site, catcher="release.trust.TrustStore.check_signer", says="role site"
    ),
    "policy changed after the audit": Fault(
        story=policy_changed_after_the_audit, catcher="cli.seal", says="made under another policy"
    ),
    "audit of another table than sealed": Fault(
        story=another_table_sealed, catcher="cli.seal", says="the audit judged another table"
    ),
    "rows too near real ones dropped": Fault(
        story=rows_near_patients_dropped, catcher="cli.seal", says="not the rows that the model draws"
    ),
    "rows selected after generation": Fault(
        story=best_row_of_each_pair_kept, catcher="cli.seal", says="not the rows that the model draws"
    ),
    "audit of another table than stated": Fault(
        story=another_table_stated, catcher="release.claims.check_statements", says="judged another table"
    ),
    "audit attempts uncounted": Fault(
        story=attempts_uncounted, catcher="cli.seal", says="the ledger does not know this audit"
    ),
    "audit attempts not recorded": Fault(
        story=attempts_not_recorded, catcher="cli.seal", says="the ledger does not know this audit"
    ),
    "one audit attempt too many": Fault(
        story=one_attempt_too_many, catcher="audit.run.run_audit", says=r"rule audit\.max_attempts"
    ),
}
