"""`ebbtide deliver` on real Kafka and Redis, to an endpoint that fails in every way that endpoints do."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from redis import Redis

from ebbtide.testing.services.worker import process_environment
from schemas.dead_letters import EXCEPTION_HEADER, MESSAGE_HEADER, TOPIC_HEADER
from streams.delivery import sender as sender_module
from streams.delivery.delivering import deliver
from streams.delivery.outputs_file import Output
from streams.settings import Settings
from tests.delivery.endpoint import Answer, Endpoint, endpoint, well
from tests.integration.harness import (
    Document,
    make_topics,
    order_of_now,
    produce,
    read_topic,
    record_of,
    running,
    stored_profiles,
    until_idle,
)

pytestmark = pytest.mark.real_kafka
PARTITIONS = 2
IN_TIME_S = 60.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds."""
    monkeypatch.setattr(sender_module, "FIRST_PAUSE_S", 0.005)
    monkeypatch.setattr(sender_module, "LONGEST_PAUSE_S", 0.05)


@pytest.fixture
def output(tmp_path: Path) -> Output:
    """A Segment output that needs consent to marketing."""
    (tmp_path / "secret").write_text("a write key")
    return Output(
        name="cdp",
        kind="segment",
        url="http://127.0.0.1:9/",
        secret_file=str(tmp_path / "secret"),
        purpose="marketing",
        attempts=100,
        timeout_s=0.5,
        fields=["scores.value"],
    )


def consent_of(customer: str, *, granted: bool | None, purpose: str = "marketing") -> Document:
    """A consent of now, or, without a word on it, an erasure."""
    document: Document = {
        "event_id": secrets.token_hex(8),
        "customer_id": customer,
        "occurred_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kind": "erasure" if granted is None else "consent",
    }
    return document if granted is None else {**document, "purpose": purpose, "granted": granted}


async def send(settings: Settings, topic: Any, *documents: Document) -> None:
    await produce(settings, [record_of(topic, document, PARTITIONS) for document in documents])


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    async with asyncio.timeout(IN_TIME_S):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.05)
    raise AssertionError(what)


class Heard:
    """Who belongs to which audience by all that an endpoint has taken; a repeat under the same id says nothing."""

    def __init__(self, there: Endpoint) -> None:
        self.members: dict[tuple[str, str], str] = {}
        self.bodies: dict[str, Document] = {}
        for message in there.messages:
            known = self.bodies.setdefault(message["messageId"], message)
            assert known == message, "another message under the same id"
            if known is message and message["type"] == "identify":
                self._take(message)

    def _take(self, message: Document) -> None:
        key = message["context"]["personas"]["computation_key"]
        _, dimension, standing = key.split("_", 2)
        place = message["userId"], dimension
        if message["traits"][key]:
            assert place not in self.members, "in two audiences at once"
            self.members[place] = standing
        else:
            assert self.members.pop(place, None) == standing, "out of an audience that was not entered"


def standings(profiles: dict[str, Document], customers: list[str]) -> dict[tuple[str, str], str]:
    return {
        (customer, dimension): standing
        for customer in customers
        for dimension, standing in profiles[customer]["standing"].items()
        if standing is not None
    }


def unreliable(seed: int) -> Answer:
    """30% fail, 5% answer too late, some ask for patience, and no batch of more than 20 is taken."""
    rng = random.Random(seed)

    async def answer(number: int, body: bytes) -> web.Response:
        luck = rng.random()
        if luck < 0.3:
            return web.Response(status=rng.choice((500, 502, 503)))
        if luck < 0.35:
            await asyncio.sleep(0.8)
        elif luck < 0.45:
            return web.Response(status=429, headers={"Retry-After": "0"})
        if len(json.loads(body)["batch"]) > 20:
            return web.Response(status=413)
        return web.json_response({"success": True})

    return answer


