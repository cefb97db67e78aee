"""Fixtures of the command line and what is behind it."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep settings that the machine's environment may hold away from commands, but not what says where tests run."""
    for name in list(os.environ):
        if name.upper().startswith("EBBTIDE_") and not name.upper().startswith("EBBTIDE_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A model file: the numbers of the built-in model, as one's own."""
    path = tmp_path / "model.yaml"
    path.write_bytes(files("enrichment").joinpath("default_model.yaml").read_bytes())
    return path
