"""A release of records: two tables under one digest, and no byte, patient or file of either to exchange."""

import json
from dataclasses import dataclass

import pytest
from release_workshop import (
    EXPIRES,
    NOW,
    TODAY,
    Workshop,
    packed,
    policy_of,
    spend,
    statement,
)
from release_workshop import RULES as RELEASE_RULES

from synthkit.domain.canonical import canonical_json, digest_of, sha256_hex
from synthkit.domain.record_files import RecordFiles
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import BundleError, InputError, SignatureError
from synthkit.release.bundle import ReleaseFacts, check, extract_records, extract_table, policy_part, seal
from synthkit.release.framing import encode

REFUSALS = (BundleError, SignatureError)

WARD = Schema(
    name="ward",
    patient_id="patient",
    visit="visit",
    time="day",
    columns=(
        Column(name="code", kind=Kind.CODE, categories=("I10", "a,b"), missing=True),
        Column(name="sex", kind=Kind.BINARY, categories=("F", "M")),
    ),
)
BARE = Schema(name="ward", patient_id="patient", visit="visit", columns=(WARD.columns[0],))
VISITS = b'patient,visit,day,code\n1,1,0,I10\n1,1,0,"a,b"\n1,2,9,\n2,1,3,I10\n'
PEOPLE = b"patient,sex\n1,F\n2,M\n"
FILES = RecordFiles(records=VISITS, patients=PEOPLE)
PLAIN = RecordFiles(records=b"patient,visit,code\n1,1,I10\n2,1,\n", patients=None)
FLAT = canonical_json(Schema(name="flat", columns=(WARD.columns[1],)).to_json())


def stating(site: str, files: RecordFiles | None = None, digest: str = "", **changes):
    digest = digest or (files or FILES).digest
    audit = {"verdict": "PASS", "attacks": [], "table_digest": digest, "attempt": 1}
    return statement(site, table_digest=digest, audit=audit, **changes)


@dataclass(frozen=True, kw_only=True)
class RecordWorkshop(Workshop):
    """The same insiders, and records of visits."""

    files: RecordFiles = FILES
    schema: Schema = WARD

    def sealed(self, *statements, parts=None, overlap=2.2, expires=EXPIRES):
        both = statements or (stating("north", self.files), stating("south", self.files))
        return seal(
            table_csv=self.files,
            parts={"schema.json": canonical_json(self.schema.to_json()), **(parts or {})},
            statements=[self.stated(one) for one in both],
            facts=ReleaseFacts(
                release="ward-2026-03",
                study="ward",
                study_digest="1" * 64,
                generator="eva",
                model_digest="2" * 64,
                epsilon_worst_overlap=overlap,
                expires=expires,
                version="0.1.0",
            ),
            key=self.keys["north"],
            signer="north",
            now=NOW,
        )


@pytest.fixture(scope="module")
def world() -> RecordWorkshop:
    return RecordWorkshop()


@pytest.fixture(scope="module")
def clean(world) -> bytes:
    return packed(world.release())


def test_the_clean_release_verifies_and_gives_both_files_back(world, clean, tmp_path):
    verified = world.verified(clean)
    assert (verified.manifest.rows, verified.manifest.table_digest) == (4, FILES.digest)
    assert check(clean, world.trust, today=TODAY) == ()
    assert world.verified(world.forged()).records.parts == FILES.parts
    extract_records(verified, tmp_path / "a.csv", tmp_path / "b.csv")
    assert ((tmp_path / "a.csv").read_bytes(), (tmp_path / "b.csv").read_bytes()) == (VISITS, PEOPLE)
    note = verified.parts["README.txt"].decode()
    assert "records.csv holds visits" in note
    assert "table.csv" not in note


def test_records_without_static_columns_are_one_file(tmp_path):
    bare = RecordWorkshop(files=PLAIN, schema=BARE)
    verified = bare.verified(packed(bare.release()))
    assert list(verified.records.parts) == ["records.csv"]
    with pytest.raises(InputError, match="no static columns"):
        extract_records(verified, tmp_path / "a.csv", tmp_path / "b.csv")
    extract_records(verified, tmp_path / "a.csv", None)
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]


def test_half_of_a_release_is_not_taken_out(world, clean, tmp_path):
    verified = world.verified(clean)
    with pytest.raises(InputError, match="records of visits, not a table"):
        extract_table(verified, tmp_path / "a.csv")
    with pytest.raises(InputError, match="static columns, too"):
        extract_records(verified, tmp_path / "a.csv", None)
    (tmp_path / "b.csv").write_text("mine", "utf-8")
    with pytest.raises(InputError, match="the file exists"):
        extract_records(verified, tmp_path / "a.csv", tmp_path / "b.csv")
    assert [file.name for file in tmp_path.iterdir()] == ["b.csv"]
    assert (tmp_path / "b.csv").read_text("utf-8") == "mine"
    of_rows = Workshop()
    table = of_rows.verified(packed(of_rows.release()))
    with pytest.raises(InputError, match="holds a table"):
        extract_records(table, tmp_path / "a.csv", tmp_path / "c.csv")


