"""What tests of code around Ebbtide need: a stream in memory, records in one line each, and stand-ins for servers.

    from ebbtide.testing import LocalStream, engagement, order

    def test_who_stops_buying_lapses():
        stream = LocalStream()
        stream.take(order("2025-01-09", "120.00", customer_id="anna"))
        stream.pass_midnight("2026-01-09")
        assert stream.profile("anna")["standing"]["lifecycle"] == "lapsed"

`ebbtide.testing.simulation` has Kafka, Redis, the network and time in memory, for a whole worker; it needs the extras
`worker` and `testing`. `ebbtide.testing.services` starts real servers.
"""

from ebbtide.testing.local_stream import Item, LocalStream, with_midnights
from ebbtide.testing.records import (
    at,
    cancellation,
    consent,
    day,
    engagement,
    erasure,
    event_of,
    model,
    order,
    purchase,
    refund,
)

__all__ = [
    "Item",
    "LocalStream",
    "at",
    "cancellation",
    "consent",
    "day",
    "engagement",
    "erasure",
    "event_of",
    "model",
    "order",
    "purchase",
    "refund",
    "with_midnights",
]
