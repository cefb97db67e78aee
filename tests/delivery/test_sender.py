"""Requests of an output: tried again, split, given up; on a real endpoint of this machine."""

from __future__ import annotations

import base64
import datetime as dt
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from streams.delivery import sender as sender_module
from streams.delivery.braze import BrazeFormat
from streams.delivery.customerio import CustomerIOFormat
from streams.delivery.messages import Message
from streams.delivery.outputs_file import Output
from streams.delivery.segment import MOST_MESSAGE_BYTES, MOST_REQUEST_BYTES, SegmentFormat
from streams.delivery.sender import Sender, Undelivered, retry_after_s
from streams.delivery.steps import Step
from streams.delivery.webhook import WebhookFormat
from tests.delivery.endpoint import Answer, Endpoint, endpoint, in_turn, late, well

FORMATS: dict[str, Any] = {
    "segment": SegmentFormat,
    "webhook": WebhookFormat,
    "customerio": CustomerIOFormat,
    "braze": BrazeFormat,
}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds."""
    monkeypatch.setattr(sender_module, "FIRST_PAUSE_S", 0.005)
    monkeypatch.setattr(sender_module, "MISCONFIGURED_PAUSE_S", 0.005)


@pytest.fixture
def output(tmp_path: Path) -> Output:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    return Output(
        name="cdp",
        kind="segment",
        url="http://127.0.0.1:9/v1/batch",
        secret_file=str(tmp_path / "secret"),
        attempts=4,
        timeout_s=0.3,
        fields=["traits.recency_days", "scores"],
    )


def step(number: int, **more: Any) -> Step:
    details = {"traits": {"recency_days": number}, "scores": {"value": 1.5}}
    at = "2025-01-02T03:04:05Z"
    made = Step(f"step{number}", f"c{number}", at, "segment", None, "high", "event", False, details)
    return made._replace(**more)


async def sent(
    output: Output, answer: Answer, steps: list[Step], kind: str = "segment"
) -> tuple[Endpoint, list[Undelivered], Sender]:
    """What an endpoint that answers so has taken of the steps, and what was given up."""
    async with endpoint(answer) as there, aiohttp.ClientSession() as session:
        own = output.model_copy(update={"url": there.url, "kind": kind})
        format_ = FORMATS[kind](own)
        sender = Sender(own, format_, session)
        given_up = await sender.send([message for one in steps for message in format_.messages(one)])
        return there, given_up, sender


async def test_a_segment_batch_says_who_enters_and_leaves_which_audience(output: Output) -> None:
    """As destinations read it: the boolean under the name of the audience, out of the old one first."""
    moved = step(7, previous="medium", current="high")
    there, given_up, _ = await sent(output, well, [moved, step(8, is_silent=True)])
    assert given_up == []
    ((headers, _),) = there.taken
    assert headers["authorization"] == "Basic " + "d2hzZWNfTWZLUTlyOEdLWXFyVHdqVVBEOElMUFpJbzJMYUxhU3c6"
    told = there.messages
    assert [(one["type"], one["messageId"], one["userId"]) for one in told] == [
        ("identify", "step7-exit", "c7"),
        ("track", "step7-exit-event", "c7"),
        ("identify", "step7", "c7"),
        ("track", "step7-event", "c7"),
        ("identify", "step8", "c8"),
    ]
    assert told[2]["traits"] == {
        "ebbtide_segment_high": True,
        "ebbtide_traits_recency_days": 7,
        "ebbtide_scores_value": 1.5,
    }
    assert told[0]["traits"] == {"ebbtide_segment_medium": False}
    assert [one.get("event") for one in told if one["type"] == "track"] == [
        "Audience Exited",
        "Audience Entered",
    ]
    assert told[3]["properties"]["audience_key"] == "ebbtide_segment_high"
    for one in told:
        personas = one["context"]["personas"]
        key = personas["computation_key"]
        assert personas["computation_class"] == "audience"
        assert isinstance((one.get("traits") or one["properties"])[key], bool)
        assert one["timestamp"] == "2025-01-02T03:04:05Z"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_what_may_pass_is_tried_again(output: Output, status: int) -> None:
    there, given_up, sender = await sent(output, in_turn(status, status), [step(1)])
    assert (given_up, there.statuses, sender.retries) == ([], [status, status, 200], 2)


async def test_an_answer_that_comes_too_late_is_asked_for_again_under_the_same_ids(output: Output) -> None:
    """The endpoint has taken it, and drops the repeat by its id."""
    there, given_up, _ = await sent(output, late(1.0), [step(1)])
    assert given_up == []
    assert there.requests == 2
    assert len({message["messageId"] for message in there.messages}) == 2


async def test_retry_after_is_obeyed(output: Output) -> None:
    """Instead of our own pause."""
    began = dt.datetime.now()
    there, given_up, _ = await sent(output, in_turn(429, **{"Retry-After": "1"}), [step(1)])
    assert (given_up, there.statuses) == ([], [429, 200])
    assert (dt.datetime.now() - began).total_seconds() >= 1.0


def test_retry_after_is_read_in_both_forms() -> None:
    in_a_minute = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=60)
    found = retry_after_s(in_a_minute.strftime("%a, %d %b %Y %H:%M:%S GMT"))
    assert found is not None
    assert 55 < found <= 60
    assert [retry_after_s(value) for value in (None, "soon", "nan", "-3", "7", "1e9")] == [
        *(None, None, None, 0.0, 7.0, 3600.0)
    ]


async def test_who_never_answers_well_makes_dead_letters_of_what_was_sent(output: Output) -> None:
    """After the last try, with why."""
    there, given_up, _ = await sent(output, in_turn(*[500] * 50), [step(1, is_silent=True)])
    assert there.requests == output.attempts
    assert [(lost.message.message_id, lost.why) for lost in given_up] == [
        ("step1", "after 4 tries: answered 500: so it is")
    ]


async def test_nobody_there_is_tried_again_too(output: Output) -> None:
    async with aiohttp.ClientSession() as session:
        sender = Sender(output, SegmentFormat(output), session)
        (lost, *_) = await sender.send(SegmentFormat(output).messages(step(1)))
    assert lost.why.startswith("after 4 tries: ClientConnectorError")


def too_large(most: int) -> Answer:
    def answer(number: int, body: bytes) -> web.Response:
        return web.Response(status=413 if len(json.loads(body)["batch"]) > most else 200)

    return answer


async def test_a_batch_that_is_too_large_goes_in_halves_and_in_order(output: Output) -> None:
    steps = [step(number, is_silent=True) for number in range(11)]
    there, given_up, _ = await sent(output, too_large(2), steps)
    assert given_up == []
    assert [message["messageId"] for message in there.messages] == [one.step_id for one in steps]


async def test_the_one_message_that_is_refused_is_found_and_the_others_arrive(output: Output) -> None:
    """A 400 says nothing of which of a batch it is about."""

    def answer(number: int, body: bytes) -> web.Response:
        return web.Response(status=400 if b'"step5"' in body else 200, text="no such user")

    steps = [step(number, is_silent=True) for number in range(9)]
    there, given_up, _ = await sent(output, answer, steps)
    assert [(lost.message.message_id, lost.why) for lost in given_up] == [
        ("step5", "answered 400: no such user")
    ]
    assert [message["messageId"] for message in there.messages] == [
        one.step_id for one in steps if one.step_id != "step5"
    ]


async def test_a_wrong_secret_loses_nothing(output: Output, caplog: pytest.LogCaptureFixture) -> None:
    """It is not the messages' fault: they wait until the endpoint lets us in."""
    there, given_up, _ = await sent(output, in_turn(401, 403, 404, 401, 401, 401), [step(1)])
    assert given_up == []
    assert len(there.messages) == 2
    assert "answers 401 (so it is): is the address right, and the secret?" in caplog.text


