"""Make a site's folder: keys, policy, trusted keys, an empty ledger.

Knows what a new hospital needs. Refuses to touch a folder that is already a site, and never overwrites
a key, a policy or a ledger. `found_site` is a hospital's own: its officer keeps her key and signs the policy
herself. `init_site` is for a rehearsal: it makes her key too and signs at once.
"""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from synthkit.domain.canonical import JsonObject
from synthkit.domain.documents import policy_from_toml
from synthkit.domain.policy import SitePolicy
from synthkit.domain.study import Site, Study
from synthkit.errors import InputError
from synthkit.federation.pki import create_node_key
from synthkit.privacy.accounting import check_delta
from synthkit.privacy.ledger import Ledger
from synthkit.release.signing import (
    SigningKey,
    TrustedKey,
    TrustStore,
    generate_key,
    open_document,
    seal_document,
    write_key,
)
from synthkit_client.site_folder import SiteFolder
from synthkit_client.storage import make_private, write_private

OFFICER_KEY = Path("keys") / "officer.key"

NODE_KEY = Path("node") / "node.key"
NODE_SECRET = Path("node") / "node.secret"
"""What the node shows the coordinator, and what the site's own process shows the node."""

SIGNED_POLICY = "policy.signed.json"


@dataclass(frozen=True, kw_only=True)
class NewSite:
    """What has to be known to enrol a hospital. `table` is a file name inside the folder, and so is
    `patients`: of the static columns beside records of visits (empty: there is none).
    """

    name: str
    table: str
    declared_size: int
    policy_text: str
    split: tuple[float, float, float] = (0.7, 0.2, 0.1)
    split_seed: int = 0
    patients: str = ""


def found_site(path: Path, site: NewSite, *, officer: TrustedKey) -> SiteFolder:
    """Make a hospital's folder: its own key, the node's key and secret, the policy to be signed, the ledger.

    The ledger is opened under the policy's asset and cap, which hold for its whole life. The coordinator is
    not trusted yet: `synthkit_client.joining` does that.

    Args:
        path: The folder; it may hold the table already.
        site: What has to be known of it.
        officer: Who will sign the policy, and approve studies.

    Raises:
        InputError: The folder is already a site or cannot be written, or a figure is out of range.
        PolicyError: The policy is incomplete or contradicts itself.
    """
    policy = _check_new(path, site)
    check_delta(policy.budget.delta, site.declared_size)
    make_private(path)
    make_private(path / "node")
    create_node_key(path / NODE_KEY)
    write_private(path / NODE_SECRET, secrets.token_bytes(32))
    return _lay_out(path, site, policy, generate_key(), (officer,))


def init_site(path: Path, site: NewSite, *, coordinator: TrustedKey) -> SiteFolder:
    """Turn a folder that holds a table into a site.

    Keys are written without a passphrase: this is for a rehearsal on one machine. A hospital keeps the
    officer's key apart from the site's, under a passphrase.

    Raises:
        InputError: The folder is already a site, or cannot be written.
        PolicyError: The policy is incomplete or contradicts itself.
    """
    policy = _check_new(path, site)
    path.mkdir(parents=True, exist_ok=True)
    officer = generate_key()
    folder = _lay_out(path, site, policy, generate_key(), (coordinator, officer_of(site.name, officer)))
    write_key(officer, path / OFFICER_KEY, None)
    signed = seal_document(policy.to_json(), "policy", officer, officer_name(site.name))
    folder.write_json(path / SIGNED_POLICY, signed)
    return folder


def _check_new(path: Path, site: NewSite) -> SitePolicy:
    """The new site's policy; nothing is written before it and all else is in order."""
    if (path / "site.toml").exists():
        raise InputError("the folder is already a site", where=path.name, fix="use it as it is")
    if (path / "ledger.jsonl").exists():
        raise InputError("holds a ledger", where=path.name, fix="a ledger belongs to one site for life")
    policy = policy_from_toml(site.policy_text, f"{site.name}/policy.toml")
    Site(name=site.name, public_key="", declared_size=site.declared_size)
    return policy


def _lay_out(
    path: Path, site: NewSite, policy: SitePolicy, key: SigningKey, trusted: tuple[TrustedKey, ...]
) -> SiteFolder:
    """Settings, the site's key, trusted keys, policy and ledger."""
    make_private(path / "keys")
    write_key(key, path / "keys" / "site.key", None)
    (path / "policy.toml").write_text(site.policy_text, encoding="utf-8")
    (path / "site.toml").write_text(_site_toml(site), encoding="utf-8")
    folder = SiteFolder(path)
    folder.write_json(path / "trust.json", TrustStore(keys=(*trusted, site_of(site.name, key))).to_json())
    Ledger.create(folder.ledger_path, asset=policy.asset, site=site.name, budget=policy.budget)
    return folder


def bring_study(folder: SiteFolder, envelope: JsonObject) -> Study:
    """Put a signed study into the site's folder, for the guard and the officer to judge.

    Raises:
        SignatureError: Not signed by a coordinator that this site trusts.
        InputError: The document is malformed.
    """
    document, _ = open_document(envelope, "study", folder.trust)
    study = Study.from_json(document)
    path = folder.study_folder(study.digest) / "study.json"
    folder.write_json(path, envelope)
    return study


def officer_name(site: str) -> str:
    """The name a rehearsal gives a site's officer."""
    return f"{site} privacy officer"


def officer_of(site: str, key: SigningKey) -> TrustedKey:
    """The officer as trust stores list her, bound to her hospital."""
    return TrustedKey(name=officer_name(site), role="officer", public_key=key.public_key_hex, site=site)


def site_of(site: str, key: SigningKey) -> TrustedKey:
    """The site as trust stores list it."""
    return TrustedKey(name=site, role="site", public_key=key.public_key_hex)


def _site_toml(site: NewSite) -> str:
    members, holdout, reference = site.split
    return (
        "# This hospital's own settings. The table never leaves this folder.\n"
        "[site]\n"
        f"name = {_text(site.name)}\n"
        f"table = {_text(site.table)}\n"
        + (f"patients = {_text(site.patients)}\n" if site.patients else "")
        + "# A public round figure; the exact number of patients is private.\n"
        f"declared_size = {site.declared_size}\n\n"
        "# Shares of the patients: to train on, to hold out for the audit, for its thresholds.\n"
        "[split]\n"
        f"members = {members}\nholdout = {holdout}\nreference = {reference}\n"
        f"seed = {site.split_seed}\n"
    )


def _text(value: str) -> str:
    """A TOML basic string; JSON's escapes are TOML's."""
    return json.dumps(value, ensure_ascii=False)
