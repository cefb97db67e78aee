"""The value of `reactivation-triggers`: a re-activation action that is due."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from pydantic import Field

from schemas.profiles import Lifecycle, ModelReference, Money, Output, Segment, Tier, Time

Group = Literal["treatment", "control"]
GROUPS: Final[tuple[Group, ...]] = get_args(Group)


class ReactivationTrigger(Output):
    """A customer slipped, did nothing since, and may be addressed now."""

    trigger_id: Annotated[
        str,
        Field(
            min_length=1,
            description="The same however often this record is made, and never that of another trigger.",
        ),
    ]
    customer_id: Annotated[str, Field(min_length=1, max_length=128, description="Equal to the record key.")]
    change_id: Annotated[str, Field(min_length=1, description="The change that started it.")]
    as_of: Annotated[Time, Field(description="The midnight (UTC) at which it fell due and was decided.")]
    due_at: Annotated[Time, Field(description="When it was due: the change's time and the model's delay.")]
    segment: Annotated[Segment, Field(description="At `as_of`.")]
    tier: Annotated[Tier, Field(description="At `as_of`.")]
    lifecycle: Annotated[Lifecycle, Field(description="At `as_of`.")]
    channels: Annotated[
        list[str], Field(min_length=1, description="Channels that the customer permits, best first.")
    ]
    preferred_categories: Annotated[
        list[str], Field(description="Item categories, best first; may be empty.")
    ]
    value_at_stake: Annotated[
        Money | None, Field(description="The trait of that name, at `as_of`; null without a counted order.")
    ]
    group: Annotated[
        Group,
        Field(description="Assigned by hash; leave `control` alone, so that the effect can be measured."),
    ]
    model: ModelReference


TRIGGER_NAMES: Final = tuple(ReactivationTrigger.model_fields)
