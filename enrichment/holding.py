"""How much text one customer may hold: profiles and changes must stay well below what a Kafka record can carry."""

from __future__ import annotations

from collections.abc import Mapping

from enrichment.acceptance import Topic
from enrichment.engagement import COUNT_WINDOW_DAYS, EngagementState, Latest, count_key
from schemas.dead_letters import OUT_OF_RANGE, Rejection, rejection
from schemas.events import MAX_NAME_CHARACTERS, Engagement, Event

MAX_HELD_CHARACTERS = 65_536
"""For all attributes, for all declared answers, and for all names under which interactions are counted."""


def check_held(
    event: Event, attributes: Mapping[Topic, Mapping[str, Latest]], engagement: EngagementState
) -> Rejection | None:
    """A record that would make its customer hold too much text; `attributes` are by topic."""
    if event.attributes:
        held = sum(_characters(latest) for latest in attributes.values())
        if held + sum(len(key) + len(value) for key, value in event.attributes.items()) > MAX_HELD_CHARACTERS:
            return _too_much("attributes")
    if not isinstance(event, Engagement):
        return None
    if event.declared:
        added = sum(len(key) + len(str(value)) for key, value in event.declared.items())
        if _characters(engagement.declared) + added > MAX_HELD_CHARACTERS:
            return _too_much("declared")
    return _check_names(event, engagement)


def _check_names(event: Engagement, engagement: EngagementState) -> Rejection | None:
    """Distinct `channel.kind` names; counted out only where there are many."""
    recent = engagement.days[-COUNT_WINDOW_DAYS:]
    if sum(len(bucket.counts) for bucket in recent) * 2 * MAX_NAME_CHARACTERS < MAX_HELD_CHARACTERS:
        return None
    names = {count_key(event)}.union(*(bucket.counts for bucket in recent))
    return _too_much("channel") if sum(map(len, names)) > MAX_HELD_CHARACTERS else None


def _characters(held: Mapping[str, Latest]) -> int:
    return sum(len(key) + len(str(latest.value)) for key, latest in held.items())


def _too_much(field: str) -> Rejection:
    return rejection(
        OUT_OF_RANGE, (field,), f"the customer would hold more than {MAX_HELD_CHARACTERS} characters"
    )
