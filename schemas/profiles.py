"""The value of `customer-profiles`, and the names and levels that the other outputs share with it.

The models describe and check what is published; every key is always there, and null means "not defined".
The live path builds plain dicts in the order of these models.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Dimension = Literal["segment", "tier", "lifecycle"]
DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)
"""In the order in which changes of one evaluation are published."""

Segment = Literal["high", "medium", "emerging", "low", "prospect"]
SEGMENTS: Final[tuple[Segment, ...]] = get_args(Segment)
"""From the top."""
Tier = Literal["strategic", "named", "field", "inside"]
TIERS: Final[tuple[Tier, ...]] = get_args(Tier)
"""From the top."""
Lifecycle = Literal["active", "new", "at_risk", "lapsed", "prospect"]
LIFECYCLES: Final[tuple[Lifecycle, ...]] = get_args(Lifecycle)
"""From the top."""

OUTPUT_TIME_PATTERN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{0,5}[1-9])?Z$"

Money = Annotated[
    str,
    Field(
        pattern=r"^-?[0-9]+(?:\.[0-9]+)?$",
        description="Base currency: a decimal string, rounded half-even to its minor unit.",
    ),
]
Count = Annotated[int, Field(ge=0)]
Day = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", json_schema_extra={"format": "date"})]
"""A UTC day."""
Time = Annotated[str, Field(pattern=OUTPUT_TIME_PATTERN, json_schema_extra={"format": "date-time"})]
"""RFC 3339 with `Z`; a fraction of at most 6 digits where it is not zero."""
Points = Annotated[float, Field(ge=0, le=100)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Output(BaseModel):
    """What the models of outputs have in common: strict types, and no key that is not described."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class ModelReference(Output):
    """The model that decided."""

    name: Annotated[str, Field(min_length=1, description="Name of the model file.")]
    version: Annotated[str, Field(min_length=1, description="Version of the model.")]


class Standing(Output):
    """Where the customer stands; all null while profiling is not allowed."""

    segment: Annotated[Segment | None, Field(description="What the customer is worth.")]
    tier: Annotated[Tier | None, Field(description="How much service the customer gets.")]
    lifecycle: Annotated[Lifecycle | None, Field(description="Where the customer is in their life.")]


class Scores(Output):
    """Points from 0 to 100, rounded half-even to 6 decimals; all null while profiling is not allowed."""

    business: Annotated[Points | None, Field(description="Existing value: what the customer brings.")]
    engagement: Annotated[Points | None, Field(description="Weighted interactions, decaying; not automated.")]
    cost: Annotated[Points | None, Field(description="What the customer costs; 100 is the most costly.")]
    potential: Annotated[Points | None, Field(description="Declared intent, engagement, growth.")]
    value: Annotated[Points | None, Field(description="All four in one, cost inverted.")]


class Traits(Output):
    """What can be told of the customer at `as_of`; all null while profiling is not allowed."""

    recency_days: Annotated[
        Count | None, Field(description="UTC days since the last order day; null without a counted order.")
    ]
    tenure_days: Annotated[
        Count | None, Field(description="UTC days since the first order day; null without a counted order.")
    ]
    rfm: Annotated[
        Annotated[str, Field(pattern="^[1-5]{3}$")] | None,
        Field(
            description="Quintiles of recency, counted orders and revenue of 365 days by the model; "
            "5 is best. Null without a counted order."
        ),
    ]
    probability_active: Annotated[
        Probability | None, Field(description="Probability that the customer still buys, by the model.")
    ]
    expected_orders_365d: Annotated[
        Annotated[float, Field(ge=0)] | None,
        Field(description="Purchase days expected in the next 365 days."),
    ]
    customer_lifetime_value_365d: Annotated[
        Money | None,
        Field(description="Margin expected of the next 365 days, in base currency; a decimal string."),
    ]
    churn_risk: Annotated[
        Probability | None, Field(description="Probability of no purchase in the next 365 days.")
    ]
    silence_risk: Annotated[
        Probability | None,
        Field(
            description="Probability of no purchase in the next `lifecycle.window_days` of the model; null without "
            "them, and without a counted order."
        ),
    ]
    value_at_stake: Annotated[
        Money | None,
        Field(
            description="By how much `customer_lifetime_value_365d` would be higher if the last of the customer's "
            "purchase days were today, in base currency; a decimal string, at least 0. Null without a counted order."
        ),
    ]
    preferred_categories: Annotated[list[str] | None, Field(description="Item categories, best first.")]
    preferred_channels: Annotated[list[str] | None, Field(description="Channels, best first.")]
    attributes: Annotated[
        dict[str, str] | None, Field(description="Latest value of each of the customer's attributes.")
    ]
    declared: Annotated[
        dict[str, str | bool | int | float] | None,
        Field(description="Latest value of each thing the customer declared."),
    ]


