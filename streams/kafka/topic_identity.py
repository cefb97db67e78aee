"""Whether the topics are still those whose offsets and decisions are kept.

A topic that was deleted and created anew has the same name, and its offsets begin at 0 again. Once it holds more
records than were taken before, nothing but its id tells: records up to there would be passed over without a word.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas.topics import CHANGELOG
from streams.kafka.size_limits import StoppedError
from streams.kafka.topics import INPUTS
from streams.settings import Settings


def check_inputs(
    settings: Settings, partition: int, known: Mapping[str, str], present: Mapping[str, str]
) -> None:
    """Raise `StoppedError` where an input is not the topic whose offsets are kept; ids are by name without prefix."""
    if anew := [settings.topic(name) for name in INPUTS if _differs(name, known, present)]:
        raise StoppedError(
            f"partition {partition}: stopped: {', '.join(anew)} was deleted and created anew: "
            "the offsets that are kept are those of the records that are gone"
        )


def lost_changelog(settings: Settings, known: Mapping[str, str], present: Mapping[str, str]) -> str | None:
    """What is wrong where the topic of decisions is another than before; None where it is not."""
    if not _differs(CHANGELOG, known, present):
        return None
    name = settings.topic(CHANGELOG)
    return (
        f"{name} was deleted and created anew: what was decided before is gone, and a restore would miss it"
    )


def _differs(name: str, known: Mapping[str, str], present: Mapping[str, str]) -> bool:
    """Whether both ids are known, and not the same."""
    return bool(known.get(name)) and bool(present.get(name)) and known[name] != present[name]