def test_flipped_bytes_are_refused(world, clean):
    """Each byte of both files, and every 25th of what is signed before them and stands behind."""
    begin = clean.index(VISITS)
    end = begin + len(VISITS) + len(PEOPLE)
    assert clean[begin:end] == VISITS + PEOPLE
    for position in (*range(0, begin, 25), *range(begin, end), *range(end, len(clean), 25)):
        altered = bytearray(clean)
        altered[position] ^= 1 << (position % 8)
        with pytest.raises(REFUSALS):
            world.verified(bytes(altered))


def test_every_truncation_is_refused(world, clean):
    for length in range(0, len(clean), 7):
        with pytest.raises(REFUSALS):
            world.verified(clean[:length])


# ---- named mutations -------------------------------------------------------------------------------


def swapped(**parts):
    """Parts are exchanged, and only the manifest's own list of parts follows."""
    named = {name.replace("_csv", ".csv"): data for name, data in parts.items()}
    return lambda world: world.forged(parts=named)


def remade(visits=VISITS, people=PEOPLE, **fields):
    """Other files, with manifest and statements made for them: an insider with every key."""

    def make(world):
        files = RecordFiles(records=visits, patients=people)
        update = {"table_digest": files.digest, **fields}
        stated = [world.stated(stating(site, files)) for site in ("north", "south")]
        return world.forged(lambda document: document.update(update), statements=stated, parts=files.parts)

    return make


def another_schema(schema):
    """A schema that is not of these records; the manifest's digest follows."""
    data = schema if isinstance(schema, bytes) else canonical_json(schema.to_json())

    def make(world):
        update = {"schema_digest": digest_of(json.loads(data))}
        return world.forged(lambda document: document.update(update), parts={"schema.json": data})

    return make


def table_under_a_longitudinal_schema(world):
    """The visits as a plain table: its digest would bind one file and no static column."""
    stated = [world.stated(stating(site, digest=sha256_hex(VISITS))) for site in ("north", "south")]
    candidate = world.release()
    document = json.loads(canonical_json(candidate.envelope["document"]))
    blobs = {"table.csv": VISITS}
    kept = ("schema.json", "README.txt")
    blobs |= {name: candidate.parts[name] for name in kept}
    blobs["audit.json"] = canonical_json(
        {one["document"]["site"]: one["document"]["audit"] for one in stated}
    )
    document["statements"] = stated
    document["table_digest"] = sha256_hex(VISITS)
    document["parts"] = [
        {"name": name, "size_bytes": len(data), "sha256": sha256_hex(data)} for name, data in blobs.items()
    ]
    signed = world.sign(document, "manifest", "north")
    approvals = [world.approval(document, site) for site in ("north", "south")]
    return encode({"manifest": signed, "approvals": approvals}, list(blobs.values()))


def understated(world):
    south = stating("south", spend=spend(1.0).__class__(**{**vars(spend(1.0)), "epsilon": 0.5}))
    return world.forged(
        lambda document: document.update(epsilon_disjoint=0.9),
        statements=[world.stated(stating("north")), world.stated(south)],
    )


