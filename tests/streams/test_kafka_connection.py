"""Settings become the arguments of Kafka's clients, and what cannot work is one line that names the setting."""

from __future__ import annotations

import asyncio
import base64
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaError
from kafka.errors import KafkaError as KafkaPythonError

from streams.errors import UsageError
from streams.kafka.connection import aiokafka_settings, check_security, kafka_python_settings
from streams.settings import Settings, load_settings
from tests.services.certificates import Authority

PASSWORD = "sesame 57#x"
SCRAM: dict[str, Any] = {
    "kafka_security_protocol": "SASL_SSL",
    "kafka_sasl_mechanism": "SCRAM-SHA-512",
    "kafka_sasl_username": "ebbtide",
    "kafka_sasl_password": PASSWORD,
}
TOKENS: dict[str, Any] = {
    "kafka_security_protocol": "SASL_SSL",
    "kafka_sasl_mechanism": "OAUTHBEARER",
}


def a_token() -> str:
    return "a-token"


def a_token_with_extensions() -> tuple[str, dict[str, str]]:
    return "a-token", {"logicalCluster": "lkc-1"}


def no_token() -> None:
    return None


def a_failure() -> str:
    raise RuntimeError("the token service is closed")


def refusal(**settings: Any) -> str:
    """Why these settings are wrong use."""
    with pytest.raises(UsageError) as caught:
        check_security(load_settings(**settings))
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in message
    assert PASSWORD not in message
    return message


def test_plain_text_needs_nothing_else() -> None:
    """As before there were other protocols."""
    expected = {"bootstrap_servers": "k1:9092,k2:9092", "security_protocol": "PLAINTEXT"}
    settings = Settings(kafka_bootstrap_servers="k1:9092,k2:9092")
    assert aiokafka_settings(settings) == expected
    assert kafka_python_settings(settings) == {**expected, "bootstrap_servers": ["k1:9092", "k2:9092"]}


@pytest.mark.parametrize("made", [aiokafka_settings, kafka_python_settings])
def test_both_libraries_get_user_password_and_a_context_that_checks_hosts(made: Any) -> None:
    """Certificates are checked, and hosts too."""
    arguments = made(load_settings(**SCRAM))
    context = arguments.pop("ssl_context")
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    del arguments["bootstrap_servers"]
    assert arguments == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "ebbtide",
        "sasl_plain_password": PASSWORD,
    }


def test_hosts_go_unchecked_only_by_a_setting() -> None:
    """Certificates are checked all the same."""
    settings = load_settings(**SCRAM, kafka_ssl_endpoint_identification_algorithm="none")
    context = aiokafka_settings(settings)["ssl_context"]
    assert (context.check_hostname, context.verify_mode) == (False, ssl.CERT_REQUIRED)


def test_protocol_and_mechanism_may_be_written_in_small_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """As librdkafka takes them."""
    monkeypatch.setenv("EBBTIDE_KAFKA_SECURITY_PROTOCOL", "sasl_ssl")
    monkeypatch.setenv("EBBTIDE_KAFKA_SASL_MECHANISM", "scram-sha-256")
    monkeypatch.setenv("EBBTIDE_KAFKA_SASL_USERNAME", "ebbtide")
    monkeypatch.setenv("EBBTIDE_KAFKA_SASL_PASSWORD", PASSWORD)
    settings = load_settings()
    assert (settings.kafka_security_protocol, settings.kafka_sasl_mechanism) == ("SASL_SSL", "SCRAM-SHA-256")


