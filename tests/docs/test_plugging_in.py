"""docs/plugging-in.md: every block runs as it stands, in order, and prints what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plugging-in.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(sh)?\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder, and a command `ebbtide` that is this checkout's."""
    folder = tmp_path_factory.mktemp("plugging-in")
    command = folder / "bin" / "ebbtide"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m streams "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return folder


def run(block: str, folder: Path) -> str:
    """What a block prints on stdout; it must not fail. No setting of the environment's own is left."""
    done = subprocess.run(
        ["sh", "-e", "-c", block],
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("EBBTIDE_")},
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_block_prints_what_the_page_shows(folder: Path) -> None:
    """A block without a language is the beginning of what the command before it prints."""
    assert [language for language, _ in BLOCKS].count("sh") >= 7
    printed, shown = "", 0
    for language, text in BLOCKS:
        if language == "sh":
            printed = run(text, folder)
        else:
            assert printed.startswith(text.rstrip("\n"))
            shown += 1
    assert shown == 5
    assert all("<html" in (folder / page).read_text("utf-8") for page in ("page.html", "history.html"))
    assert len((folder / "customers.csv").read_bytes().splitlines()) == 4
    assert len((folder / "records" / "dead-letters.jsonl").read_bytes().splitlines()) == 1
    assert len((folder / "results" / "customer-profiles.jsonl").read_bytes().splitlines()) == 1
