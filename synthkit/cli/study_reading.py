"""A study as commands meet it: a draft in TOML beside its schema, or the signed JSON that holds both.

Refuses nothing that the nouns do not refuse; whose signature counts is asked by those who act on it.
"""

from pathlib import Path

from synthkit.cli.loading import load_schema, name_of, read_json, read_text
from synthkit.domain.documents import check_is_study, study_from_toml
from synthkit.domain.study import Study
from synthkit.domain.study_text import Price
from synthkit.privacy.plan_cost import admission_cost, reported_cost
from synthkit.release.signing import check_envelope


def load_draft(path: Path, schema: Path | None) -> Study:
    """A draft; its schema is schema.toml beside it unless named.

    Raises:
        InputError: A file cannot be read, or the draft is malformed.
        SchemaError: The schema contradicts itself.
    """
    text = read_text(path)
    check_is_study(text, name_of(path))
    found = load_schema(schema or path.with_name("schema.toml"))
    return study_from_toml(text, name_of(path), schema=found)


def load_study(path: Path, schema: Path | None) -> tuple[Study, str | None]:
    """A draft, or a signed study with the name it is signed under.

    Of a signed one only this is certain: nobody altered it since that key signed it.

    Raises:
        InputError: As `load_draft`.
        SignatureError: A signed study was altered.
    """
    if path.suffix != ".json":
        return load_draft(path, schema), None
    envelope = check_envelope(read_json(path), "study", where=name_of(path))
    return Study.from_json(envelope["document"]), str(envelope["signer"])


def price_of(study: Study, delta: float | None = None) -> Price:
    """What the study costs at its own delta, or at an asset's."""
    at = study.plan.delta if delta is None else delta
    return Price(delta=at, planned=admission_cost(study.plan, at), reported=reported_cost(study.plan, at))
