"""Requests on their way: tried again with growing pauses, split where too large, given up where they are refused.

What an answer means:

| answer | what is done |
|---|---|
| 2xx | delivered, but for messages that the answer names as refused |
| 408, 425, 429, 5xx, none in time, no connection | tried again after what `Retry-After` says, else later and later |
| 3xx, 401, 403, 404, 405, 407 | the address or the secret is wrong: tried again for ever, and told in the log |
| 413 | sent again in halves; a message alone is given up |
| any other 4xx | sent again in halves, to find which message it is about; a message alone is given up |

So a message is given up only by what was answered to it alone, or after the last try.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

import aiohttp
import stamina
import stamina.instrumentation

from streams.delivery.messages import Format, Message
from streams.delivery.outputs_file import Output
from streams.errors import UsageError

log = logging.getLogger(__name__)

AGAIN: Final = frozenset({408, 425, 429, *range(500, 600)})
MISCONFIGURED: Final = frozenset({401, 403, 404, 405, 407})
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
LONGEST_RETRY_AFTER_S: Final = 3_600.0
MISCONFIGURED_PAUSE_S: Final = 30.0
_QUOTED_CHARACTERS: Final = 200


# Of each try a line would be too much: what is given up is told.
stamina.instrumentation.set_on_retry_hooks([])


class Undelivered(NamedTuple):
    """A message that was given up, and why."""

    message: Message
    why: str


class _AgainError(Exception):
    """A request must be sent again; after `pause_s`, where the answer says so."""

    def __init__(self, why: str, pause_s: float | None = None) -> None:
        super().__init__(why)
        self.pause_s = pause_s


class Sender:
    """Sends messages of one output, in their order."""

    def __init__(self, output: Output, format_: Format, session: aiohttp.ClientSession) -> None:
        self._output = output
        self._format = format_
        self._session = session
        self.delivered = 0
        self.retries = 0

    async def send(self, messages: Sequence[Message]) -> list[Undelivered]:
        """Send messages; gives those that were given up. Returns only when each of them is through."""
        given_up: list[Undelivered] = []
        fitting = []
        for message in messages:
            if len(message.body) > self._format.most_bytes:
                why = (
                    f"{len(message.body):,} bytes, and {self._output.kind} takes {self._format.most_bytes:,}"
                )
                given_up.append(Undelivered(message, why))
            else:
                fitting.append(message)
        for portion in self._format.portions(fitting):
            given_up += await self._send_portion(portion)
        return given_up

    async def _send_portion(self, messages: Sequence[Message]) -> list[Undelivered]:
        try:
            status, answer = await self._answered(messages)
        except _AgainError as error:
            return [
                Undelivered(message, f"after {self._output.attempts} tries: {error}") for message in messages
            ]
        if 200 <= status < 300:
            refused = self._format.refused(messages, answer)
            self.delivered += len(messages) - len(refused)
            return [
                Undelivered(messages[at], f"refused: {_quoted(why)}") for at, why in sorted(refused.items())
            ]
        if len(messages) == 1:
            return [Undelivered(messages[0], f"answered {status}: {_quoted(answer)}")]
        middle = len(messages) // 2
        first = await self._send_portion(messages[:middle])
        return first + await self._send_portion(messages[middle:])

    async def _answered(self, messages: Sequence[Message]) -> tuple[int, str]:
        """Status and text of the answer, once it is one that another try would not change.

        Raises:
            _AgainError: The last try has failed too.
        """
        attempts = stamina.retry_context(
            on=_pause_of,
            attempts=self._output.attempts,
            timeout=None,
            wait_initial=FIRST_PAUSE_S,
            wait_max=LONGEST_PAUSE_S,
            wait_jitter=FIRST_PAUSE_S,
        )
        async for attempt in attempts:
            with attempt:
                if attempt.num > 1:
                    self.retries += 1
                return await self._try(messages)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _try(self, messages: Sequence[Message]) -> tuple[int, str]:
        while True:
            try:
                request = self._format.request(messages, self._output.secret())
            except UsageError as error:  # it was well at the start; perhaps it is just being changed
                log.error("%s; it is tried again", error)
                await asyncio.sleep(MISCONFIGURED_PAUSE_S)
                continue
            timeout = aiohttp.ClientTimeout(total=self._output.timeout_s)
            try:
                async with self._session.post(
                    self._output.url,
                    data=request.body,
                    headers=dict(request.headers),
                    timeout=timeout,
                    allow_redirects=False,
                ) as response:
                    text = await response.text(errors="replace")
                    status, headers = response.status, response.headers
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise _AgainError(f"{type(error).__name__}: {error}".rstrip(": ")) from error
            said = _quoted(text)
            if status in MISCONFIGURED or 300 <= status < 400:
                log.error(
                    "output %s: %s answers %d (%s): is the address right, and the secret? It is tried again",
                    self._output.name,
                    self._output.url,
                    status,
                    said,
                )
                await asyncio.sleep(MISCONFIGURED_PAUSE_S)
                continue
            if status in AGAIN:
                raise _AgainError(f"answered {status}: {said}", retry_after_s(headers.get("Retry-After")))
            return status, text


def retry_after_s(value: str | None) -> float | None:
    """The seconds that a `Retry-After` asks for (RFC 9110, section 10.2.3); None without a usable one."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - dt.datetime.now(dt.UTC)).total_seconds()
        except (TypeError, ValueError):
            return None
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER_S) if seconds == seconds else None


def _quoted(text: str) -> str:
    """The beginning of what somebody else has written, on one line."""
    return " ".join(text[:_QUOTED_CHARACTERS].split())


def _pause_of(error: Exception) -> bool | float:
    """Whether to try again, or after how many seconds."""
    if not isinstance(error, _AgainError):
        return False
    return True if error.pause_s is None else error.pause_s
