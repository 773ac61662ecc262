"""The clinic's folder: built once, copied for each test, which then stands in it."""

import shutil
from collections.abc import Callable
from functools import partial

import pytest
from cli_clinic import Answer, build, call
from three_hospitals import build_region


@pytest.fixture(scope="session")
def built_clinic(tmp_path_factory):
    return build(tmp_path_factory.mktemp("clinic"))


@pytest.fixture
def clinic(built_clinic, tmp_path, monkeypatch):
    folder = tmp_path / "clinic"
    shutil.copytree(built_clinic, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def synthkit(capsys) -> Callable[..., Answer]:
    return partial(call, capsys)


@pytest.fixture(scope="session")
def built_region(tmp_path_factory):
    """Three enrolled hospitals and a signed study that nobody has decided on, and the fingerprint."""
    folder = tmp_path_factory.mktemp("region")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, build_region()


@pytest.fixture
def region(built_region, tmp_path, monkeypatch):
    folder = tmp_path / "region"
    shutil.copytree(built_region[0], folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def fingerprint(built_region):
    return built_region[1]
