"""Before a site takes part: is everything in place? One finding per check, each with what to do.

Knows the site's folder, this machine and the coordinator's address. Changes nothing and sends nothing of
the site's. Refuses to stop at the first fault, so that one visit mends them all; and to say anything about a
cell: what a table violates is listed by `synthkit schema check`.
"""

import datetime as dt
import importlib.metadata
import platform
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from synthkit.domain.schema import Schema
from synthkit.errors import InputError, PolicyError, SynthkitError
from synthkit.federation.pki import check_authority
from synthkit.release.signing import read_key
from synthkit_client.decisions import Standing, brought_studies, decision_on
from synthkit_client.enrol import NODE_KEY, NODE_SECRET, OFFICER_KEY
from synthkit_client.joining import AUTHORITY, known_coordinator
from synthkit_client.papers import read_signed_policy
from synthkit_client.reach import MOST_SKEW_S, reach
from synthkit_client.site_folder import SiteFolder

LEAST_FREE_BYTES = 2 * 1024**3
"""Room for stored replies, logs and a ledger that must never fail to grow."""

PYTHON, FLOWER = (3, 11), "1.41."

BAD_INPUT = 4


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check. `code` is the exit code that it stands for, 0 when all is well; None: not checked."""

    check: str
    code: int | None
    words: str
    fix: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether nothing has to be done."""
        return not self.code


Check = Callable[[SiteFolder], str]
"""Says in words what it found; raises what is wrong."""


def preflight(folder: SiteFolder, *, schema: Schema | None = None) -> Iterator[Finding]:
    """Every check, one after the other.

    Args:
        folder: The site's.
        schema: What the table is checked against; None: the schemas of the approved studies.
    """
    for name, check in _CHECKS.items():
        yield _finding(name, check, folder)
    yield from _tables(folder, schema)
    yield from _network(folder)


def _finding(name: str, check: Check, folder: SiteFolder) -> Finding:
    try:
        return Finding(check=name, code=0, words=check(folder))
    except SynthkitError as error:
        what = f"{error.where}: {error.what}" if error.where else error.what
        return Finding(check=name, code=error.exit_code, words=what, fix=error.fix)
    except OSError as error:
        words = error.strerror or type(error).__name__
        return Finding(check=name, code=BAD_INPUT, words=words, fix="check the path and its rights")


def _versions(folder: SiteFolder) -> str:
    del folder
    own, flower = importlib.metadata.version("synthkit"), importlib.metadata.version("flwr")
    python = platform.python_version_tuple()
    if tuple(int(part) for part in python[:2]) < PYTHON or not flower.startswith(FLOWER):
        raise InputError(
            f"Python {platform.python_version()}, Flower {flower}",
            fix=f"Python 3.11 or later and Flower {FLOWER}x, as the wheelhouse has them",
        )
    return f"synthkit {own}, Python {platform.python_version()}, Flower {flower}"


def _modes(folder: SiteFolder) -> str:
    # The officer's key belongs elsewhere, and the node's where the node runs under another user.
    elsewhere = [folder.path / name for name in (OFFICER_KEY, NODE_KEY, NODE_SECRET)]
    kept = [path for path in elsewhere if path.exists()]
    for path in (folder.path, folder.path / "keys" / "site.key", *kept):
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            mode = "700" if path.is_dir() else "600"
            raise InputError("others may read it", where=path.name, fix=f"chmod {mode} {path.name}")
    return "nobody else may read the folder and the keys"


def _officer(folder: SiteFolder) -> str:
    path = folder.path / OFFICER_KEY
    if not path.exists():
        return "the officer's key is kept elsewhere"
    if b"ENCRYPTED" not in path.read_bytes():
        return "the officer's key lies here without a passphrase: move it to her own machine"
    return "the officer's key lies here under a passphrase: better on her own machine"


def _keys(folder: SiteFolder) -> str:
    key = read_key(folder.path / "keys" / "site.key")
    entry = folder.trust.find(key.public_key_hex)
    if entry is None or entry.name != folder.name or entry.role != "site":
        raise InputError("does not list this site's own key", where="trust.json", fix="restore it")
    return f"this site signs as {folder.name}"


