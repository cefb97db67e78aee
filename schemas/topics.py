"""The names of the eight topics, without the prefix that a deployment may put before them."""

from __future__ import annotations

from typing import Final, Literal

InputTopic = Literal["purchases", "engagements", "consents"]
EventTopic = Literal["segment-changes", "customer-profiles", "reactivation-triggers"]
"""What other tools subscribe to; its records are CloudEvents."""
OutputTopic = Literal[
    "segment-changes", "customer-profiles", "reactivation-triggers", "dead-letters", "ebbtide-decisions"
]

PURCHASES: Final = "purchases"
ENGAGEMENTS: Final = "engagements"
CONSENTS: Final = "consents"
SEGMENT_CHANGES: Final = "segment-changes"
CUSTOMER_PROFILES: Final = "customer-profiles"
REACTIVATION_TRIGGERS: Final = "reactivation-triggers"
DEAD_LETTERS: Final = "dead-letters"
CHANGELOG: Final = "ebbtide-decisions"
"""Compacted, internal: what was decided about each customer, and what a partition was begun with."""

INPUT_TOPICS: Final[tuple[InputTopic, ...]] = (CONSENTS, PURCHASES, ENGAGEMENTS)
"""In the order in which records of one instant are taken."""
