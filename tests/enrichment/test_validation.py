"""What a customer's own history and the model say about a well-formed record."""

from __future__ import annotations

import pytest

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import consent, engagement, erasure, model, order
from enrichment.customer.validation import Horizons, check_against_model, check_time, digest_of
from enrichment.days import DAY_US, HOUR_US
from tests.enrichment.driver import WorkerLikeStream

EUROS = model(rates={"EUR": "1.10"})


def test_a_purchase_exactly_400_days_before_the_newest_is_taken_and_one_microsecond_more_is_too_late() -> (
    None
):
    """Counted from the customer's newest purchase, to the microsecond."""
    partition = LocalStream(model())
    partition.take(order("2025-03-01T00:00:00.000001Z"))
    partition.take(order("2024-01-26T00:00:00.000001Z"), order("2024-01-26T00:00:00Z", event_id="late"))
    assert partition.dead_letters == [("purchases", "late", "TooLate")]
    assert partition.outcomes["purchases", "dead_letter"] == 1
    assert partition.profile()["aggregates"]["order_count"] == 2


def test_an_engagement_exactly_30_days_before_the_newest_is_taken_and_one_microsecond_more_is_too_late() -> (
    None
):
    """By the engagement's own topic: newer purchases do not make it late."""
    partition = LocalStream(model())
    partition.take(engagement("opened", "2025-03-31T00:00:00.000001Z"), order("2025-06-01"))
    partition.take(
        engagement("opened", "2025-03-01T00:00:00.000001Z"),
        engagement("opened", "2025-03-01T00:00:00Z", event_id="late"),
    )
    assert partition.dead_letters == [("engagements", "late", "TooLate")]


def test_horizons_are_settings_and_consents_are_never_too_late() -> None:
    """One day for purchases, none for engagement."""
    partition = LocalStream(model(), horizons=Horizons(purchases_days=1, engagements_days=0))
    partition.take(
        order("2025-01-10"), engagement("opened", "2025-01-10"), consent("2025-01-10", "sms", True)
    )
    partition.take(
        order("2025-01-09"),
        order("2025-01-09T11:59:59Z"),
        engagement("opened", "2025-01-10T11:59:59Z"),
        consent("1999-01-01", "email", True),
    )
    assert [(topic, reason) for topic, _, reason in partition.dead_letters] == [
        ("purchases", "TooLate"),
        ("engagements", "TooLate"),
    ]


def test_an_event_id_is_known_per_customer_and_topic() -> None:
    """The same id of another customer, or in another topic, is another record."""
    partition = WorkerLikeStream(model(), stored=True)
    partition.take(order("2025-01-01", event_id="e"), order("2025-01-02", event_id="e"))
    partition.take(order("2025-01-03", event_id="e", customer_id="d"))
    partition.take(
        engagement("opened", "2025-01-03", event_id="e"), consent("2025-01-03", "sms", True, event_id="e")
    )
    assert partition.outcomes["purchases", "duplicate"] == 1
    assert partition.profile("c")["aggregates"]["order_count"] == 1
    assert partition.outcomes["engagements", "accepted"] == partition.outcomes["consents", "accepted"] == 1


def test_an_event_id_is_remembered_as_long_as_its_record_is_not_too_late() -> None:
    """30 days after an engagement its id is still known, a microsecond later no more; consents' ids for ever."""
    partition = WorkerLikeStream(model(), stored=True)
    partition.take(engagement("opened", "2025-01-01T00:00:00Z", event_id="e"))
    partition.take(engagement("opened", "2025-01-31T00:00:00Z", event_id="e"))
    assert partition.outcomes["engagements", "duplicate"] == 1
    partition.take(engagement("opened", "2025-01-31T00:00:00.000001Z", event_id="e"))
    assert partition.outcomes["engagements", "accepted"] == 2
    partition.take(consent("2000-01-01", "sms", True, event_id="e"))
    partition.take(consent("2025-01-01", "sms", True, event_id="e"))
    assert partition.outcomes["consents", "duplicate"] == 1


def test_a_consent_is_known_by_its_event_id_with_purpose_and_granted() -> None:
    """No denial is dropped because a grant came under its event id, whether of its own or of another purpose."""
    partition = WorkerLikeStream(model(), stored=True)
    partition.take(
        consent("2025-01-01", "sms", True, event_id="e"),
        consent("2025-01-02", "email", True, event_id="e"),
        consent("2025-01-03", "sms", False, event_id="e"),
        consent("2025-01-04", "sms", False, event_id="e"),
        consent("2025-01-05", "sms", True, event_id="e"),
    )
    assert partition.outcomes == {("consents", "accepted"): 3, ("consents", "duplicate"): 2}
    assert partition.profile()["consents"] == {"email": True, "profiling": True, "sms": False}


def test_purposes_and_event_ids_cannot_be_taken_for_each_other() -> None:
    """However they are put together: what one begins with the other may end with."""
    names = [("ab", "c"), ("a", "bc"), ("a/1", "b"), ("1/a", "/b"), ("a", "1/a/b")]
    partition = LocalStream(model())
    partition.take(*(consent("2025-01-01", purpose, True, event_id=event) for purpose, event in names))
    assert partition.outcomes["consents", "accepted"] == len(names)


