"""The installed Flower has what we use of it, and the bundle holds no code."""

import ast
import importlib
import importlib.metadata
import io
import tomllib
import zipfile
from pathlib import Path

import pytest

import synthkit_client
import synthkit_server
from synthkit_client.app import app as client_app
from synthkit_server.app import RunSettings
from synthkit_server.app import app as server_app
from synthkit_server.bundle import BUNDLE_FILES, build_bundle, bundle_digest
from synthkit_server.flower_adapter import task_identity

ROOT = Path(__file__).resolve().parents[2]
NODES = tuple(Path(package.__file__).parent for package in (synthkit_server, synthkit_client))
PUBLIC = {"flwr.app", "flwr.clientapp", "flwr.serverapp"}


def flower_imports(path):
    """(module, name) of every import from Flower in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "flwr":
            yield from ((node.module, alias.name) for alias in node.names)
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names if alias.name.split(".")[0] == "flwr")


FILES = [path for node in NODES for path in sorted(node.rglob("*.py"))]
ADAPTERS = [path for path in FILES if path.name == "flower_adapter.py"]
PRIVATE = sorted({pair for path in ADAPTERS for pair in flower_imports(path) if pair[0] not in PUBLIC})


def test_the_installed_flower_is_the_one_this_was_written_for():
    assert importlib.metadata.version("flwr").startswith("1.41.")


def test_private_names_are_imported_in_the_adapters_alone():
    assert len(ADAPTERS) == 2
    others = {path: {module for module, _ in flower_imports(path)} for path in FILES if path not in ADAPTERS}
    assert any(others.values())
    assert {str(path): found - PUBLIC for path, found in others.items() if found - PUBLIC} == {}


@pytest.mark.parametrize(("module", "name"), PRIVATE, ids=str)
def test_a_private_name_exists(module, name):
    assert hasattr(importlib.import_module(module), name)


def test_private_attributes_exist():
    from flwr.supercore.run import Run
    from flwr.supercore.task_identity import TaskIdentity

    assert {"_run_id", "_node_id", "_task_id"} <= set(vars(TaskIdentity))
    assert Run.create_empty(3).run_id == 3


def test_the_task_identity_is_given_back():
    from flwr.supercore.task_identity import TaskIdentity

    with task_identity(run_id=5):
        with task_identity(run_id=6, node_id=9):
            assert (TaskIdentity.run_id, TaskIdentity.node_id) == (6, 9)
        assert (TaskIdentity.run_id, TaskIdentity.node_id) == (5, 1)


def test_the_bundle_holds_exactly_two_files():
    with zipfile.ZipFile(io.BytesIO(build_bundle())) as bundle:
        names = bundle.namelist()
        assert sorted(names) == [".info/CONTENT", "LICENSE", "pyproject.toml"]
        listed = [line.split(",")[0] for line in bundle.read(".info/CONTENT").decode().splitlines()]
        assert sorted(listed) == sorted(BUNDLE_FILES)
        config = tomllib.loads(bundle.read("pyproject.toml").decode())
        assert bundle.read("LICENSE") == (ROOT / "LICENSE").read_bytes()
    components = config["tool"]["flwr"]["app"]["components"]
    assert components == {"serverapp": "synthkit_server.app:app", "clientapp": "synthkit_client.app:app"}
    assert (type(server_app).__name__, type(client_app).__name__) == ("ServerApp", "ClientApp")


def test_the_bundle_is_the_same_bytes_each_time_and_of_this_release():
    assert build_bundle() == build_bundle()
    assert len(bundle_digest()) == 64
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with zipfile.ZipFile(io.BytesIO(build_bundle())) as bundle:
        bundled = tomllib.loads(bundle.read("pyproject.toml").decode())["project"]
    assert bundled["version"] == project["version"]
    assert bundled["dependencies"] == ["flwr>=1.41.0,<1.42"]


def test_the_bundles_configuration_is_what_the_coordinator_reads():
    with zipfile.ZipFile(io.BytesIO(build_bundle())) as bundle:
        config = tomllib.loads(bundle.read("pyproject.toml").decode())["tool"]["flwr"]["app"]["config"]
    paths = {key for key, value in config.items() if value == ""}
    settings = RunSettings.from_run_config({**config, **dict.fromkeys(paths, "x")})
    assert settings.rules.min_sites is None
    assert settings.rules.deadline_s == 3600.0
    assert paths == {"study-file", "trust", "initial-file", "output-dir", "key-file"}
