"""Profiles for tests of what reads files of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import model, order

Document = dict[str, Any]


@cache
def _of_one_order() -> Document:
    partition = LocalStream(model())
    partition.take(order("2024-12-30"))
    partition.pass_midnight("2024-12-31")
    return partition.profile()


def profile(customer_id: str, tier: str | None, segment: str | None, **attributes: str) -> Document:
    """The profile of a customer of one order with another standing; without one, no scores and no traits either."""
    found = copy.deepcopy(_of_one_order())
    found["customer_id"] = customer_id
    if tier is None:
        for part in ("scores", "traits", "standing"):
            found[part] = dict.fromkeys(found[part])
        return found
    found["standing"] = {"segment": segment, "tier": tier, "lifecycle": "active"}
    found["traits"]["attributes"] = attributes
    return found


def write_profiles(path: Path, profiles: Iterable[Document]) -> Path:
    """A file of these profiles, one a line."""
    path.write_text("".join(f"{json.dumps(one)}\n" for one in profiles), encoding="utf-8")
    return path
