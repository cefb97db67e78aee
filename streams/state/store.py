"""Customer state in Redis: one partition's view of it, guarded by an owner token."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import chain, islice
from typing import Any, Literal, cast

import msgspec

from enrichment.customer.customer import Customer, CustomerState, empty_state
from enrichment.model import Model
from schemas.topics import InputTopic
from streams.checkpoint import Checkpoint, FirstLoad, Skipped
from streams.errors import EbbtideError
from streams.micro_batch import MicroBatch, StoredState
from streams.outbox import OutputRecord, pack_outbox, unpack_outbox
from streams.settings.erasure_keys import ErasureKeys
from streams.state.codec import decode, decompressed, encode, packed
from streams.state.keys import PartitionKeys
from streams.state.partition_facts import Facts
from streams.state.redis_client import RedisClient
from streams.state.stuck import SkipRequest, Stuck

CHUNK_CUSTOMERS = 500
SCAN_COUNT = 1_000

Verdict = Literal["ok", "done", "fenced", "conflict"]

_ERASED_DECODER = msgspec.msgpack.Decoder(tuple[int, int])


class FencedError(EbbtideError):
    """Another owner has taken the partition, or Redis is not where this owner left it."""


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """What Redis says of a partition: its checkpoint, the one before, whether states are whole, its topics' ids."""

    checkpoint: Checkpoint
    before: tuple[int, str] | None
    model: str
    is_restoring: bool
    topic_ids: Mapping[str, str] = field(default_factory=dict)
    facts: Facts | None = None
    """None where Ebbtide 0.1 has written it."""


class Stop(msgspec.Struct, frozen=True):
    """Why a partition stopped, or is stuck, and since when, in microseconds since 1970."""

    reason: str
    at_us: int


