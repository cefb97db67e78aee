"""Which module may import which: the layers of `.importlinter`, and the size of a room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "enrichment", "streams", "ebbtide")
MOST_MODULES = 20


def test_imports_go_one_way() -> None:
    """Each layer imports only those below it, imports for types alone included, and no room has a circle."""
    # In a process of its own: it silences the loggers that there are.
    call = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_a_room_is_seen_at_a_glance(package: str) -> None:
    """No folder holds more than twenty modules."""
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    crowded = {str(folder): len(list(folder.glob("[!_]*.py"))) for folder in folders}
    assert {folder: count for folder, count in crowded.items() if count > MOST_MODULES} == {}
