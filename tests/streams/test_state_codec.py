"""A customer's state as it is stored: read back whole, in whatever format it was written."""

from __future__ import annotations

import msgspec
import pytest

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import order
from enrichment.customer.customer import CustomerState
from enrichment.model import Model
from streams.state import codec as state_codec
from tests.enrichment.driver import SEEDED_MODEL, WorkerLikeStream, in_replay_order
from tests.oracles.seeded_log import make_log


@pytest.fixture(scope="module")
def states() -> list[CustomerState]:
    """Of customers with everything that can be held about them."""
    partition = LocalStream(Model.model_validate(SEEDED_MODEL))
    partition.take(*in_replay_order(make_log(3, customers=20, events=1_500)))
    return [customer.state for customer in partition.customers.values()]


def test_a_state_is_read_back_as_it_was_written(states: list[CustomerState]) -> None:
    """Also the records seen, which are told by the orders where they can be."""
    for state in states:
        read = state_codec.decode(state_codec.encode(state))
        assert read.purchases_seen.time_us_by_digest.items() >= state.purchases_seen.time_us_by_digest.items()
        read.purchases_seen = state.purchases_seen
        assert read == state


def test_states_from_before_there_were_formats_are_read(states: list[CustomerState]) -> None:
    """They are plain MessagePack, with all records seen."""
    for state in states:
        assert state_codec.decode(msgspec.msgpack.encode(state)) == state


def test_a_state_of_a_later_format_is_refused_by_its_number() -> None:
    """What wrote it knows more than this version does."""
    with pytest.raises(ValueError, match="format 9"):
        state_codec.decode(b"\x09anything")


def test_a_state_takes_two_thirds_of_what_it_would_take_in_plain(states: list[CustomerState]) -> None:
    """The dictionary that came with the package is the one that states are made with."""
    plain = sum(len(msgspec.msgpack.encode(state)) for state in states)
    assert sum(len(state_codec.encode(state)) for state in states) < plain * 2 / 3


def test_a_purchase_is_known_again_after_its_customer_was_stored() -> None:
    """Under another order id too, and also when its order has another version by now."""
    partition = WorkerLikeStream(Model.model_validate(SEEDED_MODEL), stored=True)
    partition.take(order("2025-01-09", order_id="o1", event_id="first"))
    partition.take(order("2025-01-10", order_id="o1", event_id="second"))
    partition.take(order("2025-01-11", order_id="o2", event_id="first"))
    partition.take(order("2025-01-11", order_id="o3", event_id="second"))
    assert partition.outcomes["purchases", "duplicate"] == 3  # one order sent again, two records sent again
    (customer,) = partition.customers.values()
    assert list(customer.state.orders.entries) == ["o1"]
