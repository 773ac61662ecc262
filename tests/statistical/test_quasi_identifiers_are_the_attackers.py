"""What a schema declares others to know is what the audit's attackers know; columns are drawn otherwise."""

from dataclasses import replace

import audit_clinic as clinic
import numpy as np
import pandas as pd
import pytest

from synthkit.audit import attribute, identity, presence
from synthkit.audit.evidence import Evidence, gather
from synthkit.audit.run import run_audit
from synthkit.audit.verdict import measure
from synthkit.data.inference import infer_schema
from synthkit.domain.audit import AttackResult, Verdict
from synthkit.domain.documents import schema_from_toml, schema_to_toml
from synthkit.domain.quasi_identifiers import likely_quasi_identifiers
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import SchemaError
from synthkit.report.attack_words import attacker

SIZE = 1000
QUASI = ("age", "sex", "ward")
DECLARED = replace(clinic.SCHEMA, quasi_identifiers=QUASI)


def frames(seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    return tuple(clinic.draw(rng, SIZE) for _ in range(4))


def evidence_of(schema: Schema, sets, synthetic: pd.DataFrame) -> Evidence:
    members, holdout, reference = (clinic.people(part, schema) for part in sets)
    made = clinic.made(synthetic, schema)
    return gather(members=members, holdout=holdout, reference=reference, synthetic=made, seed=0)


def results_of(schema: Schema, synthetic: pd.DataFrame, sets) -> list[AttackResult]:
    evidence = evidence_of(schema, sets, synthetic)
    claims = (*presence.partial_match(evidence), *attribute.infer(evidence), *identity.disclose(evidence))
    return list(measure(claims, clinic.RULES))


def test_the_declared_columns_are_written_read_and_bound_by_the_digest() -> None:
    text = schema_to_toml(DECLARED)
    assert 'quasi_identifiers = ["age", "sex", "ward"]' in text
    assert schema_from_toml(text, "s.toml") == DECLARED
    assert Schema.from_json(DECLARED.to_json()) == DECLARED
    assert DECLARED.digest != clinic.SCHEMA.digest


def test_a_schema_of_an_older_version_loads_and_keeps_its_digest() -> None:
    document = clinic.SCHEMA.to_json()
    assert "quasi_identifiers" not in document
    assert Schema.from_json(document).quasi_identifiers == ()
    assert "quasi_identifiers" not in schema_to_toml(clinic.SCHEMA)


@pytest.mark.parametrize("named", [("pid",), ("height",), ("age", "age")])
def test_what_is_no_column_or_named_twice_is_refused(named: tuple[str, ...]) -> None:
    with pytest.raises(SchemaError, match="quasi_identifiers"):
        replace(clinic.SCHEMA, quasi_identifiers=named)


def test_a_code_is_no_quasi_identifier_of_a_record() -> None:
    columns = (
        Column(name="sex", kind=Kind.BINARY, categories=("F", "M")),
        Column(name="code", kind=Kind.CODE, categories=("A", "B")),
    )
    fields = {"columns": columns, "patient_id": "pid", "visit": "visit"}
    assert Schema(**fields, quasi_identifiers=("sex",)).statics.quasi_identifiers == ("sex",)
    with pytest.raises(SchemaError, match="one value a patient"):
        Schema(**fields, quasi_identifiers=("code",))


def test_a_draft_guesses_by_whole_words_of_names(tmp_path) -> None:
    names = ("PatientAge", "sex", "zip_code", "dosage", "admitted", "systolic", "birthDate", "staged")
    assert likely_quasi_identifiers(names) == ("PatientAge", "sex", "zip_code", "admitted", "birthDate")
    (tmp_path / "t.csv").write_text(
        "age,sex,sodium\n" + "\n".join(f"{50 + i},F,{130 + i % 9}" for i in range(30))
    )
    draft = infer_schema(tmp_path / "t.csv")
    assert draft.schema.quasi_identifiers == ("age", "sex")
    assert any("Quasi-identifiers" in note and "age" in note for note in draft.notes)


def test_what_is_declared_is_known_and_never_a_secret() -> None:
    sets = frames(1)[:3]
    evidence = evidence_of(replace(DECLARED, quasi_identifiers=(*QUASI, "died")), sets, frames(1)[3])
    known = {
        name for name, is_known in zip(evidence.names, evidence.knowledge.known, strict=True) if is_known
    }
    assert known >= {*QUASI, "died"}
    assert len(known) == 4 + (len(clinic.SCHEMA) - 4 + 1) // 2
    assert "died" not in {evidence.names[place] for place in evidence.secrets}
    assert len(evidence.real.members.by_quasi) == 2


def test_the_distance_on_quasi_identifiers_is_theirs_alone() -> None:
    """A table that has a member's three declared columns, and all others from elsewhere, is at distance 0."""
    members, holdout, reference, fresh = frames(2)
    table = fresh.copy()
    table[list(QUASI)] = members[list(QUASI)].to_numpy()
    evidence = evidence_of(DECLARED, (members, holdout, reference), table)
    assert (evidence.real.members.by_quasi[0].distances[:, 0] == 0).all()
    assert (evidence.real.holdout.by_quasi[0].distances[:, 0] > 0).any()


def test_a_secret_that_travels_with_the_quasi_identifiers_is_found_by_who_knows_only_these() -> None:
    """Half of the rows carry five of a member's cells and the secret, all else drawn anew: power near 1."""
    *sets, fresh = frames(3)
    known = ("age", "admitted", "sex", "bmi", "systolic")
    columns = tuple(replace(column, target=column.name == "creatinine") for column in clinic.SCHEMA)
    schema = replace(clinic.SCHEMA, columns=columns[:-1], quasi_identifiers=known)
    table = fresh.copy()
    copied = [*known, "creatinine"]
    table.loc[:500, copied] = sets[0].loc[:500, copied].to_numpy()
    found = {result.name: result for result in results_of(schema, table, sets)}
    from_quasi = found[attribute.BY_QUASI[0]]
    assert from_quasi.statistic == "secret_creatinine"
    assert from_quasi.p_adjusted < 0.001
    assert from_quasi.advantage > 0.2
    assert found[presence.BY_QUASI].p_adjusted < 0.001
    assert found[identity.NAME].p_adjusted < 0.001


def test_independent_rows_give_the_declared_attackers_nothing() -> None:
    """Of 8 tables at adjusted level 0.05, more than 2 with a finding have probability below 0.006; seeds are
    fixed."""
    findings = 0
    for seed in range(8):
        *sets, fresh = frames(100 + seed)
        findings += any(result.p_adjusted < 0.05 for result in results_of(DECLARED, fresh, sets))
    assert findings <= 2


def test_an_audit_runs_all_three_attackers_and_each_has_its_words() -> None:
    """FAIL has probability at most 0.02; the seed is fixed."""
    members, holdout, reference, fresh = frames(5)
    report = run_audit(
        members=clinic.people(members, DECLARED),
        holdout=clinic.people(holdout, DECLARED),
        reference=clinic.people(reference, DECLARED),
        synthetic=clinic.made(fresh, DECLARED),
        rules=clinic.RULES,
        policy_digest="0" * 64,
    )
    names = {attack.name for attack in report.attacks}
    assert report.verdict is not Verdict.FAIL
    assert {presence.BY_QUASI, presence.BY_QUASI_AND_HALF, presence.NEAR, *attribute.BY_QUASI} <= names
    assert presence.PARTIAL not in names
    assert all(attacker(name) is not None for name in names)