async def test_audiences_arrive_whole_at_an_endpoint_that_fails(settings: Settings, output: Output) -> None:
    """Through a restart in the middle: nobody lost, nobody in two audiences, none of those who did not consent."""
    agreed = [f"yes-{number}" for number in range(30)]
    silent = [f"not-asked-{number}" for number in range(5)]
    await make_topics(settings, PARTITIONS)
    async with endpoint(unreliable(7)) as there, running(settings) as worker:
        own = output.model_copy(update={"url": there.url})
        await until_idle(settings, worker)
        first = asyncio.create_task(deliver(settings, [own], asyncio.Event()))
        await send(settings, "consents", *(consent_of(customer, granted=True) for customer in agreed))
        await until_idle(settings, worker)
        for turn in range(4):
            orders = [
                order_of_now(customer, f"{customer}-{turn}")
                | {"total": "1" if turn < 2 + number % 3 else "5000"}
                for number, customer in enumerate([*agreed, *silent])
            ]
            await send(settings, "purchases", *orders)
            await until_idle(settings, worker)
            if turn == 1:
                first.cancel()
                with suppress(asyncio.CancelledError):
                    await first
        (delivery,) = await deliver(settings, [own], asyncio.Event(), ends=True)
        profiles = await stored_profiles(settings)
    heard = Heard(there)
    assert heard.members == standings(profiles, agreed)
    assert any(False in message.get("traits", {}).values() for message in there.messages), "nobody moved"
    assert not any(customer.encode() in body for _, body in there.taken for customer in silent)
    assert {500, 429, 413, 200} <= set(there.statuses)
    assert delivery.counts["dead letters"] == 0
    assert await read_topic(settings, "dead-letters") == []


async def test_a_withdrawal_leads_out_at_once_and_a_grant_back_in(settings: Settings, output: Output) -> None:
    """A withdrawal even while no worker runs, which must read it first to know of it."""
    await make_topics(settings, PARTITIONS)
    async with endpoint() as there:
        own = output.model_copy(update={"url": there.url})
        async with running(settings) as worker:
            await until_idle(settings, worker)
            await send(
                settings, "consents", *(consent_of(customer, granted=True) for customer in ("ada", "bob"))
            )
            await until_idle(settings, worker)
            await send(
                settings, "purchases", *(order_of_now(customer, customer) for customer in ("ada", "bob"))
            )
            await until_idle(settings, worker)
        await deliver(settings, [own], asyncio.Event(), ends=True)
        assert {customer for customer, _ in Heard(there).members} == {"ada", "bob"}
        assert [message["type"] for message in there.messages] == ["identify"] * 6, (
            "old changes start no flow"
        )
        await asyncio.sleep(1.1)  # times are whole seconds here
        await send(settings, "consents", consent_of("ada", granted=False))
        await deliver(settings, [own], asyncio.Event(), ends=True)
        assert {customer for customer, _ in Heard(there).members} == {"bob"}
        await asyncio.sleep(1.1)
        await send(settings, "consents", consent_of("ada", granted=True))
        await deliver(settings, [own], asyncio.Event(), ends=True)
        assert {customer for customer, _ in Heard(there).members} == {"ada", "bob"}


async def test_of_somebody_erased_an_exit_leaves_and_nothing_is_kept(
    settings: Settings, output: Output, redis_client: Redis
) -> None:
    """No byte of the id in what an output keeps."""
    who = secrets.token_hex(12)
    await make_topics(settings, PARTITIONS)
    async with endpoint() as there, running(settings) as worker:
        own = output.model_copy(update={"url": there.url, "purpose": None})
        await until_idle(settings, worker)
        await send(settings, "purchases", order_of_now(who, "one"))
        await until_idle(settings, worker)
        await deliver(settings, [own], asyncio.Event(), ends=True)
        assert len(Heard(there).members) == 3
        await send(settings, "consents", consent_of(who, granted=None))
        await until_idle(settings, worker)
        await deliver(settings, [own], asyncio.Event(), ends=True)
        assert Heard(there).members == {}
    client: Any = redis_client
    kept = [key for key in client.scan_iter(match=f"*{settings.group_id}*") if b":out:" in key]
    assert kept
    for key in kept:
        assert who.encode() not in key
        assert who.encode() not in repr(client.hgetall(key)).encode()