async def test_limits_of_segment_hold(output: Output) -> None:
    """500 KB a request, 32 KB a message; a larger message is given up and not sent."""
    details = {"scores": {"text": "x" * 30_000}}
    steps = [step(number, is_silent=True, details=details) for number in range(40)]
    large = step(99, is_silent=True, details={"scores": {"text": "x" * MOST_MESSAGE_BYTES}})
    there, given_up, _ = await sent(output, well, [*steps, large])
    assert max(len(body) for _, body in there.taken) <= MOST_REQUEST_BYTES
    assert [message["messageId"] for message in there.messages] == [one.step_id for one in steps]
    assert [lost.message.message_id for lost in given_up] == ["step99"]


async def test_a_webhook_is_signed_as_its_receiver_checks_it(output: Output) -> None:
    """Oracle: the library's own verification."""
    there, given_up, _ = await sent(
        output, in_turn(500), [step(1), step(2, current=None, previous="high")], "webhook"
    )
    assert given_up == []
    assert [headers["webhook-id"] for headers, _ in there.taken] == ["step1", "step2"]
    for headers, body in there.taken:
        document = Webhook(SECRET).verify(body, headers)
        assert document["type"] == "standing.changed"
    first = json.loads(there.taken[0][1])["data"]
    assert first["customer_id"] == "c1"
    assert (first["previous"], first["current"], first["starts_flows"]) == (None, "high", True)
    assert (first["traits"], first["scores"]) == ({"recency_days": 1}, {"value": 1.5})


