"""What a change or a consent means to an output, and what it may say."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichment.customer.consent import ConsentRecord
from enrichment.customer.customer import Customer, empty_state
from enrichment.days import DAY_US
from enrichment.model import load_model
from schemas.documents import ChangeDocument, TriggerDocument
from schemas.events import Consent
from streams.delivery.braze import BrazeFormat
from streams.delivery.customerio import CustomerIOFormat
from streams.delivery.outputs_file import Output, load_outputs
from streams.delivery.segment import SegmentFormat
from streams.delivery.steps import Step, Told, allows, reactivation_of, step_of_change, steps_of_consent
from streams.delivery.webhook import WebhookFormat
from streams.errors import UsageError

MODEL = load_model()
DAY = 20_000


DENIED = ConsentRecord(200, False, "e200", None)


def output(**more: Any) -> Output:
    values = {
        "name": "cdp",
        "kind": "segment",
        "url": "https://cdp.example/v1/batch",
        "secret_file": "/run/secret",
        "purpose": "marketing",
        **more,
    }
    return Output.model_validate(values)


def customer(granted: bool | None = True, at_us: int = 100, expires_day: int | None = None) -> Customer:
    state = empty_state()
    expires_us = None if expires_day is None else expires_day * DAY_US
    if granted is not None:
        state.consent.latest["marketing"] = ConsentRecord(at_us, granted, "e", expires_us)
    state.latest_us = at_us
    state.decision.standing = (0, 1, 2)
    return Customer("c", state, MODEL)


def change(sequence: int, current: str | None, dimension: str = "segment", **more: Any) -> ChangeDocument:
    document = {
        "change_id": f"change{sequence}",
        "customer_id": "c",
        "life": 0,
        "sequence": sequence,
        "dimension": dimension,
        "previous": None,
        "current": current,
        "as_of": "2025-01-02T00:00:00Z",
        "reason": {"trigger": more.pop("trigger", "event"), "event_id": None, "drivers": []},
        "scores": {"value": 61.5},
        "traits": {"recency_days": 4, "rfm": "555"},
        **more,
    }
    return cast("ChangeDocument", document)


def consent(granted: bool | None, at_us: int, kind: str = "consent", purpose: str = "marketing") -> Consent:
    is_erasure = kind == "erasure"
    return Consent(
        event_id=f"e{at_us}",
        customer_id="c",
        occurred_at_us=at_us,
        kind=cast(Any, kind),
        purpose=None if is_erasure else purpose,
        granted=None if is_erasure else granted,
        expires_at_us=None,
        attributes={},
    )


def test_a_customer_goes_from_one_audience_into_the_next() -> None:
    first, told = step_of_change(output(), change(1, "medium"), customer(), Told(), DAY)
    second, told = step_of_change(output(), change(2, "high"), customer(), told, DAY)
    assert first is not None
    assert second is not None
    assert (first.previous, first.current, first.step_id) == (None, "medium", "change1")
    assert (second.previous, second.current, second.is_silent) == ("medium", "high", False)
    assert told.standing == {"segment": "high"}


def test_nothing_is_told_twice() -> None:
    """After a crash the same changes come again, the newest of which have been told."""
    _, told = step_of_change(output(), change(2, "high"), customer(), Told(), DAY)
    for sequence, standing in ((1, "medium"), (2, "high")):
        again, after = step_of_change(output(), change(sequence, standing), customer(), told, DAY)
        assert (again, after) == (None, told)


@pytest.mark.parametrize("who", [customer(granted=False), customer(granted=None), None])
def test_of_somebody_without_consent_nothing_leaves(who: Customer | None) -> None:
    """Nor of somebody of whom nothing is known any more."""
    step, told = step_of_change(output(), change(1, "high"), who, Told(), DAY)
    assert step is None
    assert told.standing == {}


def test_silence_is_a_yes_only_where_the_purpose_is_opt_out() -> None:
    """As for the sale of data under the CCPA."""
    sale = output(consent="opt_out")
    assert step_of_change(sale, change(1, "high"), customer(granted=None), Told(), DAY)[0] is not None
    assert step_of_change(sale, change(1, "high"), customer(granted=False), Told(), DAY)[0] is None


def test_without_a_purpose_nobody_is_asked() -> None:
    lake = output(purpose=None)
    assert step_of_change(lake, change(1, "high"), customer(granted=False), Told(), DAY)[0] is not None


def test_a_consent_that_has_run_out_leads_out_with_the_next_change() -> None:
    who = customer(expires_day=DAY - 1)
    told = Told({"segment": "medium"}, 0, 1)
    step, told = step_of_change(output(), change(2, "high"), who, told, DAY)
    assert step is not None
    assert (step.previous, step.current, step.details) == ("medium", None, {})
    assert told.standing == {}


def test_only_what_is_allowed_leaves() -> None:
    allowed = output(fields=["traits.recency_days", "scores", "traits.nonsense", "reason.trigger"])
    step, _ = step_of_change(allowed, change(1, "high"), customer(), Told(), DAY)
    assert step is not None
    assert step.details == {
        "traits": {"recency_days": 4},
        "scores": {"value": 61.5},
        "reason": {"trigger": "event"},
    }


def test_dimensions_that_nobody_asked_for_stay() -> None:
    step, told = step_of_change(output(dimensions=["lifecycle"]), change(1, "high"), customer(), Told(), DAY)
    assert (step, told.standing, told.sequence) == (None, {}, 1)


@pytest.mark.parametrize("trigger", ["load", "event"])
def test_a_first_load_and_old_changes_start_no_flow(trigger: str) -> None:
    """They are told silently, or not at all; the next change then leads out of no audience."""
    loaded = change(1, "medium", trigger=trigger)
    step, _ = step_of_change(output(), loaded, customer(), Told(), DAY, is_old=trigger != "load")
    assert step is not None
    assert step.is_silent
    skipping = output(on_load="skip")
    step, told = step_of_change(skipping, loaded, customer(), Told(), DAY, is_old=trigger != "load")
    assert step is None
    step, _ = step_of_change(skipping, change(2, "high"), customer(), told, DAY)
    assert step is not None
    assert (step.previous, step.current, step.is_silent) == (None, "high", False)


def test_a_withdrawal_leads_out_of_everything_before_the_worker_knows_of_it() -> None:
    """And a change that the worker made before it knew tells nothing any more."""
    told = Told({"segment": "high", "tier": "named"}, 0, 4)
    steps, told = steps_of_consent(output(), consent(granted=False, at_us=200), "at", customer(), told, DAY)
    assert [(step.dimension, step.previous, step.current, step.is_silent) for step in steps] == [
        ("segment", "high", None, True),
        ("tier", "named", None, True),
    ]
    assert told.standing == {}
    step, told = step_of_change(output(), change(5, "low"), customer(at_us=100), told, DAY)
    assert step is None
    step, _ = step_of_change(output(), change(6, "low"), customer(at_us=300), told, DAY)
    assert step is not None


def test_a_grant_leads_in_silently() -> None:
    steps, told = steps_of_consent(
        output(), consent(granted=True, at_us=200), "at", customer(granted=False), Told(), DAY
    )
    assert [(step.dimension, step.current, step.is_silent) for step in steps] == [
        ("segment", "high", True),
        ("tier", "named", True),
        ("lifecycle", "at_risk", True),
    ]
    assert told.consent is not None


def test_a_consent_older_than_what_is_known_says_nothing() -> None:
    told = Told({"segment": "high"}, 0, 1)
    old = consent(granted=False, at_us=50)
    assert steps_of_consent(output(), old, "at", customer(at_us=100), told, DAY) == ([], told)


def test_another_purpose_is_another_output_s() -> None:
    told = Told({"segment": "high"}, 0, 1)
    other = consent(granted=False, at_us=500, purpose="email")
    assert steps_of_consent(output(), other, "at", customer(), told, DAY) == ([], told)


def test_an_erasure_leads_out() -> None:
    steps, told = steps_of_consent(
        output(), consent(None, 500, kind="erasure"), "at", None, Told({"segment": "high"}, 0, 1), DAY
    )
    assert [(step.previous, step.current, step.trigger) for step in steps] == [("high", None, "erasure")]
    assert told.standing == {}


standings = st.sampled_from(["high", "medium", "low", None])


@given(st.lists(st.tuples(standings, st.booleans(), st.booleans()), max_size=12))
def test_who_hears_all_steps_knows_where_the_customer_stands(
    moves: list[tuple[str | None, bool, bool]],
) -> None:
    """Whatever comes: exits are of the audience that was entered, and nobody without consent stays in one."""
    told, heard, now_us = Told(), None, 100
    who = customer(granted=None)
    for sequence, (current, is_consent, granted) in zip(itertools.count(1), moves, strict=False):
        now_us += 10
        steps: list[Step]
        if is_consent:
            steps, told = steps_of_consent(output(), consent(granted, now_us), "at", who, told, DAY)
            who.state.consent.latest["marketing"] = ConsentRecord(now_us, granted, "e", None)
            steps = [step for step in steps if step.dimension == "segment"]
        else:
            step, told = step_of_change(output(), change(sequence, current), who, told, DAY)
            steps = [] if step is None else [step]
        for one in steps:
            assert one.previous == heard
            heard = one.current
        assert told.standing.get("segment") == heard
        if not allows(output(), who, told, DAY) and is_consent:
            assert heard is None


def test_the_file_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "outputs.yaml"
    good = "name: a, kind: webhook, url: 'https://a.example', secret_file: s"
    for text, expected in (
        ("outputs: []", "outputs: List should have at least 1 item"),
        ("{", "while parsing"),
        (f"outputs: [{{{good}, colour: red}}]", "outputs.0.colour: Extra inputs are not permitted"),
        (
            f"outputs: [{{{good}, fields: [customer]}}]",
            "outputs.0.fields: Value error, customer: begins with none of",
        ),
        (f"outputs: [{{{good}}}, {{{good}}}]", "outputs: two are named a"),
        ("outputs: [{name: A}]", "outputs.0.name: String should match"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError) as raised:
            load_outputs(path)
        assert str(raised.value).startswith(f"{path}: {expected}")
        assert "\n" not in str(raised.value)
    path.write_text(f"outputs: [{{{good}}}]")
    (one,) = load_outputs(path)
    assert (
        one.text()
        == "a: segment, tier, lifecycle to webhook at https://a.example, without asking for consent"
    )
    with pytest.raises(UsageError, match="output a: secret_file s"):
        one.secret()


def trigger(group: str = "treatment") -> TriggerDocument:
    document = {
        "trigger_id": "t1",
        "customer_id": "c",
        "change_id": "change1",
        "as_of": "2025-01-02T00:00:00Z",
        "due_at": "2025-01-02T00:00:00Z",
        **{"segment": "high", "tier": "named", "lifecycle": "at_risk"},
        "channels": ["email", "sms"],
        "preferred_categories": ["kitchen"],
        "value_at_stake": "12.50",
        "group": group,
        "model": {"name": "m", "version": "1"},
    }
    return cast("TriggerDocument", document)


def test_a_re_activation_is_told_of_those_who_are_treated_and_consent() -> None:
    """The control group must hear nothing, or nothing could be measured."""
    due = reactivation_of(output(), trigger(), customer(), Told(), DAY)
    assert due is not None
    assert (due.trigger_id, due.customer_id, due.at) == ("t1", "c", "2025-01-02T00:00:00Z")
    assert list(due.details) == [
        *("change_id", "due_at", "segment", "tier", "lifecycle", "channels", "preferred_categories"),
        "value_at_stake",
    ]
    for who, group in ((customer(), "control"), (customer(granted=False), "treatment"), (None, "treatment")):
        assert reactivation_of(output(), trigger(group), who, Told(), DAY) is None
    assert reactivation_of(output(), trigger(), customer(at_us=100), Told(consent=DENIED), DAY) is None


@pytest.mark.parametrize(
    ("format_", "expected"),
    [
        (SegmentFormat, {"type": "track", "event": "Reactivation Due", "userId": "c", "messageId": "t1"}),
        (WebhookFormat, {"type": "reactivation.due", "timestamp": "2025-01-02T00:00:00Z"}),
        (CustomerIOFormat, {"action": "event", "name": "ebbtide_reactivation_due"}),
        (BrazeFormat, {"external_id": "c", "name": "ebbtide_reactivation_due"}),
    ],
)
def test_each_tool_hears_of_a_re_activation_in_its_own_words(format_: Any, expected: dict[str, Any]) -> None:
    due = reactivation_of(output(), trigger(), customer(), Told(), DAY)
    assert due is not None
    message = format_(output()).reactivation(due)
    told = json.loads(message.body)
    assert {name: told.get(name) for name in expected} == expected
    assert b'"channels":["email","sms"]' in message.body
    assert b'"value_at_stake":"12.50"' in message.body
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert message.body in format_(output()).request([message], secret).body
    assert [list(portion) for portion in format_(output()).portions([message])] == [[message]]


def grant(at_us: int, expires_at_us: int | None = None) -> Consent:
    return msgspec.structs.replace(consent(granted=True, at_us=at_us), expires_at_us=expires_at_us)


@pytest.mark.parametrize(
    ("what", "who", "told"),
    [
        pytest.param(grant(300, (DAY - 1) * DAY_US), customer(granted=None), Told(), id="has run out"),
        pytest.param(
            grant(150), customer(granted=None), Told(consent=DENIED), id="older than a denial just read"
        ),
        pytest.param(grant(200), customer(granted=False, at_us=200), Told(), id="at the time of a denial"),
        pytest.param(grant(150), customer(granted=None), Told(erased_us=200), id="from before an erasure"),
    ],
)
def test_a_grant_that_does_not_count_leads_nobody_in(what: Consent, who: Customer, told: Told) -> None:
    """By the rules of consent: the newest counts, at the same time denial, and none beyond its end or an erasure."""
    steps, _ = steps_of_consent(output(), what, "at", who, told, DAY)
    assert steps == []


def test_a_grant_from_a_life_that_ended_leads_nobody_in() -> None:
    """The worker has erased the customer, who came back without consent."""
    who = customer(granted=None)
    who.decision.erased_up_to_us, who.decision.life = 500, 1
    assert steps_of_consent(output(), grant(300), "at", who, Told(), DAY) == ([], Told())


@pytest.mark.parametrize("purpose", ["marketing", None])
def test_after_an_erasure_nothing_is_told_before_the_worker_knows_of_it(purpose: str | None) -> None:
    """A change of the life that ends may come later, while Redis still holds the customer."""
    own, who = output(purpose=purpose), customer()
    erasure = consent(None, 500, kind="erasure")
    steps, told = steps_of_consent(own, erasure, "at", who, Told({"segment": "high"}, 0, 3), DAY)
    assert [step.current for step in steps] == [None]
    step, told = step_of_change(own, change(4, "medium"), who, told, DAY)
    assert step is None
    assert reactivation_of(own, trigger(), who, told, DAY) is None
    who.decision.erased_up_to_us, who.decision.life = 500, 1
    who.state.consent.latest["marketing"] = ConsentRecord(600, True, "e", None)
    step, _ = step_of_change(own, change(1, "low", life=1), who, told, DAY)
    assert step is not None
    assert (step.previous, step.current) == (None, "low")


def test_an_old_erasure_leads_nobody_out_of_the_life_after_it() -> None:
    who = customer()
    who.decision.erased_up_to_us, who.decision.life = 500, 1
    told = Told({"segment": "low"}, 1, 1)
    assert steps_of_consent(output(), consent(None, 500, kind="erasure"), "at", who, told, DAY) == ([], told)


def test_a_grant_holds_against_a_change_that_the_worker_made_before_it_read_it() -> None:
    who = customer(granted=False, at_us=100)
    steps, told = steps_of_consent(output(), grant(200), "at", who, Told(), DAY)
    assert len(steps) == 3
    step, told = step_of_change(output(), change(9, "medium"), who, told, DAY)
    assert step is not None
    assert (step.previous, step.current) == ("high", "medium")