def _disk(folder: SiteFolder) -> str:
    free = shutil.disk_usage(folder.path).free
    if free < LEAST_FREE_BYTES:
        raise InputError(f"{free / 1024**3:.1f} GiB are free", fix="make room for 2 GiB at least")
    return f"{free / 1024**3:.0f} GiB are free"


def _policy(folder: SiteFolder) -> str:
    policy = read_signed_policy(folder)
    if dt.date.today() > policy.expires:
        raise PolicyError(
            f"expired on {policy.expires}",
            rule="policy.expires",
            where="policy.toml",
            fix="review it and have it signed again",
        )
    return f"{policy.name}, signed, in force to {policy.expires}"


def _ledger(folder: SiteFolder) -> str:
    ledger = folder.open_ledger()
    number, _ = ledger.head
    open_ones = len(ledger.open_reservations())
    words = f"whole, {number} entries after the first"
    return words + (f"; {open_ones} reservations without an outcome count as spent" if open_ones else "")


def _joined(folder: SiteFolder) -> str:
    coordinator = known_coordinator(folder)
    if coordinator is None:
        raise InputError(
            "no coordinator yet", where=f"site {folder.name}", fix="synthkit site join INVITATION"
        )
    entry = folder.trust.find(coordinator.public_key)
    if entry is None or entry.revoked or entry.role != "coordinator":
        raise InputError("does not trust the coordinator's key", where="trust.json", fix="join it again")
    end = check_authority((folder.node / AUTHORITY).read_text("ascii"), now=dt.datetime.now(dt.UTC))
    return f"{coordinator.name} at {coordinator.address}; its authority is good to {end.date()}"


_CHECKS: dict[str, Check] = {
    "versions": _versions,
    "file modes": _modes,
    "site's key": _keys,
    "officer's key": _officer,
    "free disk": _disk,
    "policy": _policy,
    "ledger": _ledger,
    "joined": _joined,
}


def _tables(folder: SiteFolder, schema: Schema | None) -> Iterator[Finding]:
    """The table against each schema that matters, and the policy's least number of patients."""
    schemas = {"given": schema} if schema is not None else _approved_schemas(folder)
    if not schemas:
        yield Finding(
            check="table", code=None, words="not checked", fix="give --schema, or approve a study first"
        )
    for name, asked in schemas.items():
        yield _finding(f"table ({name})", partial(_table, schema=asked), folder)


def _approved_schemas(folder: SiteFolder) -> dict[str, Schema]:
    try:
        studies = brought_studies(folder)
        approved = [s for s in studies if decision_on(folder, s).standing is Standing.APPROVED]
    except SynthkitError:
        return {}
    return {study.name: study.schema for study in approved}


def _table(folder: SiteFolder, schema: Schema) -> str:
    least = folder.policy.study.min_patients
    if schema.is_longitudinal:
        enough = folder.read_record_split(schema).members.patient_count >= least
    else:
        enough = folder.read_split(schema).members.patient_count >= least
    if not enough:
        raise PolicyError(f"fewer patients to train on than {least}", rule="study.min_patients")
    return "fits the schema, with enough patients"  # no name: it may be an address with a password


def _network(folder: SiteFolder) -> Iterator[Finding]:
    """The coordinator, and its clock."""
    try:
        coordinator = known_coordinator(folder)
        if coordinator is None:
            return
        found = reach(coordinator.address, folder.node / AUTHORITY)
    except SynthkitError as error:
        where = f"{error.where}: " if error.where else ""
        yield Finding(check="connection", code=error.exit_code, words=f"{where}{error.what}", fix=error.fix)
        return
    yield Finding(check="connection", code=0, words=f"{coordinator.address} answers, its certificate is good")
    if found.skew_s is None:
        yield Finding(check="clock", code=None, words="the coordinator does not say what time it is")
    elif found.is_clock_right:
        yield Finding(check="clock", code=0, words=f"within {MOST_SKEW_S:.0f} s of the coordinator's")
    else:
        yield Finding(
            check="clock",
            code=BAD_INPUT,
            words=f"{found.skew_s:+.0f} s off the coordinator's",
            fix="set it: requests are signed with the time",
        )