async def test_what_is_never_taken_becomes_a_dead_letter_and_the_next_goes_on(
    settings: Settings, output: Output
) -> None:
    """Of the customer whom the endpoint refuses; it is as if nothing had been told of them."""

    def answer(number: int, body: bytes) -> web.Response:
        return web.Response(status=400 if b'"refused"' in body else 200, text="no such user")

    await make_topics(settings, PARTITIONS)
    async with endpoint(answer) as there, running(settings) as worker:
        own = output.model_copy(update={"url": there.url, "purpose": None, "dimensions": ["segment"]})
        await until_idle(settings, worker)
        await send(
            settings, "purchases", *(order_of_now(who, who) for who in ("refused", "welcome", "known"))
        )
        await until_idle(settings, worker)
        (delivery,) = await deliver(settings, [own], asyncio.Event(), ends=True)
    assert {customer for customer, _ in Heard(there).members} == {"welcome", "known"}
    (letter,) = await read_topic(settings, "dead-letters")
    said = {name: value.decode() for name, value in letter.headers}
    assert said[EXCEPTION_HEADER] == "Undelivered"
    assert said[MESSAGE_HEADER] == "$: output cdp: answered 400: no such user"
    assert said[TOPIC_HEADER] == settings.topic("segment-changes")
    assert letter.key == b"refused"
    assert json.loads(letter.value)["userId"] == "refused"
    assert delivery.counts["dead letters"] == 1


async def test_a_dead_endpoint_slows_nobody_else(settings: Settings, output: Output) -> None:
    """Two outputs, one of whose endpoints never answers: the other gets everything meanwhile."""

    async def never(number: int, body: bytes) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    await make_topics(settings, PARTITIONS)
    async with endpoint(never) as dead, endpoint(well) as alive, running(settings) as worker:
        common = {"purpose": None, "timeout_s": 30.0}
        outputs = [
            output.model_copy(update={"name": "dead", "url": dead.url, **common}),
            output.model_copy(update={"name": "alive", "url": alive.url, **common}),
        ]
        await until_idle(settings, worker)
        stopping = asyncio.Event()
        running_ = asyncio.create_task(deliver(settings, outputs, stopping))
        for number in range(20):
            await send(settings, "purchases", order_of_now(f"c{number}", f"o{number}"))
        await until_idle(settings, worker)
        await until(lambda: len(Heard(alive).members) == 60, "all of them at the endpoint that answers")
        assert dead.requests > 0
        running_.cancel()
        with suppress(asyncio.CancelledError):
            await running_


async def test_the_command_delivers_to_the_end_and_tells_what_it_did(
    settings: Settings, output: Output, tmp_path: Path
) -> None:
    """As a process of its own, by the file; a wrong file or name ends with one line."""
    await make_topics(settings, PARTITIONS)
    async with endpoint() as there, running(settings) as worker:
        await until_idle(settings, worker)
        await send(settings, "purchases", order_of_now("ada", "one"))
        await until_idle(settings, worker)
        path = tmp_path / "outputs.yaml"
        path.write_text(
            f"outputs: [{{name: cdp, kind: segment, url: '{there.url}', secret_file: {output.secret_file}}}]"
        )
        for arguments, code, expected in (
            ([str(path), "--to-end"], 0, "cdp: 3 messages, 0 retries, 0 dead letters\n"),
            ([str(path), "--to-end"], 0, "cdp: 0 messages, 0 retries, 0 dead letters\n"),
            ([str(path), "--only", "lake"], 2, ""),
        ):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "streams", "deliver", *arguments),
                env=process_environment(settings),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            out, err = await process.communicate()
            assert (process.returncode, out.decode()) == (code, expected), err.decode()
            if code:
                assert err.decode() == f"ebbtide: error: {path}: there is no output named lake\n"
    assert Heard(there).members == {
        ("ada", dimension): standing
        for dimension, standing in (await stored_profiles(settings))["ada"]["standing"].items()
    }