class StateStore:
    """One partition's states; once another owner has claimed it, every write but `claim` raises `FencedError`."""

    def __init__(
        self, redis: RedisClient, keys: PartitionKeys, model: Model, erasure_keys: ErasureKeys
    ) -> None:
        self.redis = redis
        self.keys = keys
        self.model = model
        self.erasure_keys = erasure_keys
        self.facts: Facts | None = None
        """Written with each micro-batch; whoever takes a partition over sets them."""
        self._owner_token = ""
        self._checkpoint: Checkpoint | None = None
        self._restore_token, self._restore_writes = "", 0
        scripts = resources.files("streams.state").joinpath("scripts")
        self._claim = redis.register_script(scripts.joinpath("claim.lua").read_text())
        self._persist = redis.register_script(scripts.joinpath("persist.lua").read_text())
        self._restore = redis.register_script(scripts.joinpath("rebuild.lua").read_text())
        self._checked = redis.register_script(scripts.joinpath("read.lua").read_text())
        self._note_stop = redis.register_script(scripts.joinpath("note_stop.lua").read_text())
        self._note_topics = redis.register_script(scripts.joinpath("note_topics.lua").read_text())
        self._begin = redis.register_script(scripts.joinpath("begin.lua").read_text())
        self._note_stuck = redis.register_script(scripts.joinpath("note_stuck.lua").read_text())
        self._refuse_skip = redis.register_script(scripts.joinpath("refuse_skip.lua").read_text())

    async def claim(self, owner_token: str) -> None:
        """Become the owner: from now on, whoever was it before writes nothing."""
        self._owner_token, self._checkpoint = owner_token, None
        before = await _answer(self.redis.execute_command("HGET", self.keys.meta, "owner_token"))
        verdict = await _answer(self._claim(keys=[self.keys.meta], args=[owner_token, before or b""]))
        self._check(verdict, "claim the partition")

    async def owner_token(self) -> str:
        """The token of the partition's last owner; empty where there was none."""
        token: bytes | None = await _answer(self.redis.execute_command("HGET", self.keys.meta, "owner_token"))
        return (token or b"").decode()

    async def stored_checkpoint(self) -> StoredCheckpoint | None:
        """Where the partition stands by Redis; None where it has never started."""
        meta: dict[bytes, bytes] = await _answer(self.redis.hgetall(self.keys.meta))
        if b"step" not in meta:
            return None
        offsets = msgspec.json.decode(meta[b"offsets"], type=dict[InputTopic, int])
        load = msgspec.json.decode(kept, type=FirstLoad) if (kept := meta.get(b"load")) else None
        checkpoint = Checkpoint(
            int(meta[b"step"]), meta[b"token"].decode(), int(meta[b"midnight_day"]), offsets, load
        )
        before = None
        if b"before_step" in meta:
            before = (int(meta[b"before_step"]), meta[b"before_token"].decode())
        ids = msgspec.json.decode(meta.get(b"topic_ids", b"{}"), type=dict[str, str])
        is_restoring = meta[b"status"] == b"rebuilding"
        facts = Facts.unpack(packed) if (packed := meta.get(b"facts")) else None
        return StoredCheckpoint(checkpoint, before, meta[b"model"].decode(), is_restoring, ids, facts)

    async def keep_topic_ids(self, ids: Mapping[str, str]) -> None:
        """Keep which topics the offsets are of."""
        call = self._note_topics(keys=[self.keys.meta], args=[self._owner_token, msgspec.json.encode(ids)])
        self._check(await _answer(call), "keep the topics' ids")

    def expect(self, checkpoint: Checkpoint) -> None:
        """From here on, reads must be of what Redis held at this checkpoint, or at that of the last batch persisted.

        Else a Redis that is emptied, read, and then restored would have given somebody a second beginning.
        """
        self._checkpoint = checkpoint

    async def check(self) -> None:
        """Raise `FencedError` if the partition is another's, or Redis is not where this owner left it."""
        await self._read("EXISTS", [self.keys.meta])

    async def keep_stop(self, stop: Stop) -> None:
        """Keep why the partition stopped, for `ebbtide doctor`."""
        call = self._note_stop(keys=[self.keys.meta], args=[self._owner_token, stop.reason, stop.at_us])
        self._check(await _answer(call), "keep why it stopped")

    async def go_on(self) -> Stuck | None:
        """Forget why the partition stopped; gives where it was stuck."""
        stop, stuck = await self.kept_troubles()
        if stop is not None:
            call = self._note_stop(keys=[self.keys.meta], args=[self._owner_token, "", 0])
            self._check(await _answer(call), "forget why it stopped")
        return stuck

    async def kept_troubles(self) -> tuple[Stop | None, Stuck | None]:
        """Why the partition stopped, if no owner has gone on with it since, and where it is stuck, by its owners."""
        meta: dict[bytes, bytes] = await _answer(self.redis.hgetall(self.keys.meta))
        stop = stuck = None
        if b"stopped_reason" in meta:
            stop = Stop(meta[b"stopped_reason"].decode(), int(meta[b"stopped_at_us"]))
        if b"stuck" in meta:
            stuck = msgspec.json.decode(meta[b"stuck"], type=Stuck)
        return stop, stuck

    async def keep_stuck(self, stuck: Stuck | None) -> None:
        """Keep where the partition is stuck, for `ebbtide doctor` and `ebbtide skip`; None where it goes on."""
        kept = b"" if stuck is None else msgspec.json.encode(stuck)
        call = self._note_stuck(keys=[self.keys.meta], args=[self._owner_token, kept])
        self._check(await _answer(call), "keep where it is stuck")

    async def ask_to_skip(self, request: SkipRequest) -> None:
        """Leave a request for the partition's owner; it takes the place of an earlier one."""
        encoded = msgspec.json.encode(request)
        await _answer(self.redis.execute_command("SET", self.keys.skip_request, encoded))

    async def skip_request(self) -> SkipRequest | None:
        """What the partition's owner is asked to skip."""
        kept = await _answer(self.redis.execute_command("GET", self.keys.skip_request))
        return None if kept is None else msgspec.json.decode(kept, type=SkipRequest)

    async def refuse_skip(self, request: SkipRequest) -> None:
        """Forget a request that will not be obeyed."""
        keys = [self.keys.meta, self.keys.skip_request]
        call = self._refuse_skip(keys=keys, args=[self._owner_token, msgspec.json.encode(request)])
        self._check(await _answer(call), "refuse to skip")

    async def skipped(self) -> list[Skipped]:
        """The ranges of offsets that were skipped, by topic."""
        kept: dict[bytes, bytes] = await _answer(self.redis.hgetall(self.keys.skipped))
        places = ((name.decode().split(":"), int(next_offset)) for name, next_offset in kept.items())
        return sorted(
            Skipped(cast("InputTopic", topic), int(first), next_offset)
            for (topic, first), next_offset in places
        )

    async def tell_failing(self, stuck: Stop, lives_s: float) -> None:
        """Keep for `lives_s` why the partition fails, for `ebbtide doctor`. One need not own it to say so."""
        told = msgspec.json.encode(stuck)
        await _answer(
            self.redis.execute_command("SET", self.keys.failing, told, "PX", math.ceil(lives_s * 1_000))
        )

    async def forget_failing(self) -> None:
        """The partition goes on."""
        await _answer(self.redis.execute_command("DEL", self.keys.failing))

    async def told_failing(self) -> Stop | None:
        """Why the partition is stuck, if a worker has told so just now."""
        told = await _answer(self.redis.execute_command("GET", self.keys.failing))
        return None if told is None else msgspec.json.decode(told, type=Stop)

    async def outbox(self) -> list[OutputRecord] | None:
        """The output records of the stored micro-batch; None once they are known to be published."""
        packed = await self._read("GET", [self.keys.outbox])
        return None if packed is None else unpack_outbox(packed)

    async def empty_outbox(self) -> None:
        """Forget the stored batch's output records, which hold customers' ids, once Kafka is known to have them."""
        await self._read("DEL", [self.keys.outbox])

    async def load(self, customer_ids: Sequence[str]) -> dict[str, Customer]:
        """The customers of these ids; one not held begins anew, after their last erasure if there was one.

        Each is due on the day that the index says, unless that is before the one of their state.
        """
        customers: dict[str, Customer] = {}
        prefix = self.keys.customer("")
        for start in range(0, len(customer_ids), CHUNK_CUSTOMERS):
            ids = customer_ids[start : start + CHUNK_CUSTOMERS]
            states = await self._read("MGET", [prefix + customer_id for customer_id in ids])
            absent = [customer_id for customer_id, state in zip(ids, states, strict=True) if state is None]
            erased = await self._erased(absent)
            found: dict[str, CustomerState] = {}
            for customer_id, state in zip(ids, states, strict=True):
                found[customer_id] = erased[customer_id] if state is None else decode(state)
            await self._take_filed_days(found)
            for customer_id, held in found.items():
                customers[customer_id] = Customer(customer_id, held, self.model)
        return customers

    async def load_packed(self, customer_ids: Sequence[str]) -> dict[str, bytes | None]:
        """The states of these customers, packed; None for those of whom nothing is known, an erasure neither."""
        found: dict[str, bytes | None] = {}
        prefix = self.keys.customer("")
        for start in range(0, len(customer_ids), CHUNK_CUSTOMERS):
            ids = customer_ids[start : start + CHUNK_CUSTOMERS]
            states = await self._read("MGET", [prefix + customer_id for customer_id in ids])
            absent = [customer_id for customer_id, state in zip(ids, states, strict=True) if state is None]
            erased = await self._erased(absent)
            for customer_id, state in zip(ids, states, strict=True):
                if state is not None:
                    found[customer_id] = decompressed(state)
                else:
                    begun = erased[customer_id]
                    found[customer_id] = packed(begun) if begun.decision.life else None
        return found

    async def _take_filed_days(self, found: Mapping[str, CustomerState]) -> None:
        """Take due days from the timer index where they are later: rescheduling does not write the state.

        Who is due later than the last midnight by their state need not be asked for: whoever was put off was due.
        """
        midnight_day = None if self._checkpoint is None else self._checkpoint.midnight_day
        asked = {
            customer_id: state.due_day
            for customer_id, state in found.items()
            if state.due_day is not None and (midnight_day is None or state.due_day <= midnight_day)
        }
        if not asked:
            return
        for customer_id, filed_day in (await self.filed_days(asked)).items():
            found[customer_id].due_day = max(asked[customer_id], filed_day)

    async def filed_days(self, customer_ids: Iterable[str]) -> dict[str, int]:
        """The days on which customers are due by the timer index, as far as it knows them."""
        asked = list(customer_ids)
        days = await self._read("ZMSCORE", [self.keys.due], *asked)
        named = zip(asked, days, strict=True)
        return {customer_id: int(float(day)) for customer_id, day in named if day is not None}

    async def due(self, midnight_day: int, skip: int, limit: int) -> list[str]:
        """Customers to whom something may happen on a midnight up to this one: at most `limit`, after `skip`."""
        return list(await self.due_days(midnight_day, skip, limit))

    async def due_days(self, midnight_day: int, skip: int, limit: int) -> dict[str, int]:
        """The same customers, each with the day on which they are due."""
        how = "-inf", midnight_day, "WITHSCORES", "LIMIT", skip, limit
        answer = await self._read("ZRANGEBYSCORE", [self.keys.due], *how)
        # A script's answer is flat; asked by RESP3, Redis gives pairs.
        flat = iter(list(chain.from_iterable(answer)) if answer and isinstance(answer[0], list) else answer)
        return {customer_id.decode(): int(float(day)) for customer_id, day in zip(flat, flat, strict=True)}

    async def count_due(self, midnight_day: int) -> int:
        """How many customers a midnight up to this one still has to reach."""
        return int(await _answer(self.redis.zcount(self.keys.due, "-inf", midnight_day)))

    async def all_ids(self) -> list[str]:
        """Every known customer of the partition, sorted."""
        return sorted(member.decode() for member in await _answer(self.redis.zrange(self.keys.due, 0, -1)))

    async def persist(self, batch: MicroBatch) -> None:
        """Write a micro-batch, all or nothing; a repeat of one that was written is well."""
        arguments: list[str | bytes | int] = [
            self._owner_token,
            batch.before.batch_id,
            batch.before.token,
            batch.after.batch_id,
            batch.after.token,
            batch.after.midnight_day,
            msgspec.json.encode(batch.after.offsets),
            batch.model,
            pack_outbox(batch.outbox),
            int(batch.is_everyone_due),
            len(batch.erased),
            len(batch.rescheduled),
            len(batch.skipped),
            int(batch.obeys_request),
            self._packed_facts(),
            _packed_load(batch.after),
        ]
        _extend_skipped(arguments, batch.skipped)
        for entry in batch.rescheduled:
            arguments.extend(entry)
        keys = [self.keys.meta, self.keys.due, self.keys.erased, self.keys.outbox]
        keys += [self.keys.skipped, self.keys.skip_request]
        _extend(keys, arguments, self.keys, batch.erased, batch.states)
        self._check(await _answer(self._persist(keys=keys, args=arguments)), "persist a micro-batch")
        self._checkpoint = batch.after

    async def begin(self, checkpoint: Checkpoint, model: str) -> None:
        """Set where the partition stands, at a first start."""
        await self._begin_at(checkpoint, model, "ready", "", "")
        self._checkpoint = checkpoint

    async def begin_restore(self, checkpoint: Checkpoint, model: str) -> None:
        """Begin a restore up to a checkpoint.

        It has a token of its own until it ends, and its writes are counted: a Redis that loses some of them says so.
        """
        self._restore_token, self._restore_writes = secrets.token_hex(8), 0
        restoring = msgspec.structs.replace(checkpoint, token=self._restore_token)
        await self._begin_at(restoring, model, "rebuilding", "", "")

    async def end_restore(self, checkpoint: Checkpoint, model: str) -> None:
        """All states are written: the partition stands at the checkpoint."""
        await self._begin_at(checkpoint, model, "ready", self._restore_token, str(self._restore_writes))
        self._checkpoint = checkpoint

    async def _begin_at(
        self,
        checkpoint: Checkpoint,
        model: str,
        status: Literal["ready", "rebuilding"],
        restore_token: str,
        writes: str,
    ) -> None:
        arguments: list[str | bytes | int] = [
            self._owner_token,
            status,
            checkpoint.batch_id,
            checkpoint.token,
            checkpoint.midnight_day,
            msgspec.json.encode(checkpoint.offsets),
            model,
            restore_token,
            writes,
            self._packed_facts(),
            _packed_load(checkpoint),
        ]
        verdict = await _answer(self._begin(keys=[self.keys.meta, self.keys.outbox], args=arguments))
        self._check(verdict, "begin a partition")

    async def put_restored(
        self,
        states: Sequence[StoredState],
        erased: Sequence[tuple[str, bytes]] = (),
        skipped: Sequence[Skipped] = (),
    ) -> None:
        """Write states during a restore."""
        for start in range(0, max(len(states), 1), CHUNK_CUSTOMERS):
            await self._write_restored(states[start : start + CHUNK_CUSTOMERS], erased, [], skipped)
            erased = skipped = ()

    async def wipe(self) -> None:
        """Delete what is held of the partition's customers, during a restore."""
        pattern = _escaped(self.keys.customer("")) + "*"
        batch: list[bytes | str] = [self.keys.due, self.keys.erased, self.keys.outbox, self.keys.skipped]
        async for key in self.redis.scan_iter(match=pattern, count=SCAN_COUNT):
            batch.append(key)
            if len(batch) >= CHUNK_CUSTOMERS:
                await self._write_restored([], [], batch)
                batch = []
        await self._write_restored([], [], batch)

    async def _write_restored(
        self,
        states: Sequence[StoredState],
        erased: Sequence[tuple[str, bytes]],
        deleted: Sequence[bytes | str],
        skipped: Sequence[Skipped] = (),
    ) -> None:
        keys = [self.keys.meta, self.keys.due, self.keys.erased, self.keys.skipped]
        arguments: list[str | bytes | int] = [
            self._owner_token,
            self._restore_token,
            self._restore_writes,
            len(erased),
            len(states),
            len(skipped),
        ]
        _extend_skipped(arguments, skipped)
        _extend(keys, arguments, self.keys, erased, states)
        self._check(await _answer(self._restore(keys=[*keys, *deleted], args=arguments)), "restore states")
        self._restore_writes += 1

    def hash_of(self, customer_id: str) -> str:
        """The HMAC under which an erased customer is remembered."""
        return self.erasure_keys.hash_of(customer_id)

    def _packed_facts(self) -> bytes:
        return b"" if self.facts is None else self.facts.pack()

    @staticmethod
    def erased_value(life: int, erased_up_to_us: int) -> bytes:
        """What is remembered of an erased customer."""
        return msgspec.msgpack.encode((life, erased_up_to_us))

    async def _erased(self, customer_ids: Sequence[str]) -> dict[str, CustomerState]:
        if not customer_ids:
            return {}
        hashes = [self.erasure_keys.hashes_of(customer_id) for customer_id in customer_ids]
        remembered = iter(await self._read("HMGET", [self.keys.erased], *chain.from_iterable(hashes)))
        states = {}
        for customer_id, own in zip(customer_ids, hashes, strict=True):
            entries = [_ERASED_DECODER.decode(entry) for entry in islice(remembered, len(own)) if entry]
            # Under another key there is an earlier erasure of the same customer: the latest one holds.
            states[customer_id] = empty_state(*max(entries)) if entries else empty_state()
        return states

    async def _read(self, command: str, keys: Sequence[str], *arguments: str | int) -> Any:
        """Ask as the owner, if there is a checkpoint to expect; else as anyone."""
        if self._checkpoint is None:
            return await _answer(self.redis.execute_command(command, *keys, *arguments))
        owner: list[str | int] = [self._owner_token, self._checkpoint.batch_id, self._checkpoint.token]
        call = self._checked(keys=[self.keys.meta, *keys], args=[*owner, command, *arguments])
        verdict, *answer = await _answer(call)
        self._check(verdict, f"answer as of micro-batch {self._checkpoint.batch_id}")
        return answer[0] if answer else None

    def _check(self, verdict: bytes, doing: str) -> None:
        if verdict not in (b"ok", b"done"):
            raise FencedError(
                f"partition {self.keys.partition}: Redis refused to {doing}: {verdict.decode()}"
            )


