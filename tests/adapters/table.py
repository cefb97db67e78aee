"""What each payload in tests/data/payloads converts to, as it is and wrapped with what it lacks, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a topic, with at least these fields."""

    topic: str
    fields: Json


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter whose message has this after the mapping's name: the path, and what is wrong."""

    message: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """No record; counted by this name."""

    name: str


Expected = tuple[Record | Letter | Ignored, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A payload. `wrap` is merged into each event, where the bare example lacks it; `wrapped` is what comes of that."""

    file: str
    as_it_is: Expected
    why: str
    wrap: Json | None = None
    wrapped: Expected = ()


def purchase(**fields: Any) -> Expected:
    return (Record("purchases", fields),)


def engagement(kind: str, **fields: Any) -> Expected:
    return (Record("engagements", {"kind": kind, **fields}),)


def consent(purpose: str, granted: bool, **fields: Any) -> Expected:
    return (Record("consents", {"kind": "consent", "purpose": purpose, "granted": granted, **fields}),)


def letter(message: str) -> Expected:
    return (Letter(message),)


def ignored(name: str) -> Expected:
    return (Ignored(name),)


RECIPIENT: Final = {"customer_id": "recipient@example.com", "channel": "email"}
UNSUBSCRIBER: Final = {"customer_id": "recipient@example.com"}
SEGMENT: Final = {"messageId": "m-1", "userId": "u-1", "timestamp": "2025-01-09T12:00:00+01:00"}
OF_SEGMENT: Final = {"event_id": "m-1", "customer_id": "u-1", "occurred_at": "2025-01-09T11:00:00Z"}
EMAIL: Final = {"messageId": "m-1", "timestamp": "2025-01-09T12:00:00+01:00"}
OF_EMAIL: Final = {"event_id": "m-1", "customer_id": "019mr8mf4r", "channel": "email", "campaign_id": "123"}
OF_READER: Final = {"event_id": "m-1", "customer_id": "019mr8mf4r"}
NO_USER: Final = letter("userId, user_id, anonymousId, anonymous_id: missing")
NO_TIME: Final = letter("timestamp, originalTimestamp")
NO_PROFILE: Final = letter("profileId, profile.itemId, /profileId: missing")
ORDER: Final = {**OF_SEGMENT, "order_id": "50314b8e9bcf000000000000", "currency": "USD"}
ITEMS: Final = [
    {"sku": "45790-32", "category": "Games", "quantity": 1, "unit_price": "19"},
    {"sku": "46493-32", "category": "Games", "quantity": 2, "unit_price": "3"},
]
CATEGORIES: Final = {"advertising": True, "analytics": False, "functional": True, "datasharing": False}
PROFILE: Final = {"profileId": "p-1", "timeStamp": "2025-01-09T12:00:00Z", "itemId": "i-1"}
OF_PROFILE: Final = {"customer_id": "p-1", "event_id": "i-1"}
CALCULATION: Final = letter("transactions[].kind: a suggested_refund is a calculation")
SPAM, UNSUBSCRIBE, BOUNCE, NO_ID = (
    "a spam report withdraws consent",
    "an unsubscribe withdraws consent",
    "a bounce says nothing of what the customer wants",
    "whole, but for an id of the event: one is made",
)


def categories(**fields: Any) -> Expected:
    return tuple(one for name, granted in CATEGORIES.items() for one in consent(name, granted, **fields))


TABLE: Final = (
    Row(
        "segment_order_completed.json",
        NO_USER,
        "`revenue` (22.5) is the total, not `total` (27.5), which holds shipping and tax",
        SEGMENT,
        purchase(**ORDER, kind="order", total="22.5", items=ITEMS),
    ),
    Row(
        "segment_order_updated.json",
        NO_USER,
        "the order's new total, again by `revenue`",
        SEGMENT,
        purchase(**ORDER, kind="order_updated", total="25.0", items=ITEMS),
    ),
    Row(
        "segment_order_refunded.json",
        NO_USER,
        "no `revenue`: `total` is all that is known of what was paid back, without tax or shipping to take off",
        SEGMENT,
        purchase(**ORDER, kind="refund", total="30"),
    ),
    Row(
        "segment_order_cancelled.json",
        NO_USER,
        "a cancellation of the whole order",
        SEGMENT,
        purchase(**ORDER, kind="cancellation", total="25.0"),
    ),
    Row(
        "segment_product_viewed.json",
        NO_USER,
        "a product was looked at",
        SEGMENT,
        engagement("viewed", **OF_SEGMENT),
    ),
    Row(
        "segment_product_added.json",
        NO_USER,
        "the cart changed",
        SEGMENT,
        engagement("cart_updated", **OF_SEGMENT),
    ),
    Row(
        "segment_checkout_started.json",
        NO_USER,
        "a checkout is a cart with intent; its amounts are no order yet",
        SEGMENT,
        engagement("cart_updated", **OF_SEGMENT),
    ),
    Row(
        "segment_coupon_applied.json",
        NO_USER,
        "the coupon is the campaign that was redeemed",
        SEGMENT,
        engagement("redeemed", **OF_SEGMENT, campaign_id="may_deals_2016"),
    ),
    Row(
        "segment_email_delivered.json",
        NO_TIME,
        "snake case; no time",
        EMAIL,
        engagement("delivered", **OF_EMAIL),
    ),
    Row(
        "segment_email_opened.json",
        NO_TIME,
        "snake case; no time; the agent is a browser",
        EMAIL,
        engagement("opened", **OF_EMAIL, automated=False),
    ),
    Row(
        "segment_email_link_clicked.json",
        NO_TIME,
        "snake case; no time",
        EMAIL,
        engagement("clicked", **OF_EMAIL),
    ),
    Row("segment_email_bounced.json", ignored("Email Bounced"), BOUNCE, EMAIL, ignored("Email Bounced")),
    Row("segment_email_marked_as_spam.json", NO_TIME, SPAM, EMAIL, consent("email", False, **OF_READER)),
    Row("segment_unsubscribed.json", NO_TIME, UNSUBSCRIBE, EMAIL, consent("email", False, **OF_READER)),
    Row(
        "segment_consent_unify_1.json",
        NO_USER,
        "a consent per category, with whatever event it comes; one dead letter for all four",
        SEGMENT,
        categories(**OF_SEGMENT),
    ),
    Row(
        "segment_consent_segme_1.json",
        NO_USER,
        "the same object on another page",
        SEGMENT,
        categories(**OF_SEGMENT),
    ),
    Row(
        "segment_consent_unify_2.json",
        categories(customer_id="u123", occurred_at="2023-01-01T00:00:00Z"),
        "whole, but for an id: one is made of its bytes. `userId` comes before `anonymousId`",
    ),
    Row("sendgrid_processed_event.json", ignored("processed"), "SendGrid took it; nobody saw it"),
    Row(
        "sendgrid_delivered_event.json",
        engagement(
            "delivered", **RECIPIENT, event_id="nOSv8m0eTQ-vxvwNwt3fZQ", occurred_at="2016-04-19T19:47:30Z"
        ),
        "whole",
    ),
    Row("sendgrid_dropped_invalid_event.json", ignored("dropped"), "not sent"),
    Row(
        "sendgrid_dropped_unsubscribed_event.json",
        ignored("dropped"),
        "not sent: the withdrawal was an event of its own, and a grant that came later must stand",
    ),
    Row("sendgrid_bounce_event.json", ignored("bounce"), BOUNCE),
    Row(
        "sendgrid_open_event.json",
        engagement("opened", **RECIPIENT, automated=False),
        "nothing says that it was a machine",
    ),
    Row("sendgrid_click_event.json", engagement("clicked", **RECIPIENT), "whole"),
    Row("postmark_bounce_event.json", ignored("Bounce"), BOUNCE),
    Row(
        "postmark_delivered_event.json",
        engagement(
            "delivered", **RECIPIENT, occurred_at="2014-08-01T17:28:10.273539Z", campaign_id="welcome-email"
        ),
        "an offset, and seven digits of a second, of which six are kept",
    ),
    Row(
        "postmark_open_event.json",
        engagement("opened", **RECIPIENT, automated=False),
        "the agent names no proxy",
    ),
    Row("postmark_click_event.json", engagement("clicked", **RECIPIENT), NO_ID),
    Row("postmark_spam_event.json", consent("email", False, customer_id="spam@example.com"), SPAM),
    Row(
        "postmark_unsubscribe.json",
        consent("email", False, customer_id="john@example.com", occurred_at="2022-06-05T17:17:32Z"),
        "`SuppressSending`, by the recipient",
    ),
    Row(
        "postmark_resubscribe.json",
        consent("email", True, customer_id="john@example.com"),
        "no longer suppressed, by the recipient",
    ),
    Row(
        "postmark_subscription_change_bounce.json",
        ignored("SubscriptionChange (HardBounce)"),
        "suppressed since the address bounced: nobody withdrew anything",
    ),
    Row(
        "mailgun_delivered_event.json",
        engagement(
            "delivered", **RECIPIENT, event_id="hTWCTD81RtiDN-...", occurred_at="2018-08-12T21:17:17.153125Z"
        ),
        "seconds with a fraction, exact to the microsecond",
    ),
    Row("mailgun_complained_event.json", consent("email", False, **UNSUBSCRIBER), SPAM),
    Row("mailgun_unsubscribed_event.json", consent("email", False, **UNSUBSCRIBER), UNSUBSCRIBE),
    Row(
        "mailgun_opened_event.json",
        engagement("opened", **RECIPIENT, automated=False, campaign_id="welcome"),
        "no id: one is made. The address is the customer in every event; `user-variables` are the sender's own",
    ),
    Row("mailgun_clicked_event.json", engagement("clicked", **RECIPIENT), NO_ID),
    Row(
        "mandrill_click_event.json",
        engagement("clicked", **RECIPIENT, occurred_at="2016-04-19T19:47:26Z"),
        "`_id` is the message's: the event's is made of it, its time and its link",
    ),
    Row(
        "mandrill_sync_event.json",
        letter("ts, reject.last_event_at, reject.created_at"),
        "put on the list of addresses not to write to, by hand",
        {"ts": 1461095246},
        consent("email", False, **UNSUBSCRIBER, occurred_at="2016-04-19T19:47:26Z"),
    ),
    Row(
        "brevo_opened_event.json",
        engagement("opened", **RECIPIENT, automated=False, occurred_at="2018-03-06T19:10:23Z"),
        "milliseconds; no id: one is made",
    ),
    Row(
        "brevo_proxy_open_event.json",
        engagement("opened", automated=True, customer_id="example@domain.com"),
        "opened by a mail reader's proxy",
    ),
    Row("brevo_clicked_event.json", engagement("clicked", **RECIPIENT), NO_ID),
    Row("brevo_unsubscribe.json", consent("email", False, **UNSUBSCRIBER), UNSUBSCRIBE),
    Row(
        "mailjet_open_event.json",
        engagement("opened", **RECIPIENT, automated=True, campaign_id="1234567890"),
        "the agent is Google's image proxy",
    ),
    Row(
        "mailjet_click_event.json",
        engagement("opened", **RECIPIENT, automated=False),
        "named a click, but its `event` is `open`: what it says counts",
    ),
    Row("mailjet_unsub_event.json", consent("email", False, **UNSUBSCRIBER), UNSUBSCRIBE),
    Row("unomi_eventcollector_valid.json", ignored("dummy"), "a kind that nobody knows"),
    Row("unomi_eventcollector_emptyEvents.json", letter("events: an empty list"), "no event"),
    Row(
        "unomi_eventcollector_invalidSessionId.json",
        letter("/sessionId: not an id"),
        "markup for an id of a session",
    ),
    Row(
        "unomi_viewEvent.json",
        NO_PROFILE,
        "a page was visited; a session is no customer",
        PROFILE,
        engagement("visited", **OF_PROFILE, channel="web"),
    ),
    Row(
        "unomi_event-dummy-invalid-1.json",
        ignored("dummy"),
        "a kind that nobody knows; what is in it is not looked at",
    ),
    Row("unomi_event-flattened-invalid-1.json", ignored("flattened"), "the same"),
    Row("unomi_event-view.json", letter("$: not JSON"), "a placeholder where a value should be"),
    Row(
        "unomi_contextRequest_invalidProfileId.json",
        letter("/profileId: not an id"),
        "markup for an id of a profile",
    ),
    Row("unomi_testLogin.json", letter("eventType: missing"), "a rule of Unomi's, and no event"),
    Row(
        "unomi_mvel-payload-1.json",
        letter("eventType: missing"),
        "an attack on Unomi; to us text that is no event",
    ),
    Row(
        "unomi_ognl-payload-1.json",
        letter("eventType: missing"),
        "an attack on Unomi; to us text that is no event",
    ),
    Row("unomi_score1.json", letter("eventType: missing"), "a scoring plan, and no event"),
    Row(
        "unomi_modify_consent.json",
        NO_PROFILE,
        "its purpose is what the site calls it; `revokeDate` is its end",
        PROFILE,
        consent(
            "newsletter",
            True,
            **OF_PROFILE,
            occurred_at="2018-05-22T09:27:09.473Z",
            expires_at="2020-05-21T09:27:09.473Z",
        ),
    ),
    Row(
        "shopify_order.json",
        purchase(
            kind="order",
            customer_id="207119551",
            order_id="450789469",
            currency="USD",
            total="398.00",
            channel="web",
            occurred_at="2008-01-10T16:00:00Z",
        ),
        "`subtotal_price`: without the tax (11.94). No consent: the box at the checkout was left alone",
    ),
    Row(
        "shopify_refund.json",
        letter("customer.id, customer_id"),
        "a refund alone names no customer. Wrapped: what was paid back, since its lines have no subtotals",
        {"customer": {"id": 207119551}},
        purchase(
            kind="refund", customer_id="207119551", order_id="450789469", currency="USD", total="209.00"
        ),
    ),
    Row(
        "shopify_refund_calculate.json",
        CALCULATION,
        "what a refund would be; wrapping makes it no refund",
        {"id": 1, "created_at": "2025-01-09T12:00:00Z", "customer": {"id": 207119551}},
        CALCULATION,
    ),
    Row(
        "shopify_customer.json",
        consent("email", False, customer_id="207119551", occurred_at="2015-05-27T22:11:24Z"),
        "`accepts_marketing` is all that a customer says to us; orders come as orders",
    ),
)
