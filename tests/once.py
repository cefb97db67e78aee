"""Results that take long to compute: computed once in a test run, whichever of its processes needs them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

T = TypeVar("T")


class Once:
    """Keeps results in `folder`, which all processes of a test run share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, object] = {}

    def __call__(self, name: str, compute: Callable[[], T]) -> T:
        """What `compute` gives: computed by the process that asks first, and unpickled by the others.

        A result is given again and again, so nobody may change it. `name` is its own in the whole test run.
        """
        if name not in self._held:
            self._held[name] = self._computed(name, compute)
        found: T = self._held[name]  # type: ignore[assignment]  # of this name
        return found

    def _computed(self, name: str, compute: Callable[[], T]) -> T:
        path = self._folder / f"{name}.pickle"
        with FileLock(path.with_suffix(".lock")):
            if path.exists():
                found: T = pickle.loads(path.read_bytes())
                return found
            made = compute()
            path.write_bytes(pickle.dumps(made))
            return made
