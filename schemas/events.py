"""What input records say: purchases, engagements and consents.

Events are immutable, and names carry units (`occurred_at_us`, `total_micros`). `schemas.decode` makes them from bytes;
`schemas.input_models` says what a record must be like, and what each field means.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

MAX_NAME_CHARACTERS: Final = 128
"""The longest id, kind, channel or purpose, in code points."""
MAX_QUANTITY: Final = 1_000_000_000
"""The only upper bound of a plain number; beyond it a record is `OutOfRange`."""

OF_AN_ERASURE: Final = ("event_id", "customer_id", "occurred_at", "kind")
"""What is read of an erasure: it is never refused for what stands beside that."""
RESERVED_CHANNELS: Final = frozenset({"automated", "none"})
"""What stands in counts where there is no channel: no channel may be named so."""

Scalar = str | bool | int | float
"""A value of `declared`; an integer beyond 64 bits arrives as a float."""
PurchaseKind = Literal["order", "order_updated", "refund", "cancellation"]
ConsentKind = Literal["consent", "erasure"]


# Nothing in an event can refer back to it: the garbage collector need not look.
class _Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    event_id: str
    customer_id: str
    occurred_at_us: int
    attributes: dict[str, str] = {}


class Item(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A line of an order."""

    sku: str | None = None
    category: str | None = None
    quantity: float = 1.0
    unit_price_micros: int | None = None


class Purchase(_Event, frozen=True, kw_only=True, gc=False):
    """An order, its update, a refund or a cancellation. Renewals of a subscription are orders."""

    kind: PurchaseKind
    order_id: str
    currency: str
    total_micros: int
    cost_of_goods_micros: int | None = None
    channel: str | None = None
    items: tuple[Item, ...] = ()


class Engagement(_Event, frozen=True, kw_only=True, gc=False):
    """An open, click, read, visit, declared intent, or a touch that costs money."""

    kind: str
    channel: str | None = None
    campaign_id: str | None = None
    automated: bool = False
    cost_micros: int | None = None
    currency: str | None = None
    score: float | None = None
    declared: dict[str, Scalar] = {}


class Consent(_Event, frozen=True, kw_only=True, gc=False):
    """Consent given or withdrawn for one purpose, or the erasure of everything held."""

    kind: ConsentKind
    purpose: str | None = None
    granted: bool | None = None
    expires_at_us: int | None = None


Event = Purchase | Engagement | Consent