def test_passwords_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the settings, and not where they are refused; other processes get them all the same."""
    settings = load_settings(**SCRAM)
    assert PASSWORD not in f"{settings!r} {settings}"
    assert settings.as_environment()["EBBTIDE_KAFKA_SASL_PASSWORD"] == PASSWORD
    with pytest.raises(UsageError) as caught:
        load_settings(**{**SCRAM, "kafka_sasl_password": [PASSWORD]})
    assert str(caught.value) == "EBBTIDE_KAFKA_SASL_PASSWORD: must be the password of that user, as text"


COMBINATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no mechanism": (
        {"kafka_security_protocol": "SASL_SSL"},
        "EBBTIDE_KAFKA_SASL_MECHANISM: must be set with SASL_SSL, "
        "to PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER",
    ),
    "no user": (
        {**SCRAM, "kafka_sasl_username": None},
        "EBBTIDE_KAFKA_SASL_USERNAME: must be set with SCRAM-SHA-512, to a user name of Kafka's",
    ),
    "no password": (
        {**SCRAM, "kafka_sasl_password": None},
        "EBBTIDE_KAFKA_SASL_PASSWORD: must be set with SCRAM-SHA-512, to the password of that user, as text",
    ),
    "no provider": (
        TOKENS,
        "EBBTIDE_KAFKA_SASL_OAUTH_TOKEN_PROVIDER: must be set with OAUTHBEARER, "
        "to package.module:callable, such as streams.msk_iam:token",
    ),
    "user without SASL": (
        {"kafka_sasl_username": "ebbtide"},
        "EBBTIDE_KAFKA_SASL_USERNAME: must not be set with PLAINTEXT; "
        "set EBBTIDE_KAFKA_SECURITY_PROTOCOL to SASL_SSL or SASL_PLAINTEXT",
    ),
    "password over TLS without SASL": (
        {"kafka_security_protocol": "SSL", "kafka_sasl_password": PASSWORD},
        "EBBTIDE_KAFKA_SASL_PASSWORD: must not be set with SSL; "
        "set EBBTIDE_KAFKA_SECURITY_PROTOCOL to SASL_SSL or SASL_PLAINTEXT",
    ),
    "CA without TLS": (
        {**SCRAM, "kafka_security_protocol": "SASL_PLAINTEXT", "kafka_ssl_ca_location": "ca.pem"},
        "EBBTIDE_KAFKA_SSL_CA_LOCATION: must not be set with SASL_PLAINTEXT; "
        "set EBBTIDE_KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL",
    ),
    "password with tokens": (
        {**TOKENS, "kafka_sasl_password": PASSWORD, "kafka_sasl_oauth_token_provider": "a.b:c"},
        "EBBTIDE_KAFKA_SASL_PASSWORD: must not be set with OAUTHBEARER",
    ),
    "key without certificate": (
        {"kafka_security_protocol": "SSL", "kafka_ssl_key_location": "key.pem"},
        "EBBTIDE_KAFKA_SSL_CERTIFICATE_LOCATION: must be set with a private key, "
        "to the path of a file with the client's certificate and those that lead to its CA (PEM)",
    ),
    "unknown protocol": (
        {"kafka_security_protocol": "TLS"},
        "EBBTIDE_KAFKA_SECURITY_PROTOCOL: must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, not 'TLS'",
    ),
    "unknown mechanism": (
        {**SCRAM, "kafka_sasl_mechanism": "GSSAPI"},
        "EBBTIDE_KAFKA_SASL_MECHANISM: must be PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER, not 'GSSAPI'",
    ),
}


@pytest.mark.parametrize("case", COMBINATIONS)
def test_settings_that_do_not_go_together_are_wrong_use(case: str) -> None:
    """A setting that would be ignored without a word is refused, as is one that lacks another."""
    settings, expected = COMBINATIONS[case]
    assert refusal(**settings) == expected


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


def test_a_client_certificate_is_taken_with_an_encrypted_key(authority: Authority) -> None:
    """In two files, or in one, whose order does not matter."""
    identity = authority.issue("client", password=PASSWORD)
    chosen: dict[str, Any] = {"kafka_security_protocol": "SSL", "kafka_ssl_key_password": PASSWORD}
    two: dict[str, Any] = {
        "kafka_ssl_certificate_location": identity.certificate_file,
        "kafka_ssl_key_location": identity.key_file,
    }
    check_security(load_settings(**chosen, **two))
    check_security(load_settings(**chosen, kafka_ssl_certificate_location=identity.both_file))


def test_a_file_of_certificates_and_keys_that_cannot_be_used_is_named(
    authority: Authority, tmp_path: Path
) -> None:
    """With its setting, and what is wrong with it; nobody is asked for a password on the terminal."""
    identity = authority.issue("client", password=PASSWORD)
    other = authority.issue("other")
    missing, empty = tmp_path / "missing.pem", tmp_path / "empty.pem"
    empty.touch()

    def problem(**settings: Any) -> str:
        return refusal(**{"kafka_security_protocol": "SSL", **settings})

    def of_key(key: Path, **more: Any) -> str:
        certificate = identity.certificate_file
        return problem(kafka_ssl_certificate_location=certificate, kafka_ssl_key_location=key, **more)

    ca, certificate = "EBBTIDE_KAFKA_SSL_CA_LOCATION", "EBBTIDE_KAFKA_SSL_CERTIFICATE_LOCATION"
    key, password = "EBBTIDE_KAFKA_SSL_KEY_LOCATION", "EBBTIDE_KAFKA_SSL_KEY_PASSWORD"
    unread = "cannot be read: No such file or directory"
    assert problem(kafka_ssl_ca_location=missing) == f"{ca}: {missing} {unread}"
    assert problem(kafka_ssl_ca_location=empty) == f"{ca}: {empty} holds no certificate (PEM)"
    assert problem(kafka_ssl_certificate_location=missing) == f"{certificate}: {missing} {unread}"
    assert of_key(missing) == f"{key}: {missing} {unread}"
    assert of_key(empty) == (
        f"{certificate}: {identity.certificate_file} must hold a certificate, and {empty} its private key (PEM)"
    )
    assert of_key(other.key_file) == (
        f"{key}: {other.key_file} is not the key of the certificate in {identity.certificate_file}"
    )
    encrypted = identity.key_file
    assert of_key(encrypted) == f"{password}: must be set, since the key in {encrypted} is encrypted"
    wrong = of_key(encrypted, kafka_ssl_key_password="another")
    assert wrong == f"{password}: is not the password of the key in {encrypted}"


# ------------------------------------------------------------------- tokens


def by(provider: str) -> Settings:
    return load_settings(**TOKENS, kafka_sasl_oauth_token_provider=provider)


async def test_a_function_of_ones_own_gives_tokens_to_both_libraries() -> None:
    """With extensions or without."""
    for name, extensions in (("a_token", {}), ("a_token_with_extensions", {"logicalCluster": "lkc-1"})):
        settings = by(f"{__name__}:{name}")
        provider = aiokafka_settings(settings)["sasl_oauth_token_provider"]
        assert (await provider.token(), provider.extensions()) == ("a-token", extensions)
        provider = kafka_python_settings(settings)["sasl_oauth_token_provider"]
        assert (provider.token(), provider.extensions()) == ("a-token", extensions)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        ("a_failure", "RuntimeError: the token service is closed"),
        ("no_token", "TypeError: gave neither a token nor a pair of a token and its extensions"),
    ],
)
async def test_a_function_that_gives_no_token_is_an_error_of_the_connection(
    function: str, problem: str
) -> None:
    """Of the library's own kind, so that a worker tries again; it names the setting."""
    settings = by(f"{__name__}:{function}")
    expected = f"EBBTIDE_KAFKA_SASL_OAUTH_TOKEN_PROVIDER: {__name__}:{function}: {problem}"
    with pytest.raises(KafkaError) as caught:
        await aiokafka_settings(settings)["sasl_oauth_token_provider"].token()
    assert expected in str(caught.value)
    with pytest.raises(KafkaPythonError) as said:
        await asyncio.to_thread(kafka_python_settings(settings)["sasl_oauth_token_provider"].token)
    assert expected in str(said.value)


