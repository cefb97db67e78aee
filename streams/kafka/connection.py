"""How Kafka is connected to: the settings as keyword arguments of both client libraries, in this one place."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from streams.errors import UsageError
from streams.kafka.tokens import AiokafkaTokens, KafkaPythonTokens, load_token_source
from streams.settings import Settings, variable
from streams.settings.kafka_security import check_combination, uses_sasl, uses_tls


def aiokafka_settings(settings: Settings) -> dict[str, Any]:
    """What every client of aiokafka's is made with.

    Raises:
        UsageError: a setting lacks another one, or names what cannot be used.
    """
    return {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        **_security(settings, AiokafkaTokens),
    }


def kafka_python_settings(settings: Settings) -> dict[str, Any]:
    """What every client of kafka-python's is made with; raises as `aiokafka_settings` does."""
    return {
        "bootstrap_servers": settings.kafka_bootstrap_servers.split(","),
        **_security(settings, KafkaPythonTokens),
    }


def check_security(settings: Settings) -> None:
    """Raise `UsageError` where no client could be made of these settings; Kafka is not asked."""
    _security(settings, AiokafkaTokens)


def _security(settings: Settings, tokens: type[AiokafkaTokens] | type[KafkaPythonTokens]) -> dict[str, Any]:
    """What both libraries call alike; only the providers of tokens differ."""
    check_combination(settings)
    chosen: dict[str, Any] = {"security_protocol": settings.kafka_security_protocol}
    if uses_tls(settings):
        chosen["ssl_context"] = _ssl_context(settings)
    if not uses_sasl(settings):
        return chosen
    chosen["sasl_mechanism"] = settings.kafka_sasl_mechanism
    if settings.kafka_sasl_oauth_token_provider is not None:
        source = load_token_source(settings.kafka_sasl_oauth_token_provider)
        return {**chosen, "sasl_oauth_token_provider": tokens(source)}
    assert settings.kafka_sasl_password is not None
    return {
        **chosen,
        "sasl_plain_username": settings.kafka_sasl_username,
        "sasl_plain_password": settings.kafka_sasl_password.get_secret_value(),
    }


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    """Of a client that checks the broker's certificate, and shows its own if it has one."""
    authorities = settings.kafka_ssl_ca_location
    if authorities is not None:
        _check_readable("kafka_ssl_ca_location", authorities)
    try:
        context = ssl.create_default_context(cafile=authorities)
    except ssl.SSLError:
        raise UsageError(
            f"{variable('kafka_ssl_ca_location')}: {authorities} holds no certificate (PEM)"
        ) from None
    context.check_hostname = settings.kafka_ssl_endpoint_identification_algorithm == "https"
    if settings.kafka_ssl_certificate_location is not None:
        _show_certificate(context, settings, settings.kafka_ssl_certificate_location)
    return context


def _show_certificate(context: ssl.SSLContext, settings: Settings, certificate: Path) -> None:
    key = settings.kafka_ssl_key_location or certificate
    _check_readable("kafka_ssl_certificate_location", certificate)
    _check_readable("kafka_ssl_key_location", key)
    given = settings.kafka_ssl_key_password
    is_encrypted = False

    def password() -> str:
        """Asked for of an encrypted key only; without this function OpenSSL would ask on the terminal."""
        nonlocal is_encrypted
        is_encrypted = True
        return "" if given is None else given.get_secret_value()

    try:
        context.load_cert_chain(certificate, key, password)
    except (ssl.SSLError, ValueError) as error:
        if is_encrypted and given is None:
            problem = (
                f"{variable('kafka_ssl_key_password')}: must be set, since the key in {key} is encrypted"
            )
        elif is_encrypted:
            problem = f"{variable('kafka_ssl_key_password')}: is not the password of the key in {key}"
        elif isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            problem = f"{variable('kafka_ssl_key_location')}: {key} is not the key of the certificate in {certificate}"
        else:
            problem = (
                f"{variable('kafka_ssl_certificate_location')}: {certificate} must hold a certificate, "
                f"and {key} its private key (PEM)"
            )
        raise UsageError(problem) from None


def _check_readable(name: str, path: Path) -> None:
    """OpenSSL does not tell which file it could not read."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise UsageError(f"{variable(name)}: {path} cannot be read: {error.strerror}") from None
