"""Ids that are functions of what they identify: the same however often a record is made, never another's."""

from __future__ import annotations

import hashlib
import hmac
from json.encoder import encode_basestring_ascii as quoted


def identifier(*parts: str | int) -> str:
    """32 hexadecimal digits; parts are encoded as a JSON array, so that no two lists of them run together.

    Python's default separators are part of the id: `["a", 1]`, with a space.
    """
    encoded = ", ".join([quoted(part) if isinstance(part, str) else str(part) for part in parts])
    return hashlib.blake2b(f"[{encoded}]".encode(), digest_size=16).hexdigest()


def change_id(namespace: str, customer_id: str, life: int, dimension: str, sequence: int) -> str:
    """The id of one segment change."""
    return identifier(namespace, customer_id, life, dimension, sequence)


def erased_key(customer_id: str, erasure_key: bytes) -> str:
    """What is remembered of an erased customer: an HMAC-SHA256 of the id, in hexadecimal digits."""
    return hmac.new(erasure_key, customer_id.encode(), hashlib.sha256).hexdigest()


def key_fingerprint(erasure_key: bytes) -> str:
    """16 hexadecimal digits that tell an erasure key from others; a message of its own, which is nobody's id."""
    return hmac.new(erasure_key, b"\xff the fingerprint of this key", hashlib.sha256).hexdigest()[:16]
