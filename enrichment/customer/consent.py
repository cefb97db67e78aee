"""Consent per purpose: what is allowed on a day, and from when on engagement may be kept.

Per purpose the latest record by (`occurred_at`, denial before grant, `event_id`) wins. A grant with an end
returns to the default at the midnight after it. Channels need an explicit grant; `profiling` has the
model's default.
"""

from __future__ import annotations

from bisect import bisect_left
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
    if consent.purpose == PROFILING:
        _enter_profiling(state, record)
    latest = state.latest.get(consent.purpose)
    if latest is None or record.key > latest.key:
        state.latest[consent.purpose] = record


def _enter_profiling(state: ConsentState, record: ConsentRecord) -> None:
    """Put a record in its place; all before the latest denial go. One that has its place already is no other."""
    records = state.profiling
    at = bisect_left(records, record.key, key=lambda known: known.key)
    if at < len(records) and records[at] == record:
        return
    if at == 0 and records and not records[0].granted:
        return  # dated before the latest denial
    records = state.profiling = [*records[:at], record, *records[at:]]
    if not record.granted:
        state.profiling = records[at:]


def consents_after(state: ConsentState, time_us: int) -> ConsentState:
    """What would be held had no record dated up to this time come; of engagement nothing has been deleted yet."""
    latest = {purpose: record for purpose, record in state.latest.items() if record.occurred_at_us > time_us}
    return ConsentState(latest, [record for record in state.profiling if record.occurred_at_us > time_us])


def permissions_of(state: ConsentState, model: Model) -> Permissions:
    """What the consents allow, by purpose and day."""
    granted = [
        (purpose, _granted_until_day(record))
        for purpose, record in sorted(state.latest.items())
        if purpose != PROFILING
    ]
    return Permissions(
        tuple(pair for pair in granted if model.is_channel(pair[0])),
        tuple(pair for pair in granted if not model.is_channel(pair[0])),
        _profiling_until_day(state, model),
    )


def permissions_after(known: Permissions, state: ConsentState, purpose: str, model: Model) -> Permissions:
    """`permissions_of` a state in which, since they were `known`, only consents to one purpose may have changed."""
    if purpose == PROFILING:
        return known._replace(profiling_until_day=_profiling_until_day(state, model))
    pair = purpose, _granted_until_day(state.latest[purpose])
    if model.is_channel(purpose):
        return known._replace(channels=_with_pair(known.channels, pair))
    return known._replace(others=_with_pair(known.others, pair))


def _with_pair(pairs: tuple[tuple[str, int], ...], pair: tuple[str, int]) -> tuple[tuple[str, int], ...]:
    at = bisect_left(pairs, pair[:1])
    known = at < len(pairs) and pairs[at][0] == pair[0]
    return (*pairs[:at], pair, *pairs[at + known :])


def _granted_until_day(record: ConsentRecord) -> int:
    return record.last_day if record.granted else -1


def _profiling_until_day(state: ConsentState, model: Model) -> int:
    latest = state.latest.get(PROFILING)
    if model.profiling == "opt_out":
        return FOREVER_DAY if latest is None or latest.granted else -1
    return -1 if latest is None else _granted_until_day(latest)


def denied_until_us(state: ConsentState, model: Model, day: int) -> int:
    """The end of the latest period in which profiling was not allowed, as seen on `day`.

    `NEVER_US` if it still is not. Engagement dated before this end is not kept.
    """
    if model.profiling == "opt_out":
        return _end_of_denial_us(state.profiling)
    end_us, allowed_until_day = NEVER_US, -1
    for record in state.profiling:
        if not record.granted:
            end_us, allowed_until_day = NEVER_US, -1
            continue
        if record.occurred_at_us >= midnight_us(allowed_until_day + 1) or end_us == NEVER_US:
            end_us = record.occurred_at_us
        allowed_until_day = record.last_day
    return NEVER_US if day > allowed_until_day else end_us


def _end_of_denial_us(records: list[ConsentRecord]) -> int:
    """The first grant after the latest denial, where profiling is allowed unless denied: no grant runs out there."""
    if not records or records[0].granted:
        return BEFORE_ALL_US
    return records[1].occurred_at_us if len(records) > 1 else NEVER_US
