"""What the settings of Kafka imply without connecting, and which of them belong together."""

from __future__ import annotations

from typing import Final

from streams.errors import UsageError
from streams.settings.settings import Settings, variable

_OF_PASSWORDS: Final = ("kafka_sasl_username", "kafka_sasl_password")
_OF_TOKENS: Final = ("kafka_sasl_oauth_token_provider",)
_OF_TLS: Final = (
    "kafka_ssl_ca_location",
    "kafka_ssl_certificate_location",
    "kafka_ssl_key_location",
    "kafka_ssl_key_password",
)


def uses_tls(settings: Settings) -> bool:
    """Whether connections are encrypted."""
    return settings.kafka_security_protocol.endswith("SSL")


def uses_sasl(settings: Settings) -> bool:
    """Whether connections begin with a name and a proof of it."""
    return settings.kafka_security_protocol.startswith("SASL_")


def lacks_rights(settings: Settings, *rights: str) -> str:
    """What is said where Kafka lets us in and does not let us do something, such as "Read on topic purchases"."""
    name = settings.kafka_sasl_username
    account = "the account that Kafka takes us for" if name is None else f"user {name}"
    return f"{account} lacks rights: {'; '.join(rights)}"


def check_combination(settings: Settings) -> None:
    """Raise `UsageError` where a setting of the connection lacks another one, or would be ignored without a word."""
    protocol, mechanism = settings.kafka_security_protocol, settings.kafka_sasl_mechanism
    if not uses_tls(settings):
        _refuse(
            settings,
            _OF_TLS,
            f"with {protocol}; set {variable('kafka_security_protocol')} to SSL or SASL_SSL",
        )
    if not uses_sasl(settings):
        others = ("kafka_sasl_mechanism", *_OF_PASSWORDS, *_OF_TOKENS)
        wanted = "SASL_SSL or SASL_PLAINTEXT"
        _refuse(settings, others, f"with {protocol}; set {variable('kafka_security_protocol')} to {wanted}")
    else:
        _require(settings, ("kafka_sasl_mechanism",), protocol)
        needed, useless = (
            (_OF_TOKENS, _OF_PASSWORDS) if mechanism == "OAUTHBEARER" else (_OF_PASSWORDS, _OF_TOKENS)
        )
        _refuse(settings, useless, f"with {mechanism}")
        _require(settings, needed, str(mechanism))
    if settings.kafka_ssl_key_location is not None or settings.kafka_ssl_key_password is not None:
        _require(settings, ("kafka_ssl_certificate_location",), "a private key")


def _refuse(settings: Settings, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if getattr(settings, name) is not None:
            raise UsageError(f"{variable(name)}: must not be set {why}")


def _require(settings: Settings, names: tuple[str, ...], other: str) -> None:
    for name in names:
        if getattr(settings, name) is None:
            raise UsageError(
                f"{variable(name)}: must be set with {other}, to {Settings.model_fields[name].description}"
            )
