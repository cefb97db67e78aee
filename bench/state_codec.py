"""How the other contenders store a customer: in the bytes that Ebbtide stores too, so nobody has a better format."""

from __future__ import annotations

from enrichment.customer.customer import Customer, empty_state
from enrichment.model import Model
from streams.state import codec as state_codec
from streams.state.store import stored_state

STATE_KEY = b"state"
"""What it is called where a store wants a name besides the customer's."""


def redis_key(topic_prefix: str, customer_id: str) -> str:
    """Where a contender that has Redis for a store keeps a customer."""
    return f"{topic_prefix}customer:{customer_id}"


def encode(customer: Customer) -> bytes:
    """A customer's state as bytes."""
    return stored_state(customer).state


def decode(customer_id: str, state: bytes | None, model: Model) -> Customer:
    """The customer of these bytes; without any, one who is new."""
    held = empty_state() if state is None else state_codec.decode(state)
    return Customer(customer_id, held, model)
