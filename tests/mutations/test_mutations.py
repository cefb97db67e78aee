"""No test that cannot fail: a mistake made on purpose in the core fails tests that `make test` runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutations.mutations import MUTATIONS, Mutation

pytestmark = [pytest.mark.deep, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
TESTS_FAILED = 1
"""Pytest's exit code for failures of tests alone: a mistake that keeps them from being collected gives another."""
IGNORED = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", ".hypothesis", "*.egg-info")


def run_tests(root: Path) -> subprocess.CompletedProcess[str]:
    """Up to the first failure, those of the core that need no service; `make test` runs all of them."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    folders = ["tests/schemas", "tests/oracles", "tests/enrichment"]
    calibration = "--ignore=tests/enrichment/calibration"
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [*command, *folders, calibration, "--seed", "1"],
        cwd=root,
        env={**ours, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=800,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project as it is now."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT, folder, ignore=IGNORED)
    return folder


def test_the_core_as_it_is_passes(copy: Path) -> None:
    """Else the tests below would say nothing."""
    done = run_tests(copy)
    assert done.returncode == 0, done.stdout[-4_000:]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mistake_in_the_core_is_noticed(mutation: Mutation, copy: Path) -> None:
    """The tests are collected, and one of them fails."""
    mutation.apply(copy)
    done = run_tests(copy)
    assert done.returncode == TESTS_FAILED, done.stdout[-4_000:]
