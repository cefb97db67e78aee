"""Who is waited for before they are written to: a customer who will probably come back alone."""

from __future__ import annotations

from typing import Final

from schemas.documents import Document

OWN_RETURN: Final = {"within_days": 14, "above": 0.1}
"""A message to a customer who buys within two weeks anyway changes nothing: whose chance of that is above one in ten is
waited for."""


def with_own_return(document: Document) -> Document:
    """The model document with this rule, unless the model to begin with has one of its own."""
    rules = document["reactivation"]
    if rules.get("own_return") is not None:
        return document
    return {**document, "reactivation": {**rules, "own_return": dict(OWN_RETURN)}}
