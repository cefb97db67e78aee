"""Which module may import which: the layers of `.importlinter`, and the size of a room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "enrichment", "streams", "ebbtide")
MOST_MODULES = 20


def test_imports_go_one_way(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each layer imports only those below it, imports for types alone included, and no room has a circle."""
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True) == os.EX_OK, capsys.readouterr().out


@pytest.mark.parametrize("package", PACKAGES)
def test_a_room_is_seen_at_a_glance(package: str) -> None:
    """No folder holds more than twenty modules."""
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    crowded = {str(folder): len(list(folder.glob("[!_]*.py"))) for folder in folders}
    assert {folder: count for folder, count in crowded.items() if count > MOST_MODULES} == {}