def stored_state(customer: Customer) -> StoredState:
    """A customer as they are stored; one of whom nothing but an erasure is known is deleted."""
    if not customer.is_known:
        return StoredState(customer.id, b"", None)
    return StoredState(customer.id, encode(customer.state), customer.state.due_day)


def _packed_load(checkpoint: Checkpoint) -> bytes:
    return b"" if checkpoint.load is None else msgspec.json.encode(checkpoint.load)


def _extend_skipped(arguments: list[str | bytes | int], skipped: Iterable[Skipped]) -> None:
    for entry in skipped:
        arguments += (f"{entry.topic}:{entry.first}", entry.next_offset)


def _extend(
    keys: list[str],
    arguments: list[str | bytes | int],
    names: PartitionKeys,
    erased: Iterable[tuple[str, bytes]],
    states: Iterable[StoredState],
) -> None:
    for entry in erased:
        arguments.extend(entry)
    prefix = names.customer("")
    for customer_id, state, due_day in states:
        keys.append(prefix + customer_id)
        arguments += (customer_id, state, "" if due_day is None else due_day)


def _escaped(pattern: str) -> str:
    """A key as a pattern that matches itself only."""
    return "".join(f"\\{character}" if character in "*?[]\\^-" else character for character in pattern)


async def _answer(call: Any) -> Any:
    """redis-py types its calls for both its clients; this one is asynchronous."""
    return await call