def test_an_erasure_is_not_dropped_because_of_its_event_id() -> None:
    """A consent may have had it, or an earlier erasure."""
    partition = WorkerLikeStream(model(), stored=True)
    partition.take(consent("2025-01-01", "sms", True, event_id="e"), order("2025-01-01"))
    partition.take(erasure("2025-01-02", event_id="e"))
    assert not partition.customers["c"].is_known
    partition.take(order("2025-01-03"), erasure("2025-01-04", event_id="e"))
    assert not partition.customers["c"].is_known
    assert partition.customers["c"].decision.life == 2


def test_a_consent_that_was_remembered_by_its_event_id_alone_does_no_harm_when_it_comes_again() -> None:
    """States from before purpose and `granted` counted hold such digests; the repeat changes nothing."""
    partition = WorkerLikeStream(model(), stored=True)
    known = [
        consent("2025-01-01", "profiling", False, event_id="a"),
        consent("2025-01-02", "profiling", True, event_id="b"),
        consent("2025-01-03", "email", True, event_id="c"),
    ]
    partition.take(*known)
    state = partition.customers["c"].state
    state.consents_seen.time_us_by_digest = {
        digest_of(event.event_id): event.occurred_at_us for event in known
    }
    before = partition.profile(), list(state.consent.profiling), len(partition.changes)
    partition.take(*known)
    after = partition.customers["c"].state
    assert (partition.profile(), after.consent.profiling, len(partition.changes)) == before
    partition.take(consent("2025-01-04", "email", False, event_id="c"))
    assert partition.profile()["consents"]["email"] is False


def test_a_dead_letter_changes_nothing_and_the_next_record_goes_on() -> None:
    """Neither `as_of` nor what is remembered."""
    partition = LocalStream(model())
    partition.take(order("2025-03-01"))
    before = partition.profile()
    partition.take(order("2020-01-01", event_id="e"))
    assert partition.profile() == before
    partition.take(order("2025-03-02", event_id="e"))
    assert partition.profile()["aggregates"]["order_count"] == 2


def test_amounts_that_add_up_beyond_64_bits_are_refused() -> None:
    """10^9 a record; the 2,306th order of one customer is out of range, and money stays exact."""
    partition = LocalStream(model())
    events = [
        order("2025-01-01", "1000000000", f"order-{number}", event_id=f"{number}") for number in range(2_306)
    ]
    partition.take(*events)
    assert partition.dead_letters == [("purchases", "2305", "OutOfRange")]
    assert partition.profile()["aggregates"]["revenue"] == "2305000000000.00"


@pytest.mark.parametrize(
    ("event", "reason", "path"),
    [
        (order("2025-01-01", currency="GBP"), "UnknownCurrency", "currency"),
        (order("2025-01-01", "1000000000.000001"), "OutOfRange", "total"),
        (order("2025-01-01", "909090909.10", currency="EUR"), "OutOfRange", "total"),
        (order("2025-01-01", "1", cost_of_goods="1000000001"), "OutOfRange", "cost_of_goods"),
        (
            order("2025-01-01", "1", items=[{"unit_price": "1"}, {"unit_price": "1000000001"}]),
            "OutOfRange",
            "items[1].unit_price",
        ),
        (engagement("danced", "2025-01-01"), "UnknownKind", "kind"),
        (engagement("opened", "2025-01-01", cost="1", currency="GBP"), "UnknownCurrency", "currency"),
        (engagement("opened", "2025-01-01", currency="GBP"), "UnknownCurrency", "currency"),
        (engagement("opened", "2025-01-01", cost="1000000001", currency="USD"), "OutOfRange", "cost"),
    ],
)
def test_what_the_model_does_not_know_or_take_is_refused_with_the_path(event, reason, path) -> None:  # type: ignore[no-untyped-def]
    """Kinds, currencies, and amounts above 10^9 base units at the model's rates."""
    refused = check_against_model(event, EUROS)
    assert refused is not None
    assert refused.reason == reason
    assert refused.message.startswith(f"{path}: ")


def test_what_the_model_knows_passes() -> None:
    """Up to 10^9 base units, in any currency with a rate; consents have nothing to check."""
    for event in (
        order("2025-01-01", "1000000000"),
        order("2025-01-01", "909090909.09", currency="EUR"),
        engagement("opened", "2025-01-01"),
        engagement("opened", "2025-01-01", currency="EUR"),
        consent("2025-01-01", "email", True),
    ):
        assert check_against_model(event, EUROS) is None


def test_a_record_more_than_a_day_after_its_broker_timestamp_is_from_the_future() -> None:
    """24 hours exactly are taken."""
    event = order("2025-01-02T12:00:00Z")
    assert check_time(event, event.occurred_at_us - DAY_US) is None
    assert check_time(event, event.occurred_at_us + HOUR_US) is None
    refused = check_time(event, event.occurred_at_us - DAY_US - 1)
    assert refused is not None
    assert refused.reason == "FromTheFuture"
    assert refused.message.startswith("occurred_at: ")
