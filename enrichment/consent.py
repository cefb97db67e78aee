"""Consent per purpose: what is allowed on a day, and from when on engagement may be kept.

Per purpose the latest record by (`occurred_at`, denial before grant, `event_id`) wins. A grant with an end
returns to the default at the midnight after it. Channels need an explicit grant; `profiling` has the
model's default.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from enrichment.days import FOREVER_DAY, day_of, midnight_us
from enrichment.model import Model
from schemas.events import Consent

PROFILING = "profiling"
BEFORE_ALL_US = -(2**62)
NEVER_US = 2**62


class ConsentRecord(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """One consent given or withdrawn."""

    occurred_at_us: int
    granted: bool
    event_id: str
    expires_at_us: int | None

    @property
    def key(self) -> tuple[int, bool, str]:
        """The order in which records of one purpose override each other; at the same time denial wins."""
        return self.occurred_at_us, not self.granted, self.event_id

    @property
    def last_day(self) -> int:
        """The last day on which a grant holds."""
        return FOREVER_DAY if self.expires_at_us is None else day_of(self.expires_at_us)


class ConsentState(msgspec.Struct, array_like=True, gc=False):
    """One customer's consents. `profiling` keeps the latest denial and all grants after it, in order.

    `enforced_from_us` is the time before which engagement has been deleted so far.
    """

    latest: dict[str, ConsentRecord] = {}
    profiling: list[ConsentRecord] = []
    enforced_from_us: int = BEFORE_ALL_US


class Permissions(NamedTuple):
    """What is allowed at one moment, by the last day on which it holds. Immutable."""

    channels: tuple[tuple[str, int], ...]
    others: tuple[tuple[str, int], ...]
    profiling_until_day: int

    def granted_channels(self, day: int) -> list[str]:
        """Channels that may be used on a day, sorted."""
        return [channel for channel, last_day in self.channels if last_day >= day]

    def allows_profiling(self, day: int) -> bool:
        """Whether scores, traits and standings may be made on a day."""
        return day <= self.profiling_until_day

    def on_day(self, day: int) -> dict[str, bool]:
        """Every purpose ever asked about, and profiling, as it stands on a day; sorted by purpose."""
        granted = {purpose: last_day >= day for purpose, last_day in self.channels + self.others}
        return dict(sorted({**granted, PROFILING: self.allows_profiling(day)}.items()))


def apply_consent(state: ConsentState, consent: Consent) -> None:
    """Enter one accepted consent; it counts only as far as no later one of its purpose is known."""
    assert consent.purpose is not None
    assert consent.granted is not None
    record = ConsentRecord(consent.occurred_at_us, consent.granted, consent.event_id, consent.expires_at_us)
    if consent.purpose == PROFILING and record not in state.profiling:
        records = sorted([*state.profiling, record], key=lambda known: known.key)
        last_denial = max((at for at, known in enumerate(records) if not known.granted), default=0)
        state.profiling = records[last_denial:]
    latest = state.latest.get(consent.purpose)
    if latest is None or record.key > latest.key:
        state.latest[consent.purpose] = record


def permissions_of(state: ConsentState, model: Model) -> Permissions:
    """What the consents allow, by purpose and day."""
    granted = [
        (purpose, record.last_day if record.granted else -1)
        for purpose, record in sorted(state.latest.items())
        if purpose != PROFILING
    ]
    latest = state.latest.get(PROFILING)
    if model.profiling == "opt_out":
        until_day = FOREVER_DAY if latest is None or latest.granted else -1
    else:
        until_day = latest.last_day if latest is not None and latest.granted else -1
    return Permissions(
        tuple(pair for pair in granted if model.is_channel(pair[0])),
        tuple(pair for pair in granted if not model.is_channel(pair[0])),
        until_day,
    )


def denied_until_us(state: ConsentState, model: Model, day: int) -> int:
    """The end of the latest period in which profiling was not allowed, as seen on `day`.

    `NEVER_US` if it still is not. Engagement dated before this end is not kept.
    """
    end_us = BEFORE_ALL_US if model.profiling == "opt_out" else NEVER_US
    allowed_until_day = FOREVER_DAY if model.profiling == "opt_out" else -1
    for record in state.profiling:
        if not record.granted:
            end_us, allowed_until_day = NEVER_US, -1
        elif record.occurred_at_us >= midnight_us(allowed_until_day + 1) or end_us == NEVER_US:
            end_us = record.occurred_at_us
            allowed_until_day = FOREVER_DAY if model.profiling == "opt_out" else record.last_day
        elif model.profiling == "opt_in":
            allowed_until_day = record.last_day
    return NEVER_US if day > allowed_until_day else end_us
