"""What each metric is called in sentences and tables."""

from __future__ import annotations

from typing import Final

METRIC_WORDS: Final = {
    "recency_days": "days since the last order",
    "order_count_365d": "orders in 365 days",
    "revenue_365d": "revenue in 365 days",
    "margin_365d": "margin in 365 days",
    "average_order_value_365d": "average order value",
    "customer_lifetime_value_365d": "lifetime value expected of the next 365 days",
    "weighted_engagement_90d": "engagement in 90 days",
    "consent_breadth": "channels with consent",
    "cost_to_serve_ratio": "cost to serve by revenue",
    "cost_to_acquire_ratio": "cost to acquire by margin",
    "declared_intent": "declared intent",
    "engagement_ahead_of_spend": "engagement ahead of spend",
    "growth": "growth of revenue",
}
