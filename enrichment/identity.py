"""Ids that are functions of what they identify: the same however often a record is made, never another's."""

from __future__ import annotations

import hashlib
import hmac
import json


def identifier(*parts: str | int) -> str:
    """32 hexadecimal digits; parts are encoded so that no two lists of parts run together."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def change_id(namespace: str, customer_id: str, life: int, dimension: str, sequence: int) -> str:
    """The id of one segment change."""
    return identifier(namespace, customer_id, life, dimension, sequence)


def erased_key(customer_id: str, erasure_key: bytes) -> str:
    """What is remembered of an erased customer: an HMAC-SHA256 of the id, in hexadecimal digits."""
    return hmac.new(erasure_key, customer_id.encode(), hashlib.sha256).hexdigest()
