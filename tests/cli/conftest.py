"""The clinic's folder: built once, copied for each test, which then stands in it."""

import shutil
from collections.abc import Callable
from functools import partial

import pytest
from cli_clinic import Answer, build, call


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
