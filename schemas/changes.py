"""The value of `segment-changes`: one record per customer, dimension and change, and why it came about."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import ConfigDict, Field, model_validator

from schemas.profiles import (
    DIMENSIONS,
    LIFECYCLES,
    SEGMENTS,
    TIERS,
    Count,
    Dimension,
    Lifecycle,
    ModelReference,
    Output,
    Scores,
    Segment,
    Tier,
    Time,
    Traits,
)

Direction = Literal["entered", "left", "upgrade", "downgrade"]
DIRECTIONS: Final[tuple[Direction, ...]] = get_args(Direction)
Trigger = Literal["erasure", "consent", "correction", "event", "model", "time", "load"]
TRIGGERS: Final[tuple[Trigger, ...]] = get_args(Trigger)
"""In order of precedence: the first that applies is reported; `load` never meets another."""

LEVELS: Final[dict[Dimension, tuple[str, ...]]] = {
    "segment": SEGMENTS,
    "tier": TIERS,
    "lifecycle": LIFECYCLES,
}
"""The levels of each dimension, from the top."""
MIN_LISTED_EFFECT: Final = 0.05
"""Drivers with a smaller effect on value, in points either way, are not listed."""


class Driver(Output):
    """One metric's part in the change of the value score since the baseline."""

    metric: Annotated[
        str, Field(min_length=1, description="A metric of the model, or `model` for a new model.")
    ]
    before: Annotated[
        float | int | str | None,
        Field(description="The metric at the baseline, in its own unit; null where it was not defined."),
    ]
    after: Annotated[
        float | int | str | None,
        Field(description="The metric at `as_of`, in its own unit; null where it is not defined."),
    ]
    effect_on_value: Annotated[
        float, Field(description="Points of the value score; at least 0.05 either way.")
    ]


class ChangeReason(Output):
    """What set the evaluation off, and what moved the value score."""

    trigger: Annotated[
        Trigger,
        Field(
            description="The first that applies: `erasure`, `consent`, `correction` (a record dated before "
            "the UTC day of `as_of`), `event`, `model`, `time`; `load` at the end of a first load."
        ),
    ]
    event_id: Annotated[str | None, Field(description="The record that set it off; null where it was none.")]
    drivers: Annotated[
        list[Driver], Field(description="Largest effect first; empty at `entered` and `left`.")
    ]


_STANDING_BY_DIMENSION: Final[list[Any]] = [
    {
        "if": {"properties": {"dimension": {"const": dimension}}},
        "then": {
            "properties": {name: {"enum": [*LEVELS[dimension], None]} for name in ("previous", "current")}
        },
    }
    for dimension in DIMENSIONS
]


class SegmentChange(Output):
    """A customer's standing changed in one dimension."""

    model_config = ConfigDict(json_schema_extra={"allOf": _STANDING_BY_DIMENSION})

    change_id: Annotated[
        str,
        Field(
            min_length=1,
            description="The same however often this record is made, and never that of another change.",
        ),
    ]
    customer_id: Annotated[str, Field(min_length=1, max_length=128, description="Equal to the record key.")]
    life: Annotated[Count, Field(description="How many erasures came before.")]
    sequence: Annotated[
        int, Field(ge=1, description="Counts the changes of this customer's life from 1, without a gap.")
    ]
    dimension: Annotated[Dimension, Field(description="Which part of the standing changed.")]
    previous: Annotated[
        Segment | Tier | Lifecycle | None,
        Field(description="The `current` of the change before in this dimension; null at `entered`."),
    ]
    current: Annotated[Segment | Tier | Lifecycle | None, Field(description="Null at `left`.")]
    direction: Annotated[
        Direction, Field(description="`entered` from null, `left` to null, else up or down the dimension.")
    ]
    as_of: Annotated[
        Time,
        Field(description="The moment of the evaluation, by the records' own time; never the wall clock."),
    ]
    reason: ChangeReason
    scores: Annotated[Scores, Field(description="At `as_of`; all null where profiling is not allowed.")]
    previous_scores: Annotated[
        Scores,
        Field(
            description="At the last earlier evaluation that brought a change in any dimension; "
            "all null at the first."
        ),
    ]
    traits: Annotated[Traits, Field(description="At `as_of`, as in the profile.")]
    permissions: Annotated[list[str], Field(description="Channels granted at `as_of`, sorted.")]
    model: ModelReference

    @model_validator(mode="after")
    def _levels_and_direction_fit(self) -> Self:
        levels = LEVELS[self.dimension]
        if any(level not in (*levels, None) for level in (self.previous, self.current)):
            raise ValueError(f"the levels of {self.dimension} are {', '.join(levels)}")
        if self.direction != direction_of(self.dimension, self.previous, self.current):
            raise ValueError("direction does not follow from previous and current")
        return self


def direction_of(dimension: Dimension, previous: str | None, current: str | None) -> Direction:
    """The direction of a change between two different levels of a dimension (`None`: no standing).

    Raises:
        ValueError: the two are equal, or one is no level of the dimension.
    """
    if previous == current:
        raise ValueError("nothing changed")
    if previous is None:
        return "entered"
    if current is None:
        return "left"
    levels = LEVELS[dimension]
    return "upgrade" if levels.index(current) < levels.index(previous) else "downgrade"


CHANGE_NAMES: Final = tuple(SegmentChange.model_fields)
