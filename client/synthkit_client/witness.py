"""The coordinator's witness statements: check each against the ledger, and keep the newest on disk.

Knows signatures, heads and one file. Refuses to let a statement spend or refund anything: what it can do
is stop a site whose ledger went back. Rules kept here:

1. A statement counts only under the signature of a coordinator that this site trusts, and only if it
   names this site; anything else in its place is refused.
2. The ledger has to contain the head it states. If not, the ledger is an older copy or another history.
3. The newest statement is stored, durably and only after the check; an older one, valid as it is, never
   replaces it. No statement at all (a coordinator without a key, a first round) changes nothing.

The stored statement is checked again whenever the ledger is opened. Whose key signed it is then no
longer asked: it was when it came, and a coordinator's later change of keys must not lock the site out.
"""

import json
from pathlib import Path

from synthkit.domain.canonical import JsonObject, canonical_json
from synthkit.domain.witness import WitnessStatement
from synthkit.errors import InputError, SignatureError
from synthkit.privacy.ledger import Ledger
from synthkit.privacy.ledger_file import exclusive_lock
from synthkit.release.signing import TrustStore, check_envelope, open_document
from synthkit_client.storage import write_durably

KIND = "witness"


def take_witness(text: str, *, path: Path, ledger: Ledger, site: str, trust: TrustStore) -> None:
    """Check a statement that arrived, and keep it if it is the newest.

    Args:
        text: A signed document of kind `witness`, as JSON; empty: there is none.
        path: Where the newest statement is kept.
        ledger: The site's ledger.
        site: The site's name.
        trust: The keys that the site trusts.

    Raises:
        SignatureError: Not signed by a trusted coordinator, or not as a witness.
        InputError: Malformed, or of another site.
        RollbackError: The ledger does not contain what the coordinator saw.
        LedgerError: The ledger cannot be read.
    """
    if not text:
        return
    envelope = _parse(text)
    document, _ = open_document(envelope, KIND, trust)  # 1
    statement = WitnessStatement.from_json(document)
    if statement.site != site:
        raise InputError("states another site's ledger", where=f"{KIND} for site {site}")
    ledger.check_witness(statement.mark)  # 2
    with exclusive_lock(path):  # 3
        stored = stored_witness(path)
        if stored is None or statement.ledger_counter > stored.ledger_counter:
            write_durably(path, canonical_json(envelope) + b"\n")


def stored_witness(path: Path) -> WitnessStatement | None:
    """The newest statement that this site accepted; None if it has none.

    Raises:
        InputError: The file is not a witness statement.
        SignatureError: It was altered after it was signed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("cannot be read", where=path.name, fix="ask the coordinator for it again") from error
    return WitnessStatement.from_json(check_envelope(_parse(text), KIND, where=path.name)["document"])


def _parse(text: str) -> JsonObject:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise SignatureError("not a signed document", where=KIND, fix="ask the coordinator for it again")
    return document
