"""The deployment files are well formed and name only what exists.

Nothing here starts a service or a container: the files are parsed, held against the programs' own tables of
commands and options, and against each other.
"""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

import click
import pytest
import yaml

from synthkit.cli.main import COMMANDS, program

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
COMPOSE = sorted((DEPLOY / "compose").glob("*.yml"))
PAGES = sorted(DEPLOY.rglob("*.md"))
INSTALLED = "/opt/synthkit/venv/bin/"

HARDENING = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "PrivateTmp": "yes",
    "ProtectHome": "yes",
    "PrivateDevices": "yes",
    "IPAddressDeny": "any",
    "Restart": "always",
    "RestartSec": "15",
    "KillMode": "control-group",
    "CapabilityBoundingSet": "",
    "RestrictNamespaces": "yes",
}
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}


def unit_keys(path: Path) -> dict[str, list[str]]:
    """Values by key of a unit's [Service]; a key may stand several times."""
    keys: dict[str, list[str]] = defaultdict(list)
    section = ""
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("["):
            section = line
        elif line and not line.startswith("#"):
            key, found, value = line.partition("=")
            assert found, f"{path.name}: neither section, comment nor key: {line}"
            if section == "[Service]":
                keys[key].append(value)
    return keys


def services(path: Path) -> dict[str, dict]:
    return yaml.safe_load(path.read_text("utf-8"))["services"]


def program_lines() -> list[tuple[str, list[str]]]:
    """Every program that a unit or a compose file starts, as (file, words)."""
    lines = [(path.name, shlex.split(unit_keys(path)["ExecStart"][0])) for path in UNITS]
    for path in COMPOSE:
        lines += [(path.name, part["command"]) for part in services(path).values()]
    return [(name, words) for name, words in lines if words[0] != "nginx"]


def synthkit_lines() -> list[tuple[str, list[str]]]:
    """Every `synthkit ...` in the code of a page, as (page, words after the program)."""
    found = []
    for page in PAGES:
        blocks = re.findall(r"```[a-z]*\n(.*?)```|`([^`]+)`", page.read_text("utf-8"), flags=re.DOTALL)
        code = "\n".join(fenced or " ".join(inline.split()) for fenced, inline in blocks)
        for line in code.splitlines():
            command = re.fullmatch(rf"(?:{INSTALLED})?synthkit ([^#]+?)\s*(?:#.*)?", line.strip())
            if command:
                found.append((page.name, shlex.split(command[1])))
    return found


@cache
def help_of(words: tuple[str, ...]) -> str:
    command = [str(Path(sys.executable).with_name(words[0])), *words[1:], "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_there_is_something_to_check() -> None:
    assert len(UNITS) == 3
    assert len(COMPOSE) == 2
    assert len(PAGES) >= 9
    assert len(synthkit_lines()) > 20


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_every_unit_is_hardened_and_quiet(path: Path) -> None:
    keys = unit_keys(path)
    for key, value in HARDENING.items():
        assert keys[key] == [value], key
    assert set(keys["IPAddressAllow"]) <= {"localhost", "192.0.2.10"}
    assert "DynamicUser" in keys or keys["User"][0] not in {"", "root"}
    assert keys["StateDirectory"]
    assert keys["LoadCredential"]
    assert {f"{name}={value}" for name, value in QUIET.items()} <= set(keys["Environment"])


def test_the_process_that_reads_rows_has_loopback_only_and_the_node_no_rows() -> None:
    units = {path.stem: unit_keys(path) for path in UNITS}
    assert units["synthkit-site"]["IPAddressAllow"] == ["localhost"]
    folder = "/var/lib/" + units["synthkit-site"]["StateDirectory"][0]
    assert units["synthkit-node"]["InaccessiblePaths"] == [f"-{folder}"]
    assert f"--site-dir {folder} " in units["synthkit-site"]["ExecStart"][0]
    site, node = (services(DEPLOY / "compose" / "site.yml")[name] for name in ("site", "node"))
    networks = yaml.safe_load((DEPLOY / "compose" / "site.yml").read_text("utf-8"))["networks"]
    assert [networks[name]["internal"] for name in site["networks"]] == [True]
    assert "volumes" not in node


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for path in UNITS:
        scripts = f"{Path(sys.executable).parent}/"
        (tmp_path / path.name).write_text(path.read_text("utf-8").replace(INSTALLED, scripts))
    files = [str(tmp_path / path.name) for path in UNITS]
    done = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True, check=False)
    own = [line for line in done.stderr.splitlines() if "synthkit" in line]
    assert done.returncode == 0, own
    assert not own


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.stem)
def test_every_container_is_confined(path: Path) -> None:
    for name, service in services(path).items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["user"].split(":")[0]) > 0, name
        assert all("size=" in entry and "nosuid" in entry for entry in service["tmpfs"]), name
        assert "privileged" not in service
        if service["image"].startswith("synthkit"):
            assert QUIET.items() <= service["environment"].items(), name


def test_a_site_publishes_no_port_and_its_table_and_keys_are_read_only() -> None:
    parts = services(DEPLOY / "compose" / "site.yml")
    assert not any("ports" in service for service in parts.values())
    assert {"./site/patients.csv:/site/patients.csv:ro", "./site/keys:/site/keys:ro"} <= set(
        parts["site"]["volumes"]
    )


def test_every_option_of_a_started_program_is_one_it_has() -> None:
    for name, words in program_lines():
        start = tuple(word.removeprefix(INSTALLED) for word in words if not word.startswith("--"))
        base = start[:3] if start[0] in {"python", "synthkit"} else start[:1]
        known = help_of(base)
        options = [word.split("=")[0] for word in words if word.startswith("--")]
        assert options
        for option in options:
            assert re.search(rf"{option}\b", known), f"{name}: {base} has no {option}"


def test_every_synthkit_command_in_the_pages_exists_with_its_options() -> None:
    for page, words in synthkit_lines():
        if words[0].startswith("-"):
            assert words == ["--version"]
            continue
        assert words[0] in COMMANDS, f"{page}: synthkit {words[0]}"
        group = program()
        context = click.Context(group)
        command = group.get_command(context, words[0])
        if isinstance(command, click.Group) and len(words) > 1:
            command = command.get_command(click.Context(command), words[1])
        assert command is not None, f"{page}: synthkit {' '.join(words[:2])}"
        known = {option for parameter in command.params for option in parameter.opts}
        for option in (word for word in words if word.startswith("-")):
            assert option in known, f"{page}: synthkit {' '.join(words[:2])} has no {option}"


def test_every_library_name_in_the_pages_exists() -> None:
    named = re.compile(r"`((?:synthkit|synthkit_client|synthkit_server)(?:\.[a-z_]+)+\.[A-Za-z_]+)`")
    found = {name for page in PAGES for name in named.findall(page.read_text("utf-8"))}
    assert len(found) >= 6
    for name in found:
        module, attribute = name.rsplit(".", 1)
        assert hasattr(importlib.import_module(module), attribute), name


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_port_matrix_names_the_ports_of_the_units_and_no_others() -> None:
    lines = (DEPLOY / "firewall.md").read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert rows[0] == ["direction", "source", "destination", "port", "protocol", "purpose"]
    named = {row[3] for row in rows[2:]} - {"none"}
    used: set[str] = set()
    for path in UNITS:
        used |= set(re.findall(r"(?:--port |[a-z0-9]:)(\d{2,5})\b", unit_keys(path)["ExecStart"][0]))
    assert named == used
    inbound = [row for row in rows[2:] if row[0] == "inbound"]
    assert [row[2:4] for row in inbound] == [["site", "none"]]