class Aggregates(Output):
    """What the accepted records add up to. `_Nd`: the N UTC days that end with the day of `as_of`."""

    first_order_on: Annotated[Day | None, Field(description="UTC day of the first counted order.")]
    last_order_on: Annotated[Day | None, Field(description="UTC day of the last counted order.")]
    last_engaged_on: Annotated[
        Day | None,
        Field(description="UTC day of the last engagement of positive weight that was not automated."),
    ]
    order_count: Annotated[Count, Field(description="Orders neither cancelled nor fully refunded.")]
    purchase_days: Annotated[Count, Field(description="Different UTC days that have counted orders.")]
    revenue: Annotated[
        Money, Field(description="Totals of orders not cancelled, less refunds; may be negative.")
    ]
    refunded: Annotated[Money, Field(description="Refunds.")]
    margin: Annotated[Money, Field(description="Revenue less cost of goods; may be negative.")]
    order_count_30d: Annotated[Count, Field(description="Counted orders of 30 days.")]
    order_count_90d: Annotated[Count, Field(description="Counted orders of 90 days.")]
    order_count_365d: Annotated[Count, Field(description="Counted orders of 365 days.")]
    revenue_30d: Annotated[Money, Field(description="Revenue of 30 days.")]
    revenue_90d: Annotated[Money, Field(description="Revenue of 90 days.")]
    revenue_365d: Annotated[Money, Field(description="Revenue of 365 days.")]
    margin_365d: Annotated[Money, Field(description="Margin of 365 days.")]
    average_order_value_365d: Annotated[
        Money | None,
        Field(
            description="Totals of the counted orders of 365 days before refunds, by their count; "
            "null where there is none."
        ),
    ]
    engagements_90d: Annotated[
        dict[str, Annotated[int, Field(ge=1)]],
        Field(
            description="Engagements of 90 days by `channel.kind`; `none.kind` without a channel, "
            "`automated.kind` for automated ones."
        ),
    ]
    cost_to_serve_365d: Annotated[Money, Field(description="Touches and refunds of 365 days.")]
    cost_to_acquire: Annotated[Money, Field(description="Cost of `acquired`.")]


class CustomerProfile(Output):
    """The latest profile of one customer. A tombstone (null value) follows an erasure."""

    customer_id: Annotated[str, Field(min_length=1, max_length=128, description="Equal to the record key.")]
    as_of: Annotated[Time, Field(description="The moment the profile describes, by the records' own time.")]
    sequence: Annotated[
        Count, Field(description="Changes of this customer in this life so far; 0 before the first.")
    ]
    aggregates: Aggregates
    scores: Scores
    traits: Traits
    standing: Standing
    consents: Annotated[
        dict[str, bool],
        Field(description="Whether each purpose that is known, and `profiling`, is allowed at `as_of`."),
    ]
    model: ModelReference


SCORE_NAMES: Final = tuple(Scores.model_fields)
TRAIT_NAMES: Final = tuple(Traits.model_fields)
ADDED_TRAITS: Final = ("silence_risk", "value_at_stake")
"""Traits that profiles of version 0.1 lack: such a profile is read with them null."""
AGGREGATE_NAMES: Final = tuple(Aggregates.model_fields)
PROFILE_NAMES: Final = tuple(CustomerProfile.model_fields)