def test_a_message_s_bytes_do_not_hang_on_when_it_is_made(output: Output) -> None:
    first, second = (SegmentFormat(output).messages(step(1)) for _ in range(2))
    assert first == second
    assert all(isinstance(message, Message) for message in first)


async def test_customer_io_hears_of_standings_and_says_which_of_them_it_refuses(output: Output) -> None:
    """An answer of 207 names messages by their places; the others count as delivered."""

    def answer(number: int, body: bytes) -> web.Response:
        errors = [
            {"batch_index": 2, "reason": "invalid", "field": "identifiers", "message": "no such person"}
        ]
        return web.json_response({"errors": errors}, status=207)

    left = step(2, previous="high", current=None, details={}, is_silent=True)
    there, given_up, sender = await sent(output, answer, [step(1), left], "customerio")
    ((headers, body),) = there.taken
    assert headers["authorization"] == f"Basic {base64.b64encode(SECRET.encode()).decode()}"
    identify, event, out = json.loads(body)["batch"]
    assert identify == {
        "type": "person",
        "identifiers": {"id": "c1"},
        "action": "identify",
        "attributes": {
            "ebbtide_segment": "high",
            "ebbtide_traits_recency_days": 1,
            "ebbtide_scores_value": 1.5,
        },
    }
    assert (event["action"], event["name"]) == ("event", "ebbtide_segment_changed")
    assert event["timestamp"] == 1735787045
    assert event["attributes"] == {"change_id": "step1", "previous": None, "current": "high"}
    assert out["attributes"] == {"ebbtide_segment": None}
    assert [(lost.message.message_id, lost.why) for lost in given_up] == [
        ("step2", "refused: invalid no such person")
    ]
    assert sender.delivered == 2


async def test_braze_takes_75_at_once_and_says_which_it_refuses(output: Output) -> None:
    """Attributes and events have places of their own."""

    def answer(number: int, body: bytes) -> web.Response:
        errors = [{"type": "'external_id' is unknown", "input_array": "events", "index": 1}, "a word"]
        return web.json_response({"message": "success", "errors": errors if number == 0 else []}, status=201)

    steps = [step(number, is_silent=number % 2 == 1) for number in range(100)]
    there, given_up, _ = await sent(output, answer, steps, "braze")
    bodies = [json.loads(body) for _, body in there.taken]
    assert there.taken[0][0]["authorization"] == f"Bearer {SECRET}"
    assert [len(body["attributes"]) for body in bodies] == [75, 25]
    assert [one["external_id"] for body in bodies for one in body["attributes"]] == [
        f"c{n}" for n in range(100)
    ]
    assert [one["external_id"] for body in bodies for one in body["events"]] == [
        f"c{n}" for n in range(0, 100, 2)
    ]
    assert bodies[0]["attributes"][0]["ebbtide_segment"] == "high"
    assert bodies[0]["events"][0]["properties"] == {"change_id": "step0", "previous": None, "current": "high"}
    assert [(lost.message.message_id, lost.why) for lost in given_up] == [
        ("step2-event", "refused: 'external_id' is unknown")
    ]


@pytest.mark.parametrize(
    "answer", ["", "taken", "[]", '{"errors": 1}', '{"errors": [{"batch_index": 99, "index": 99}]}']
)
@pytest.mark.parametrize("kind", FORMATS)
def test_what_an_answer_says_that_nobody_understands_refuses_nothing(
    output: Output, kind: str, answer: str
) -> None:
    format_ = FORMATS[kind](output)
    assert format_.refused(format_.messages(step(1)), answer) == {}
