"""Where the checkout is, in which processes of a benchmark are started."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
