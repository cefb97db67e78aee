"""What a test needs that this machine does not have."""

from __future__ import annotations

import os
from typing import Final, NoReturn

import pytest

IN_CI: Final = os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def missing(what: str, origin: str) -> NoReturn:
    """Skip the test, or in CI fail it: there a missing service must not pass unseen."""
    reason = f"needs {what}; found: {origin}"
    if IN_CI:
        pytest.fail(f"{reason} (CI=true makes this a failure)", pytrace=False)
    pytest.skip(reason)
