"""RecordFiles: records of visits in the one form in which they leave.

Knows two CSV files as bytes and how they are named in a release. Refuses to know what a row means; see
`synthkit.release.contents`. Rule: the digest is of these bytes alone, so that a recipient computes it with
the standard library, and so that neither file can be exchanged for another's.
"""

from dataclasses import dataclass

from synthkit.domain.canonical import digest_of, sha256_hex

RECORDS, PATIENTS = "records.csv", "patients.csv"


@dataclass(frozen=True, kw_only=True, repr=False)
class RecordFiles:
    """`records`: one row for each code of each visit. `patients`: the static columns, one row a patient;
    None where the schema has none.
    """

    records: bytes
    patients: bytes | None

    @property
    def parts(self) -> dict[str, bytes]:
        """The files by name, in a release's order."""
        return {RECORDS: self.records} | ({} if self.patients is None else {PATIENTS: self.patients})

    @property
    def digest(self) -> str:
        """SHA-256 over both files' own: what an audit judges and a release seals."""
        return digest_of({name: sha256_hex(data) for name, data in self.parts.items()})
