"""The values of the outputs as the live path builds them: plain dicts, with the keys of the models in their order.

`schemas.profiles`, `schemas.changes` and `schemas.triggers` say what each key means, and check such a dict.
"""

from __future__ import annotations

from typing import Any, TypedDict

Document = dict[str, Any]
"""A JSON object whose keys no type describes, such as a report."""

ScoresDocument = dict[str, float | None]
"""By `schemas.profiles.SCORE_NAMES`."""
StandingDocument = dict[str, str | None]
"""By `schemas.profiles.DIMENSIONS`."""


class ModelDocument(TypedDict):
    """`schemas.profiles.ModelReference`."""

    name: str
    version: str


class TraitsDocument(TypedDict):
    """`schemas.profiles.Traits`."""

    recency_days: int | None
    tenure_days: int | None
    rfm: str | None
    probability_active: float | None
    expected_orders_365d: float | None
    customer_lifetime_value_365d: str | None
    churn_risk: float | None
    silence_risk: float | None
    value_at_stake: str | None
    preferred_categories: list[str] | None
    preferred_channels: list[str] | None
    attributes: dict[str, str] | None
    declared: dict[str, str | bool | int | float] | None


class AggregatesDocument(TypedDict):
    """`schemas.profiles.Aggregates`."""

    first_order_on: str | None
    last_order_on: str | None
    last_engaged_on: str | None
    order_count: int
    purchase_days: int
    revenue: str
    refunded: str
    margin: str
    order_count_30d: int
    order_count_90d: int
    order_count_365d: int
    revenue_30d: str
    revenue_90d: str
    revenue_365d: str
    margin_365d: str
    average_order_value_365d: str | None
    engagements_90d: dict[str, int]
    cost_to_serve_365d: str
    cost_to_acquire: str


class ProfileDocument(TypedDict):
    """`schemas.profiles.CustomerProfile`."""

    customer_id: str
    as_of: str
    sequence: int
    aggregates: AggregatesDocument
    scores: ScoresDocument
    traits: TraitsDocument
    standing: StandingDocument
    consents: dict[str, bool]
    model: ModelDocument


class DriverDocument(TypedDict):
    """`schemas.changes.Driver`."""

    metric: str
    before: float | int | str | None
    after: float | int | str | None
    effect_on_value: float


class ReasonDocument(TypedDict):
    """`schemas.changes.ChangeReason`."""

    trigger: str
    event_id: str | None
    drivers: list[DriverDocument]


class ChangeDocument(TypedDict):
    """`schemas.changes.SegmentChange`."""

    change_id: str
    customer_id: str
    life: int
    sequence: int
    dimension: str
    previous: str | None
    current: str | None
    direction: str
    as_of: str
    reason: ReasonDocument
    scores: ScoresDocument
    previous_scores: ScoresDocument
    traits: TraitsDocument
    permissions: list[str]
    model: ModelDocument


class TriggerDocument(TypedDict):
    """`schemas.triggers.ReactivationTrigger`."""

    trigger_id: str
    customer_id: str
    change_id: str
    as_of: str
    due_at: str
    segment: str
    tier: str
    lifecycle: str
    channels: list[str]
    preferred_categories: list[str]
    value_at_stake: str | None
    group: str
    model: ModelDocument


PublishedDocument = ChangeDocument | ProfileDocument | TriggerDocument
