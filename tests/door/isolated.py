"""Python in which some packages cannot be imported, as where an extra is not installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from streams.extras import EXTRA_OF

ROOT = Path(__file__).parents[2]


def run_without(
    packages: Sequence[str], program: str, *arguments: str, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run a program in a new process where importing these packages fails."""
    blocked = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules.update(dict.fromkeys({list(packages)!r}))"
    command = [sys.executable, "-c", f"{blocked}\n{program}", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=cwd, check=False, stdin=subprocess.DEVNULL
    )


def run_core(program: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The same without any package of any extra."""
    return run_without(tuple(EXTRA_OF), program, *arguments, cwd=cwd)
