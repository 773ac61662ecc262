"""A candidate: a sealed release on its way through the approvals, in memory and as a folder.

Knows the sealed manifest, its parts and the approvals so far; trusts no key. Rules kept here: a
candidate exists only if its parts and claims hold; its folder is read with the same suspicion as a
bundle, because several people pass it on; what was drawn out of a vault lies in that vault, in the folder
too, until the bundle is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from synthkit.domain.canonical import JsonObject, canonical_json
from synthkit.domain.release import BundleManifest, SiteStatement
from synthkit.errors import BundleError, InputError, SynthkitError
from synthkit.release import claims, framing
from synthkit.release.contents import DRAWN
from synthkit.release.documents import read_approval, read_manifest, read_statement
from synthkit.release.signing import SigningKey, check_envelope
from synthkit.release.vault import read_vault, unlock

_HEADER_FILE = "candidate.json"
_PARTS_FOLDER = "parts"
_VAULT_FILE = "drawn.vault"


@dataclass(frozen=True, kw_only=True, repr=False)
class Candidate:
    """A sealed release on its way through the approvals.

    `four_eyes` names the sites whose rules, as of an approval so far, ask for two officers. `vault` holds the
    bytes of the vault that the drawn parts came out of; empty: they lie plain.
    """

    envelope: JsonObject
    manifest: BundleManifest
    statements: tuple[SiteStatement, ...]
    parts: Mapping[str, bytes]
    approvals: tuple[JsonObject, ...] = ()
    four_eyes: frozenset[str] = field(default=frozenset())
    vault: bytes = b""

    def __repr__(self) -> str:
        return f"Candidate(release={self.manifest.release!r}, missing={self.missing!r})"

    def statement(self, site: str) -> SiteStatement:
        """That site's statement.

        Raises:
            InputError: The site states nothing in this release.
        """
        for statement in self.statements:
            if statement.site == site:
                return statement
        raise InputError("no statement of this site", where=f"site {site!r}", fix="see the manifest's sites")

    def officers_needed(self, site: str) -> int:
        """How many officers have to approve that site's statement: 1, or 2 under four eyes."""
        rules = claims.read_rules(self.statement(site), self.parts)
        return 2 if site in self.four_eyes or (rules is not None and rules.four_eyes) else 1

    def approvals_of(self, site: str) -> tuple[JsonObject, ...]:
        """The signed approvals of that site's statement."""
        return tuple(one for one in self.approvals if one["document"]["site"] == site)

    @property
    def missing(self) -> tuple[str, ...]:
        """What has to happen before this may leave, one line for each site."""
        lines = []
        for statement in self.statements:
            lacking = self.officers_needed(statement.site) - len(self.approvals_of(statement.site))
            if lacking > 0:
                lines.append(f"site {statement.site}: approvals missing: {lacking}")
        return tuple(lines)

    def header(self) -> JsonObject:
        """The bundle's header."""
        return {"manifest": self.envelope, "approvals": list(self.approvals)}

    def write(self, folder: Path) -> None:
        """Write the candidate to a folder, or bring its folder up to date with new approvals.

        Raises:
            InputError: The folder holds another release's candidate, or cannot be written.
        """
        _check_folder(folder, self.manifest)
        try:
            (folder / _PARTS_FOLDER).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError("cannot be written", where=folder.name, fix="check the folder") from error
        for name, data in self.parts.items():
            if not (self.vault and name in DRAWN):
                framing.write_atomic(folder / _PARTS_FOLDER / name, data, overwrite=True)
        if self.vault:
            framing.write_atomic(folder / _PARTS_FOLDER / _VAULT_FILE, self.vault, overwrite=True)
        document = {**self.header(), "four_eyes": sorted(self.four_eyes)}
        framing.write_atomic(folder / _HEADER_FILE, canonical_json(document), overwrite=True)

    @classmethod
    def read(cls, folder: Path, key: SigningKey | None = None) -> "Candidate":
        """Read a candidate's folder back, and check it again.

        Args:
            folder: What `write` wrote.
            key: A reader's key, for a candidate whose drawn parts lie in a vault.

        Raises:
            InputError: A file is missing, or a key.
            BundleError: A file was altered.
            SignatureError: A signature is wrong, or the vault does not open with this key.
        """
        document = framing.parse_canonical(framing.read_bytes(folder / _HEADER_FILE), where=_HEADER_FILE)
        if set(document) != {"manifest", "approvals", "four_eyes"}:
            raise BundleError("not a candidate", where=_HEADER_FILE)
        approvals, four_eyes = document["approvals"], document["four_eyes"]
        if not isinstance(approvals, list) or not isinstance(four_eyes, list):
            raise BundleError("a field has the wrong type", where=_HEADER_FILE)
        envelope = check_envelope(document["manifest"], "manifest")
        manifest = read_manifest(envelope["document"])
        names = [part.name for part in manifest.parts]
        vault = _read_if_there(folder / _PARTS_FOLDER / _VAULT_FILE)
        drawn = _open(vault, key) if vault else {}
        parts = {
            name: drawn[name] if name in drawn else framing.read_bytes(folder / _PARTS_FOLDER / name)
            for name in names
        }
        for one in approvals:
            read_approval(check_envelope(one, "approval")["document"])
        return build_candidate(
            envelope,
            parts,
            approvals=tuple(approvals),
            four_eyes=frozenset(map(str, four_eyes)),
            vault=vault,
        )


def build_candidate(
    envelope: JsonObject,
    parts: Mapping[str, bytes],
    *,
    approvals: tuple[JsonObject, ...] = (),
    four_eyes: frozenset[str] = frozenset(),
    vault: bytes = b"",
) -> Candidate:
    """A candidate whose parts and claims hold; see `claims` for what is raised."""
    manifest = read_manifest(envelope["document"])
    statements = tuple(
        read_statement(check_envelope(one, "statement")["document"]) for one in manifest.statements
    )
    claims.check_parts(manifest, parts)
    claims.check_statements(manifest, statements, parts)
    claims.check_epsilons(manifest, statements)
    claims.check_encoders(statements)
    return Candidate(
        envelope=envelope,
        manifest=manifest,
        statements=statements,
        parts=dict(parts),
        approvals=approvals,
        four_eyes=four_eyes,
        vault=vault,
    )


def _check_folder(folder: Path, manifest: BundleManifest) -> None:
    """Refuse a folder that holds another release's candidate."""
    if not (folder / _HEADER_FILE).exists():
        return
    try:
        document = framing.parse_canonical(framing.read_bytes(folder / _HEADER_FILE), where=_HEADER_FILE)
        held = read_manifest(check_envelope(document.get("manifest"), "manifest")["document"]).digest
    except SynthkitError:
        held = ""
    if held != manifest.digest:
        raise InputError("holds another candidate", where=folder.name, fix="choose an empty folder")


def _read_if_there(path: Path) -> bytes:
    return framing.read_bytes(path) if path.is_file() else b""


def _open(vault: bytes, key: SigningKey | None) -> dict[str, bytes]:
    """What lies in a candidate's vault; nothing but drawn parts."""
    if key is None:
        raise InputError(
            "the candidate's table is locked", where=_VAULT_FILE, fix="give a reader's own key: --vault-key"
        )
    files = unlock(read_vault(vault, where=_VAULT_FILE), key, where=_VAULT_FILE)
    if not set(files) <= set(DRAWN):
        raise BundleError("holds more than what was drawn", where=_VAULT_FILE, fix="seal it again")
    return files
