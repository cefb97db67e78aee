"""One customer: everything held about them, and how one accepted record changes it.

`CustomerState` is what is stored. `Customer` wraps it with what is derived from it (day buckets,
permissions), so that a `CustomerSnapshot`, an immutable picture of the customer at one moment, costs nothing to take.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from enrichment.customer.consent import (
    ConsentState,
    Permissions,
    apply_consent,
    consents_after,
    denied_until_us,
    permissions_after,
    permissions_of,
)
from enrichment.customer.decision import Decision
from enrichment.customer.engagement import (
    DayEngagement,
    EngagementState,
    Latest,
    apply_engagement,
    cost_micros,
    last_engaged_day,
    latest_from,
    scored_weight,
    with_latest,
    without_before,
)
from enrichment.customer.orders import MONEY_ONLY_AFTER_DAYS, Ledger, MoneyHistory, apply_purchase, history_of
from enrichment.customer.size_limits import check_held, check_purpose
from enrichment.customer.validation import (
    MAX_GROSS_MICROS,
    Horizons,
    Seen,
    check_lateness,
    digest_of,
    identity_of,
    is_repeat,
    remember,
    topic_of,
)
from enrichment.days import day_of
from enrichment.model import Model
from enrichment.money import convert_micros
from schemas.events import Consent, Engagement, Event, Purchase
from schemas.rejection import OUT_OF_RANGE, Rejection, rejection
from schemas.topics import InputTopic

Outcome = Literal["accepted", "duplicate", "erased"]


class CustomerState(msgspec.Struct, array_like=True, gc=False):
    """What is stored about one customer. Times in microseconds, days since the epoch, money in micros."""

    orders: Ledger
    engagement: EngagementState
    consent: ConsentState
    decision: Decision
    purchases_seen: Seen
    engagements_seen: Seen
    consents_seen: Seen
    attributes: dict[InputTopic, dict[str, Latest]] = {}
    latest_us: int | None = None
    profiled_day: int = -1
    due_day: int | None = None


ENGAGED_DAY = np.dtype([("day", "<i8"), ("cost_micros", "<i8"), ("points", "<f8")])
"""One UTC day of engagement in `CustomerSnapshot.engaged`: cost to serve (base micro-units), points of scored kinds."""
_pack_engaged = struct.Struct("<qqd").pack


class CustomerSnapshot(NamedTuple):
    """One customer at one moment; every part is immutable, so that later events do not show through.

    `engaged` is what `engagement_days` come to by the model, an ENGAGED_DAY each: as bytes, since arrays of many
    customers are made by joining them.
    """

    money: MoneyHistory
    engaged: bytes
    engagement_days: tuple[DayEngagement, ...]
    last_engaged_day: int | None
    cost_to_acquire_micros: int
    permissions: Permissions
    declared: dict[str, Latest]
    attributes: dict[str, str]
    declared_intent: float | None


class Effect(NamedTuple):
    """What one record did to a customer. `wins_back` tells of a new counted order or a scored engagement."""

    outcome: Outcome
    changed: bool = False
    wins_back: bool = False
    is_erasure: bool = False


def empty_state(life: int = 0, erased_up_to_us: int | None = None) -> CustomerState:
    """A customer of whom nothing is known but, perhaps, how often and up to when they were erased."""
    return CustomerState(
        Ledger(),
        EngagementState(),
        ConsentState(),
        Decision(life=life, erased_up_to_us=erased_up_to_us),
        Seen(),
        Seen(),
        Seen(),
    )


class Customer:
    """A customer in memory: the stored state with what is derived from it."""

    __slots__ = ("_snapshot", "id", "model", "state")

    def __init__(self, customer_id: str, state: CustomerState, model: Model) -> None:
        self.id = customer_id
        self.state = state
        self.model = model
        self._snapshot: CustomerSnapshot | None = None

    @classmethod
    def unknown(cls, customer_id: str, model: Model) -> Customer:
        """A customer of whom nothing is known yet."""
        return cls(customer_id, empty_state(), model)

    @property
    def decision(self) -> Decision:
        """What has been decided about this customer."""
        return self.state.decision

    @property
    def is_known(self) -> bool:
        """Whether anything but an erasure is known of this customer."""
        return self.state.latest_us is not None

    def as_of_us(self, midnight_us: int) -> int:
        """The later of the latest accepted `occurred_at` and the last midnight that has passed."""
        latest_us = self.state.latest_us
        return midnight_us if latest_us is None or latest_us < midnight_us else latest_us

    def snapshot(self) -> CustomerSnapshot:
        """The customer as they are now."""
        if self._snapshot is None:
            self._snapshot = self._derived(history_of(self.state.orders))
        return self._snapshot

    def apply(
        self, event: Event, horizons: Horizons, midnight_us: int, *, is_looked_at: bool = True
    ) -> Effect | Rejection:
        """Take one well-formed record, or say why not.

        1. Records dated up to the last erasure are dropped.
        2. Too late is a dead letter; seen before is dropped.
        3. Everything else changes the state.

        With `is_looked_at` false, the snapshot is made again only when it is next asked for.
        """
        state = self.state
        occurred_at_us = event.occurred_at_us
        erased_up_to_us = state.decision.erased_up_to_us
        if erased_up_to_us is not None and occurred_at_us <= erased_up_to_us:
            return Effect("erased")
        seen, horizon_days = self._seen(topic_of(event), horizons)
        refused = check_lateness(seen, occurred_at_us, horizon_days)
        if refused is not None:
            return refused
        digest = digest_of(identity_of(event))
        if is_repeat(seen, digest, occurred_at_us, horizon_days):
            return Effect("duplicate")
        if type(event) is Consent:  # whatever it carries beside its purpose, it is not refused
            if event.kind == "erasure":
                self._erase(occurred_at_us)
                return Effect("accepted", changed=True, is_erasure=True)
            refused = check_purpose(event, state.consent)
            if refused is not None:
                return refused
        else:
            refused = self._check_gross(event) or check_held(event, state.attributes, state.engagement)
            if refused is not None:
                return refused
        remember(seen, digest, occurred_at_us, horizon_days)
        if state.latest_us is None or occurred_at_us > state.latest_us:
            state.latest_us = occurred_at_us
            self.forget_unallowed(day_of(self.as_of_us(midnight_us)))
        if type(event) is Engagement:  # asking for the exact type is many times cheaper than isinstance
            return self._apply_engagement(event, midnight_us, is_looked_at)
        if type(event) is Purchase:
            return self._apply_purchase(event, horizons)
        assert isinstance(event, Consent)
        return self._apply_consent(event, midnight_us)

    def load(self, event: Event, horizons: Horizons, midnight_us: int) -> Effect | Rejection:
        """Take one record of a first load, in which all consents come before anything else.

        As `apply`, but an erasure acts by its date alone: consents dated after it stay, though they came before it.
        """
        state = self.state
        effect = self.apply(event, horizons, midnight_us, is_looked_at=False)
        if isinstance(effect, Effect) and effect.is_erasure:
            self._keep_later(state, event.occurred_at_us, midnight_us)
        return effect

    def forget_unallowed(self, day: int) -> None:
        """Delete engagement dated before the end of the latest period in which profiling was not allowed."""
        state = self.state
        keep_from_us = denied_until_us(state.consent, self.model, day)
        enforced_from_us, state.consent.enforced_from_us = state.consent.enforced_from_us, keep_from_us
        if keep_from_us <= enforced_from_us:
            return
        state.engagement = without_before(state.engagement, keep_from_us)
        told = latest_from(state.attributes.pop("engagements", {}), keep_from_us)
        if told:
            state.attributes["engagements"] = told
        if self._snapshot is not None:
            self._snapshot = self._derived(self._snapshot.money)

    def _apply_purchase(self, purchase: Purchase, horizons: Horizons) -> Effect:
        snapshot = self.snapshot()
        late_after_days = max(MONEY_ONLY_AFTER_DAYS, horizons.purchases_days)
        history, effect = apply_purchase(
            self.state.orders, snapshot.money, purchase, self.model, late_after_days
        )
        self._snapshot = CustomerSnapshot(history, *snapshot[1:])
        self._note_attributes("purchases", purchase)
        outcome: Outcome = "duplicate" if effect.repeated_order else "accepted"
        return Effect(outcome, True, effect.new_counted_order)

    def _apply_engagement(self, engagement: Engagement, midnight_us: int, is_looked_at: bool) -> Effect:
        today = day_of(self.as_of_us(midnight_us))
        if engagement.occurred_at_us < denied_until_us(self.state.consent, self.model, today):
            return Effect("accepted", True)
        if not is_looked_at:
            scored = apply_engagement(self.state.engagement, engagement, self.model)
            self._enter_attributes("engagements", engagement)
            self._snapshot = None
            return Effect("accepted", True, scored)
        snapshot, model = self.snapshot(), self.model
        scored = apply_engagement(self.state.engagement, engagement, model)
        after = self.state.engagement
        declared_intent = snapshot.declared_intent
        if after.declared is not snapshot.declared:
            declared_intent = _declared_intent(after.declared, model)
        day, last_day = day_of(engagement.occurred_at_us), snapshot.last_engaged_day
        if not engagement.automated and engagement.kind in model.scored_kinds:
            last_day = day if last_day is None else max(last_day, day)
        self._snapshot = CustomerSnapshot(
            snapshot.money,
            _engaged_again(snapshot, after.days, day, model),
            after.days,
            last_day,
            after.cost_to_acquire_micros,
            snapshot.permissions,
            after.declared,
            snapshot.attributes,
            declared_intent,
        )
        self._note_attributes("engagements", engagement)
        return Effect("accepted", True, scored)

    def _apply_consent(self, consent: Consent, midnight_us: int) -> Effect:
        apply_consent(self.state.consent, consent)
        assert consent.purpose is not None
        snapshot = self.snapshot()
        permissions = permissions_after(snapshot.permissions, self.state.consent, consent.purpose, self.model)
        self._snapshot = snapshot._replace(permissions=permissions)
        if check_held(consent, self.state.attributes, self.state.engagement) is None:
            self._note_attributes("consents", consent)
        self.forget_unallowed(day_of(self.as_of_us(midnight_us)))
        return Effect("accepted", True)

    def _keep_later(self, before: CustomerState, erased_up_to_us: int, midnight_us: int) -> None:
        """Take over the consents of a state that are dated after an erasure."""
        newest_us, times_us = before.consents_seen.newest_us, before.consents_seen.time_us_by_digest
        if newest_us is None or newest_us <= erased_up_to_us:
            return
        state = self.state
        kept = {digest: at_us for digest, at_us in times_us.items() if at_us > erased_up_to_us}
        state.consents_seen = Seen(newest_us, kept)
        state.consent = consents_after(before.consent, erased_up_to_us)
        told = latest_from(before.attributes.get("consents", {}), erased_up_to_us + 1)
        if told:
            state.attributes["consents"] = told
        state.latest_us = newest_us
        self.forget_unallowed(day_of(self.as_of_us(midnight_us)))

    def reset(self, decision: Decision) -> None:
        """Forget everything, and begin again with this decision."""
        self.state = empty_state()
        self.state.decision = decision
        self._snapshot = None

    def _erase(self, occurred_at_us: int) -> None:
        self.reset(Decision(life=self.decision.life + 1, erased_up_to_us=occurred_at_us))

    def _seen(self, topic: InputTopic, horizons: Horizons) -> tuple[Seen, int | None]:
        if topic == "purchases":
            return self.state.purchases_seen, horizons.purchases_days
        if topic == "engagements":
            return self.state.engagements_seen, horizons.engagements_days
        return self.state.consents_seen, None

    def _check_gross(self, event: Event) -> Rejection | None:
        """Sums of money must stay within 64 bits."""
        if type(event) is Purchase:
            amount = convert_micros(event.total_micros, self.model.rate_by_currency[event.currency])
            if self.state.orders.gross_micros + amount > MAX_GROSS_MICROS:
                return rejection(
                    OUT_OF_RANGE, ("total",), "this customer's amounts add up beyond 2^61 micro-units"
                )
        elif type(event) is Engagement:
            amount = cost_micros(event, self.model)
            if self.state.engagement.gross_cost_micros + amount > MAX_GROSS_MICROS:
                return rejection(
                    OUT_OF_RANGE, ("cost",), "this customer's costs add up beyond 2^61 micro-units"
                )
        return None

    def _note_attributes(self, topic: InputTopic, event: Event) -> None:
        if self._enter_attributes(topic, event):
            self._snapshot = self.snapshot()._replace(attributes=_attributes(self.state.attributes))

    def _enter_attributes(self, topic: InputTopic, event: Event) -> bool:
        """Keep the attributes of a record; tells whether that changed any."""
        if not event.attributes:
            return False
        known = self.state.attributes.get(topic, {})
        latest = with_latest(known, event.attributes, event.occurred_at_us, event.event_id)
        if latest == known:
            return False
        self.state.attributes[topic] = latest
        return True

    def _derived(self, money: MoneyHistory) -> CustomerSnapshot:
        state, model = self.state, self.model
        return CustomerSnapshot(
            money,
            engaged_of(state.engagement.days, model),
            state.engagement.days,
            last_engaged_day(state.engagement, model),
            state.engagement.cost_to_acquire_micros,
            permissions_of(state.consent, model),
            state.engagement.declared,
            _attributes(state.attributes),
            _declared_intent(state.engagement.declared, model),
        )


def engaged_of(days: Iterable[DayEngagement], model: Model) -> bytes:
    """What days come to by this model, an ENGAGED_DAY each."""
    return b"".join([_engaged_day(bucket, model) for bucket in days])


def _engaged_day(bucket: DayEngagement, model: Model) -> bytes:
    points = 0.0
    counts = bucket.counts
    for key, count in counts.items() if len(counts) == 1 else sorted(counts.items()):
        points += scored_weight(key, model) * count
    return _pack_engaged(bucket.day, bucket.cost_micros, points)


def _engaged_again(
    snapshot: CustomerSnapshot, days: tuple[DayEngagement, ...], day: int, model: Model
) -> bytes:
    """`engaged_of(days)` after one record of `day`; where that is the last day, the others are as they were."""
    if len(days) > 1 and days[-1].day == day and days[0] is snapshot.engagement_days[0]:
        return snapshot.engaged[: (len(days) - 1) * ENGAGED_DAY.itemsize] + _engaged_day(days[-1], model)
    return engaged_of(days, model)


def _attributes(by_topic: dict[InputTopic, dict[str, Latest]]) -> dict[str, str]:
    """Per key the latest value of any topic, sorted by key."""
    merged: dict[str, Latest] = {}
    for latest in by_topic.values():
        for key, value in latest.items():
            known = merged.get(key)
            mark = (value.occurred_at_us, value.event_id, str(value.value))
            if known is None or mark > (known.occurred_at_us, known.event_id, str(known.value)):
                merged[key] = value
    return {key: str(latest.value) for key, latest in sorted(merged.items())}


def _declared_intent(declared: dict[str, Latest], model: Model) -> float | None:
    """The weighted mean of the points for every declared answer that the model knows; None without one."""
    total = weights = 0.0
    for key, latest in sorted(declared.items()):
        part = model.declared.get(key)
        if part is not None:
            total += part.weight * part.points(latest.value)
            weights += part.weight
    return total / weights if weights else None
