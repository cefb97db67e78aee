"""The border of the compiled core, whatever bytes come: it computes, or it declines; it never breaks."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import orjson
import pytest

from enrichment.customer.customer import CustomerState
from enrichment.days import day_of
from enrichment.kernel import Exactly, core_of, given_model
from schemas.decode import decode
from schemas.rejection import Rejection
from schemas.timestamps import parse_timestamp
from schemas.topics import INPUT_TOPICS
from streams.worker.compiled_core import labels_of
from tests.enrichment.test_compiled_load import GROUP, HORIZONS, NAMESPACE, RANKS
from tests.oracles.seeded_log import MODEL_OVERRIDES, make_log
from tests.streams.test_compiled_replay import model_with

MODEL = model_with(**MODEL_OVERRIDES)
NOT_EXPECTED = "something that the compiled core did not expect"


@pytest.fixture(scope="module")
def module() -> Any:
    """The compiled core; skips where it is not built."""
    found = core_of("auto")
    if found.compiled is None:
        pytest.skip(found.reason)
    return found.compiled


@pytest.fixture(scope="module")
def core(module: Any) -> Any:
    exactly = Exactly(MODEL)
    asked = exactly.purchasing, exactly.chance_of_return, exactly.points_of_answer
    given = given_model(MODEL, NAMESPACE, HORIZONS)
    return module.Core(given, MODEL.fingerprint, labels_of(NAMESPACE, GROUP), *asked)


@pytest.fixture(scope="module")
def states(core: Any) -> dict[str, bytes]:
    """Of the customers of a seeded log, after all their records."""
    log = make_log(3)
    part = core.part()
    for topic in INPUT_TOPICS:
        values = [orjson.dumps(record) for record in log[topic]]
        read = [decode(topic, value) for value in values]
        part.take(
            [
                (RANKS[topic], event.customer_id.encode(), value, None)
                for event, value in zip(read, values, strict=True)
                if not isinstance(event, Rejection)
            ]
        )
    names = part.customers()
    part.read([None] * len(names), 0)
    lived = part.live([], 0, core.outgoing())
    return {names[at]: state for at, state, *_ in lived[-1] if state is not None}


def damaged(rng: random.Random, data: bytes) -> bytes:
    """With some bytes changed, left out or put in."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(made))
        how = rng.random()
        if how < 0.6:
            made[at] = rng.choice((rng.randrange(256), 0xFF, 0x00, 0xDF, 0xCF, 0xD3))
        elif how < 0.8:
            del made[at : at + rng.randint(1, 9)]
        else:
            made[at:at] = rng.randbytes(rng.randint(1, 9))
        if not made:
            break
    return bytes(made)


def test_a_state_of_any_bytes_is_taken_or_declined(
    core: Any, module: Any, states: dict[str, bytes], random_seed: int
) -> None:
    """Seeded damage: what it takes for a state is one for the Python core too."""
    rng = random.Random(random_seed)
    midnight_day = day_of(parse_timestamp("2026-11-01T00:00:00Z"))
    decoder = msgspec.msgpack.Decoder(CustomerState)
    taken, reasons = 0, set[str]()
    for _ in range(4_000):
        state = damaged(rng, rng.choice(list(states.values())))
        part = core.part()
        part.name(["c"])
        try:
            part.read([state], midnight_day)
        except module.DeclinedError as error:
            reasons.add(str(error))
            continue
        taken += 1
        decoder.decode(state)
        try:
            part.live([], midnight_day, core.outgoing())
        except module.DeclinedError as error:
            reasons.add(str(error))
    assert taken > 50
    assert NOT_EXPECTED not in reasons


def test_a_record_of_any_bytes_is_taken_or_left(core: Any, random_seed: int) -> None:
    """Seeded damage: what it takes is what the Python core takes."""
    rng = random.Random(random_seed)
    log = make_log(4)
    lines = [(topic, orjson.dumps(record)) for topic in INPUT_TOPICS for record in log[topic]]
    taken = 0
    for _ in range(6_000):
        topic, value = rng.choice(lines)
        value = damaged(rng, value)
        event = decode(topic, value)
        key = b"?" if isinstance(event, Rejection) else event.customer_id.encode()
        others = core.part().take([(RANKS[topic], key, value, None)])
        if not others:
            taken += 1
            assert not isinstance(event, Rejection), value
    assert taken > 20