MUTATIONS = {
    "a byte of a visit": (
        lambda w: packed(w.release()).replace(b"2,1,3", b"2,1,4"),
        "records.csv: was altered",
    ),
    "a byte of a patient": (
        lambda w: packed(w.release()).replace(b"2,M\n", b"2,F\n"),
        "patients.csv: was altered",
    ),
    "a code exchanged": (
        swapped(records_csv=VISITS.replace(b"3,I10", b'3,"a,b"')),
        "not the one in table_digest",
    ),
    "a row of codes dropped": (
        swapped(records_csv=VISITS.replace(b'1,1,0,"a,b"\n', b"")),
        "not the one in table_digest",
    ),
    "a visit dropped": (swapped(records_csv=VISITS.replace(b"1,2,9,\n", b"")), "not the one in table_digest"),
    "a patient dropped from both": (
        swapped(records_csv=VISITS.replace(b"2,1,3,I10\n", b""), patients_csv=PEOPLE.replace(b"2,M\n", b"")),
        "not the one in table_digest",
    ),
    "a patient dropped from the visits": (
        swapped(records_csv=VISITS.replace(b"2,1,3,I10\n", b"")),
        "its patients are not those of the records",
    ),
    "another file of static columns": (
        swapped(patients_csv=b"patient,sex\n1,M\n2,F\n"),
        "not the one in table_digest",
    ),
    "the files exchanged for each other": (
        swapped(records_csv=PEOPLE, patients_csv=VISITS),
        "records.csv: its columns are not the schema's",
    ),
    "static columns dropped": (lambda w: w.forged(drop="patients.csv"), "static columns are missing"),
    "visits dropped": (lambda w: w.forged(drop="records.csv"), "the parts are not those of a release"),
    "a table beside the records": (
        swapped(table_csv=b"age\n1\n"),
        "the parts are not those of a release",
    ),
    "records as a table": (table_under_a_longitudinal_schema, "where its schema is of records"),
    "records under a flat schema": (another_schema(FLAT), "where its schema is of none"),
    "records under a schema of nothing": (another_schema(b"{}"), "where its schema is of none"),
    "records under a schema without statics": (another_schema(BARE), "its columns are not the schema's"),
    "an audit of other records": (
        lambda w: w.forged(
            statements=[w.stated(stating("north")), w.stated(stating("south", digest="4" * 64))]
        ),
        "made for another table",
    ),
    "an audit of one file alone": (
        lambda w: w.forged(
            statements=[w.stated(stating("north")), w.stated(stating("south", digest=sha256_hex(VISITS)))]
        ),
        "made for another table",
    ),
    "a digest of one file alone": (
        lambda w: w.forged(lambda document: document.update(table_digest=sha256_hex(VISITS))),
        "not the one in table_digest",
    ),
    "rows inflated": (
        lambda w: w.forged(lambda document: document.update(rows=40)),
        "number of rows differs",
    ),
    "epsilon lowered": (understated, "not the largest of the sites' epsilons"),
    # insiders: files in another form than the one that is sealed
    "a hospital's own patient numbers": (
        remade(VISITS.replace(b"2,1,3", b"7731,1,3"), PEOPLE.replace(b"2,M", b"7731,M")),
        "not counted from 1 in order",
    ),
    "patients out of order": (
        remade(b"patient,visit,day,code\n2,1,0,I10\n1,1,0,I10\n"),
        "not counted from 1 in order",
    ),
    "a patient who comes back": (
        remade(VISITS + b"1,3,0,I10\n", rows=5),
        "not counted from 1 in order",
    ),
    "a visit left out": (remade(VISITS.replace(b"1,2,9", b"1,3,9")), "not counted from 1 in order"),
    "a patient without visits": (remade(VISITS, PEOPLE + b"3,F\n"), "not those of the records"),
    "patients counted otherwise": (
        remade(VISITS, b"patient,sex\n2,F\n1,M\n"),
        "patients.csv: patients are not counted from 1",
    ),
    "a column more": (
        remade(VISITS, b"patient,sex,name\n1,F,A\n2,M,B\n"),
        "patients.csv: its columns are not the schema's",
    ),
    "ragged visits": (remade(VISITS + b"2,2\n"), "records.csv: rows of different widths"),
    "binary visits": (remade(b"PAR1\xff\xfe"), "records.csv: not a CSV table"),
    "no visits at all": (remade(b""), "records.csv: its columns are not the schema's"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_named_mutation_is_refused_with_its_own_reason(world, name):
    make, reason = MUTATIONS[name]
    data = make(world)
    with pytest.raises(REFUSALS) as refusal:
        world.verified(data)
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert any(reason in problem for problem in check(data, world.trust, today=TODAY))


@pytest.mark.parametrize("files", [RecordFiles(records=VISITS, patients=None), PLAIN])
def test_sealing_refuses_files_that_its_schema_does_not_describe(files):
    with pytest.raises(BundleError):
        RecordWorkshop(files=files, schema=WARD).sealed()


def test_sealing_writes_what_was_drawn_itself(world):
    for name in ("table.csv", "records.csv", "patients.csv"):
        with pytest.raises(InputError, match="sealing writes this part itself"):
            world.sealed(parts={name: b"age\n1\n"})


def test_four_eyes_hold_for_records(world):
    rules = RELEASE_RULES.__class__(**{**vars(RELEASE_RULES), "four_eyes": True})
    policy = policy_of("south", rules)
    stated = [world.stated(stating("north")), world.stated(stating("south", policy_digest=policy.digest))]
    parts = {policy_part("south"): canonical_json(policy.to_json())}
    with pytest.raises(BundleError, match=r"\[rule release.four_eyes\]"):
        world.verified(world.forged(statements=stated, parts=parts))