@pytest.mark.parametrize(
    ("provider", "problem"),
    [
        ("no.such.module:token", "cannot be imported: No module named 'no'"),
        (
            f"{__name__}:no_such_function",
            f"cannot be imported: module '{__name__}' has no attribute 'no_such_function'",
        ),
        (f"{__name__}:PASSWORD", "is no function"),
    ],
)
def test_a_provider_that_is_none_is_wrong_use(provider: str, problem: str) -> None:
    """The line names the setting and the provider."""
    setting = "EBBTIDE_KAFKA_SASL_OAUTH_TOKEN_PROVIDER"
    assert refusal(**TOKENS, kafka_sasl_oauth_token_provider=provider) == f"{setting}: {provider} {problem}"


def test_a_provider_without_a_function_is_wrong_use() -> None:
    """Both the module and the function are needed."""
    assert refusal(**TOKENS, kafka_sasl_oauth_token_provider="streams.msk_iam") == (
        "EBBTIDE_KAFKA_SASL_OAUTH_TOKEN_PROVIDER: must be package.module:callable, "
        "such as streams.msk_iam:token, not 'streams.msk_iam'"
    )


# ------------------------------------------------------------ Amazon MSK's IAM


async def test_tokens_of_msk_are_signed_requests_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """By AWS' own signer, for the region and the key that the environment names; no network is needed."""
    pytest.importorskip("aws_msk_iam_sasl_signer", reason="needs the extra msk")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret of AWS'")
    token = await aiokafka_settings(by("streams.msk_iam:token"))["sasl_oauth_token_provider"].token()
    request = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    assert request.startswith("https://kafka.eu-west-1.amazonaws.com/?Action=kafka-cluster%3AConnect&")
    assert "AKIDEXAMPLE" in request
    assert "a%20secret" not in request


async def test_tokens_of_msk_need_the_extra_and_a_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is named where it lacks."""
    provider = aiokafka_settings(by("streams.msk_iam:token"))["sasl_oauth_token_provider"]
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "aws_msk_iam_sasl_signer", None)
        with pytest.raises(KafkaError, match=r"needs the extra `msk`: pip install 'ebbtide\[msk\]'"):
            await provider.token()
    pytest.importorskip("aws_msk_iam_sasl_signer", reason="needs the extra msk")
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with pytest.raises(KafkaError, match="set AWS_REGION to the region of the cluster"):
        await provider.token()
