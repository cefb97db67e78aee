"""Why Kafka does not let us in, in one line that names the setting: what the clients only call unreachable."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.admin import SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

from streams.errors import EbbtideError, one_line
from streams.kafka.connection import aiokafka_settings
from streams.settings import Settings
from streams.settings.kafka_security import uses_sasl, uses_tls

TIMEOUT_S: Final = 5.0
"""For each question to a broker."""
ALL_TIMEOUT_S: Final = 10.0
"""For all of them."""
_PROTOCOL: Final = "EBBTIDE_KAFKA_SECURITY_PROTOCOL"
_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
_OTHER_HOST: Final = (62, 64)
"""OpenSSL's numbers for what is wrong with a certificate; the last two for a host's name and address."""


def require_access(settings: Settings) -> None:
    """Return where a broker lets us in, or where nothing is known but that none answers; may take some seconds.

    Raises:
        UsageError: a setting of the connection cannot be used.
        EbbtideError: brokers answer, and turn us away, or we them; the message says why.
    """
    with ThreadPoolExecutor(1) as thread:  # the caller may have a running event loop of its own
        problem = thread.submit(lambda: asyncio.run(why_refused(settings))).result()
    if problem is not None:
        raise EbbtideError(problem)


async def why_refused(settings: Settings) -> str | None:
    """Why the first broker that can be asked refuses us, or we it; None where one lets us in, or none answers."""
    chosen = aiokafka_settings(settings)
    found: str | None = None
    with suppress(TimeoutError):
        async with asyncio.timeout(ALL_TIMEOUT_S):
            for address in chosen.pop("bootstrap_servers").split(","):
                broker = _Broker(settings, chosen, *_host_and_port(address))
                try:
                    await broker.enter()
                    return None
                except (KafkaError, OSError) as error:
                    reason = await broker.reason(error)
                    if found is None and reason is not None:
                        found = f"Kafka at {address} (setting EBBTIDE_KAFKA_BOOTSTRAP_SERVERS): {reason}"
    return found


@asynccontextmanager
async def questions(settings: Settings) -> AsyncIterator[Callable[[Any], Awaitable[Any]]]:
    """A function that sends requests to the first broker that lets us in, whichever it is, and gives its answers.

    Raises what aiokafka raises, where none does.
    """
    chosen = aiokafka_settings(settings)
    addresses = chosen.pop("bootstrap_servers").split(",")
    for address in addresses:
        host, port = _host_and_port(address)
        try:
            opened = await _open(host, port, chosen)
        except (KafkaError, OSError):
            if address == addresses[-1]:
                raise
            continue
        with closing(opened):
            yield opened.send
        return


async def _open(host: str, port: int, chosen: dict[str, Any]) -> AIOKafkaConnection:
    async with asyncio.timeout(TIMEOUT_S):
        return await create_conn(host, port, request_timeout_ms=int(TIMEOUT_S * 1000), **chosen)


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class _Broker:
    """One address, and what can be learned there."""

    def __init__(self, settings: Settings, chosen: dict[str, Any], host: str, port: int) -> None:
        self._settings = settings
        self._chosen = chosen
        self._host = host
        self._port = port

    async def enter(self) -> None:
        """Connect as every client does, and ask what only those who are let in may ask."""
        metadata = await self._ask(MetadataRequest([]), self._chosen)
        if not metadata.brokers and self._settings.kafka_sasl_mechanism == "OAUTHBEARER":
            # aiokafka takes any answer to a token for consent; it is the next question that is turned away, emptily.
            raise SaslAuthenticationFailed("the broker gives no reason")

    async def reason(self, error: Exception) -> str | None:
        """What an error of `enter` means; None where the broker may just not answer at the moment."""
        if isinstance(error, SaslAuthenticationFailed):
            return self._of_authentication(error)
        if isinstance(error, AuthenticationFailedError):
            return _said(error)
        if isinstance(error, UnsupportedSaslMechanismError):
            return await self._of_mechanism()
        if isinstance(error, IllegalSaslStateError):
            wanted = "SSL" if uses_tls(self._settings) else "PLAINTEXT"
            return f"this port takes no SASL: set {_PROTOCOL} to {wanted}"
        if isinstance(error, TimeoutError | ConnectionRefusedError | socket.gaierror):
            return None
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            return self._of_certificate(cause)
        if isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or ""):
            return self._of_alert(cause)
        return await self._of_protocol()

    def _of_authentication(self, error: SaslAuthenticationFailed) -> str:
        mechanism = self._settings.kafka_sasl_mechanism
        if mechanism == "OAUTHBEARER":
            provider = self._settings.kafka_sasl_oauth_token_provider
            setting = "EBBTIDE_KAFKA_SASL_OAUTH_TOKEN_PROVIDER"
            return f"the token of {provider} is refused (setting {setting}): {_said(error)}"
        return (
            f"user {self._settings.kafka_sasl_username!r} or the password is wrong for {mechanism} "
            f"(settings EBBTIDE_KAFKA_SASL_USERNAME, EBBTIDE_KAFKA_SASL_PASSWORD): {_said(error)}"
        )

    async def _of_mechanism(self) -> str:
        asked = self._settings.kafka_sasl_mechanism
        offered = ""
        try:
            answer = await self._ask(SaslHandShakeRequest(asked), self._without_sasl())
            offered = f": it has {', '.join(sorted(answer.enabled_mechanisms))}"
        except (KafkaError, OSError):
            pass  # then it is named without the others
        return f"the broker has no {asked} (setting EBBTIDE_KAFKA_SASL_MECHANISM){offered}"

    def _of_certificate(self, error: ssl.SSLCertVerificationError) -> str:
        if error.verify_code == _EXPIRED:
            return "the broker's certificate has expired"
        if error.verify_code == _NOT_YET_VALID:
            return "the broker's certificate is not valid yet, or this machine's clock is wrong"
        if error.verify_code in _OTHER_HOST:
            told = "EBBTIDE_KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM=none takes it all the same"
            return f"the broker's certificate is not made out to {self._host} ({told})"
        authorities = self._settings.kafka_ssl_ca_location or "those that the system trusts"
        said = one_line(error.verify_message)
        return (
            "the broker's certificate is signed by none of the authorities in EBBTIDE_KAFKA_SSL_CA_LOCATION "
            f"({authorities}): {said}"
        )

    def _of_alert(self, error: ssl.SSLError) -> str | None:
        """The broker's word on our certificate."""
        said = (error.reason or "").partition("ALERT_")[2].replace("_", " ").lower()
        name = "EBBTIDE_KAFKA_SSL_CERTIFICATE_LOCATION"
        certificate = self._settings.kafka_ssl_certificate_location
        if certificate is None:
            return f"the broker asks for a certificate of the client's: set {name} ({said})"
        return f"the broker refuses the certificate in {certificate} (setting {name}): {said}"

    async def _of_protocol(self) -> str | None:
        """Whether the port speaks another protocol than ours."""
        sasl = "SASL_" if uses_sasl(self._settings) else ""
        ours = self._settings.kafka_security_protocol
        if uses_tls(self._settings):
            if await self._answers({"security_protocol": "PLAINTEXT"}):
                return f"this port speaks no TLS: {_PROTOCOL} must be {sasl}PLAINTEXT there, not {ours}"
        elif await self._speaks_tls():
            return f"this port speaks TLS: {_PROTOCOL} must be SSL or SASL_SSL there, not {ours}"
        if not sasl and await self._answers(self._chosen) and await self._turns_us_away():
            return f"this port asks who we are: {_PROTOCOL} must be SASL_{ours} there, not {ours}"
        return None

    async def _turns_us_away(self) -> bool:
        """Whether it does so again: a broker that is just ending does it once."""
        try:
            await self.enter()
        except KafkaError:
            return True
        return False

    async def _answers(self, chosen: dict[str, Any]) -> bool:
        """Whether the broker tells which requests it knows, which it does before it is told who asks."""
        try:
            await self._ask(None, chosen)
        except (KafkaError, OSError):
            return False
        return True

    async def _speaks_tls(self) -> bool:
        """Whether it shakes hands over TLS, or means to, whoever it is."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return await asyncio.to_thread(self._shakes_hands, context)

    def _shakes_hands(self, context: ssl.SSLContext) -> bool:
        try:
            with (
                socket.create_connection((self._host, self._port), timeout=TIMEOUT_S) as plain,
                context.wrap_socket(plain),
            ):
                return True
        except OSError:
            return False

    def _without_sasl(self) -> dict[str, Any]:
        protocol = "SSL" if uses_tls(self._settings) else "PLAINTEXT"
        return {
            "security_protocol": protocol,
            **{name: value for name, value in self._chosen.items() if name == "ssl_context"},
        }

    async def _ask(self, request: Any, chosen: dict[str, Any]) -> Any:
        """One answer over a connection of its own; without a request, it is only made."""
        with closing(await _open(self._host, self._port, chosen)) as connection:
            return None if request is None else await connection.send(request)


def _said(error: KafkaError) -> str:
    """The broker's or the provider's own words, without the name of the error."""
    return one_line(str(error.args[0])) if error.args else one_line(error)
