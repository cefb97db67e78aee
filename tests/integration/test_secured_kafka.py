"""A Kafka with TLS, SASL and an authorizer is worked with like any other, and what it refuses is one clear line."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from streams.cli.commands import main
from streams.errors import EbbtideError
from streams.kafka.access import require_access
from streams.kafka.clients import read_committed_offsets
from streams.operations.doctor import Finding, check_kafka
from streams.settings import Settings
from tests import services
from tests.integration.harness import (
    ROOT,
    Record,
    changes_of,
    check_sequences,
    make_settings,
    make_topics,
    process_environment,
    produce,
    real_clients,
    record_of,
    running,
    until,
    until_idle,
    worker_process,
)
from tests.services import OwnRedis
from tests.services.certificates import Authority, Identity
from tests.services.fork_server import run_forked
from tests.services.secured_kafka import PLAIN_PASSWORD, PLAIN_USER, REAUTHENTICATED_MS, SecuredKafka

OPERATING = ROOT / "docs" / "operating.md"
PASSWORD = "a password, with = and 57#x"
KEY_PASSWORD = "the key's password"
PARTITIONS = 2
KINDS = {"topic": "topic", "group": "group", "transactional ids": "transactional_id"}


class Right(NamedTuple):
    """One operation on one kind of resource; names are those of the default settings, and end with * for a prefix."""

    operation: str
    kind: str
    name: str


def documented_rights() -> list[Right]:
    """The rights that docs/operating.md says a worker needs, one by one."""
    table = OPERATING.read_text("utf-8").partition("| a worker needs | rights |\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| ([a-z ]+) `([^`]+)` \| ([A-Za-z, ]+) \|$", table, re.MULTILINE)
    assert len(rows) == len(table.splitlines()) - 1
    return [
        Right(operation, KINDS[kind], name)
        for kind, name, operations in rows
        for operation in operations.split(", ")
    ]


RIGHTS = documented_rights()


@pytest.fixture(scope="module")
def redis_of_module() -> Iterator[OwnRedis]:
    """Empty at first; groups keep their keys apart."""
    with services.start_own_redis() as service:
        yield service


@pytest.fixture
def opened(secured_kafka: SecuredKafka, redis_of_module: OwnRedis, unique_prefix: str) -> Settings:
    """Settings of a group with topics of its own, as the superuser, for what the test itself does."""
    return make_settings(secured_kafka.servers("OPEN"), redis_of_module.url, unique_prefix)


def secured_by(
    settings: Settings, secured_kafka: SecuredKafka, listener: str, protocol: str, **more: Any
) -> Settings:
    """The same settings at another listener; with TLS, by the right CA unless told otherwise."""
    chosen = {name: getattr(settings, name) for name in settings.model_fields_set}
    chosen |= {
        "kafka_bootstrap_servers": secured_kafka.servers(listener),
        "kafka_security_protocol": protocol,
    }
    if protocol.endswith("SSL"):
        chosen["kafka_ssl_ca_location"] = secured_kafka.authority.ca_file
    return Settings(**{**chosen, **more})


def by_scram(settings: Settings, secured_kafka: SecuredKafka, user: str, **more: Any) -> Settings:
    """As a user of SCRAM over TLS."""
    chosen = {
        "kafka_sasl_mechanism": "SCRAM-SHA-512",
        "kafka_sasl_username": user,
        "kafka_sasl_password": PASSWORD,
    }
    return secured_by(settings, secured_kafka, "SECURED", "SASL_SSL", **{**chosen, **more})


def named(right: Right, settings: Settings) -> tuple[str, str, str]:
    """A documented right for the group of a test."""
    prefix, group = settings.topic_prefix, settings.group_id
    names = {
        "topic": f"{prefix}{right.name}",
        "group": group,
        "transactional_id": f"ebbtide-{prefix}:{group}-*",
    }
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", right.operation), right.kind, names[right.kind]


def errors(findings: list[Finding]) -> list[str]:
    return [finding.message for finding in findings if finding.status == "error"]


async def until_let_in(settings: Settings) -> None:
    """Wait until the broker has taken notice of a user and their rights, and nothing is wrong."""
    found: list[str] = []

    def is_well() -> bool:
        found[:] = errors(check_kafka(settings))
        return not found

    try:
        await until(is_well, "let in", 20.0)
    except AssertionError as error:
        raise AssertionError(f"{error}: {found}") from None


def order(customer: str, number: int) -> dict[str, Any]:
    return {
        "event_id": f"{customer}-{number}",
        "customer_id": customer,
        "occurred_at": "2025-01-09T12:00:00Z",
        "kind": "order",
        "order_id": f"{customer}-o{number}",
        "currency": "USD",
        "total": "10.00",
    }


@pytest.mark.deep
async def test_the_documented_rights_are_enough_from_the_first_record_to_a_restore(
    secured_kafka: SecuredKafka,
    opened: Settings,
    redis_of_module: OwnRedis,
    unique_prefix: str,
    tmp_path: Path,
) -> None:
    """With exactly these a worker by SCRAM over TLS publishes, restores an emptied Redis, and is well by `doctor`."""
    await make_topics(opened, PARTITIONS)
    user = f"{unique_prefix}user"
    secured_kafka.set_password(user, PASSWORD)
    secured_kafka.allow(user, [named(right, opened) for right in RIGHTS])
    settings = by_scram(opened, secured_kafka, user)
    await until_let_in(settings)
    await produce(opened, [record_of("purchases", order(f"c{n}", 1), PARTITIONS) for n in range(20)])
    with worker_process(settings, tmp_path / "first.log") as worker:
        await worker.until(lambda: worker.is_idle(PARTITIONS), "all taken")
        assert worker.terminate() == 0
    published = await changes_of(opened)
    assert {change["customer_id"] for change in published} == {f"c{n}" for n in range(20)}

    with redis_of_module.client() as client:
        for key in client.scan_iter(f"*{unique_prefix}*"):
            client.delete(key)
    await produce(opened, [record_of("purchases", order("late", 1), PARTITIONS)])
    with worker_process(settings, tmp_path / "second.log") as worker:
        await worker.until(lambda: worker.is_idle(PARTITIONS), "restored")
        doctor = run_forked(["streams", "doctor"], process_environment(settings))
        assert (doctor.returncode, doctor.stderr) == (0, ""), doctor.stdout
        assert worker.terminate() == 0
    after = await changes_of(opened)
    assert {change["change_id"] for change in published} < {change["change_id"] for change in after}
    check_sequences(after)
    assert {change["customer_id"] for change in after} == {"late", *(f"c{n}" for n in range(20))}
    assert "restored" in (tmp_path / "second.log").read_text("utf-8")
    for log in ("first.log", "second.log"):
        assert PASSWORD not in (tmp_path / log).read_text("utf-8")


def each_right() -> list[Any]:
    """One of each operation on each kind of resource; the others are deep."""
    kinds = set[tuple[str, str]]()
    found = []
    for right in RIGHTS:
        marks = [pytest.mark.deep] * ((right.operation, right.kind) in kinds)
        kinds.add((right.operation, right.kind))
        found.append(pytest.param(right, id=f"{right.operation}-{right.name}", marks=marks))
    return found


@pytest.mark.parametrize("lacking", each_right())
async def test_each_documented_right_is_named_where_it_lacks(
    secured_kafka: SecuredKafka, opened: Settings, unique_prefix: str, lacking: Right
) -> None:
    """By the check that `doctor` and `run` begin with, and no other right beside it."""
    await make_topics(opened)
    user = f"{unique_prefix}user"
    secured_kafka.set_password(user, PASSWORD)
    secured_kafka.allow(user, [named(right, opened) for right in RIGHTS if right != lacking])
    settings = by_scram(opened, secured_kafka, user)
    name = named(lacking, opened)[2]
    where = {
        "topic": f"topic {name}",
        "group": f"group {name}",
        "transactional_id": f"transactional ids that begin with {name.removesuffix('*')}",
    }[lacking.kind]
    expected = [f"user {user} lacks rights: {lacking.operation} on {where}"]
    found: list[str] = []

    def is_named() -> bool:
        found[:] = errors(check_kafka(settings))
        return found == expected

    try:
        await until(is_named, "named", 15.0)
    except AssertionError:
        assert found == expected


@pytest.fixture
def ebbtide(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """A command line with the settings given: exit code, and all that it wrote."""

    def run(settings: Settings, *arguments: str) -> tuple[int, str]:
        for name, value in settings.as_environment().items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        code = main(list(arguments))
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.mark.parametrize("command", [("run",), ("doctor",)], ids=" ".join)
def test_a_missing_right_ends_a_start_and_is_an_error_of_doctor(
    secured_kafka: SecuredKafka, opened: Settings, unique_prefix: str, ebbtide: Any, command: tuple[str, ...]
) -> None:
    """One line has all rights that lack, by resource; here all of them do."""
    user = f"{unique_prefix}user"
    secured_kafka.set_password(user, PASSWORD)
    settings = by_scram(opened, secured_kafka, user)
    wait_for_user(settings)
    code, said = ebbtide(settings, *command)
    lines = [line for line in said.splitlines() if "lacks rights" in line]
    assert (code, len(lines)) == (1, 1)
    assert f"Read, DescribeConfigs on topic {unique_prefix}purchases" in lines[0]
    assert f"Read, Write, DescribeConfigs on topic {unique_prefix}ebbtide-decisions" in lines[0]
    assert f"Read on group {opened.group_id}" in lines[0]


def wait_for_user(settings: Settings) -> None:
    """Until the broker knows a user that was just made."""
    deadline = time.monotonic() + 15.0
    while True:
        try:
            return require_access(settings)
        except EbbtideError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


OPERATIONS: dict[str, tuple[tuple[str, ...], list[tuple[str, str, str]]]] = {
    "topics create": (("topics", "create", "--partitions", "1"), [("CREATE", "topic", "ebbtide-decisions")]),
    "dlq list": (("dlq", "list"), [("READ", "topic", "dead-letters")]),
    "dlq redrive": (("dlq", "redrive"), [("READ", "topic", "dead-letters"), ("WRITE", "topic", "purchases")]),
    "erase": (("erase", "c1", "--partition", "0"), [("WRITE", "topic", "consents")]),
}
"""Commands, and the rights that they need beside a worker's, as docs/operating.md says; the last one is taken away."""


@pytest.mark.parametrize("command", OPERATIONS)
async def test_a_command_needs_the_documented_rights_more_and_names_the_one_that_lacks(
    secured_kafka: SecuredKafka, opened: Settings, unique_prefix: str, ebbtide: Any, command: str
) -> None:
    """It ends with 1 and one line without the right, and with 0 with it."""
    arguments, more = OPERATIONS[command]
    await make_topics(opened)
    user = f"{unique_prefix}user"
    secured_kafka.set_password(user, PASSWORD)
    rights = [named(right, opened) for right in RIGHTS]
    rights += [(operation, kind, f"{unique_prefix}{name}") for operation, kind, name in more]
    secured_kafka.allow(user, rights[:-1])
    settings = by_scram(opened, secured_kafka, user)
    await until_let_in(settings)
    await produce(opened, [Record("purchases", b"c1", b"{")])
    async with running(opened) as worker:
        await until_idle(opened, worker)
    if command == "topics create":
        with secured_kafka.superuser() as admin:
            admin.delete_topics([rights[-1][2]])
    code, said = await asyncio.to_thread(ebbtide, settings, *arguments)
    operation, _, topic = rights[-1]
    assert code == 1
    assert f"user {user} lacks rights: {operation.title()} on topic {topic}" in said
    assert sum("error" in line for line in said.splitlines()) == 1

    secured_kafka.allow(user, rights[-1:])

    deadline = time.monotonic() + 20.0
    while code != 0:  # until the broker has taken notice of the right
        code, said = await asyncio.to_thread(ebbtide, settings, *arguments)
        assert code == 0 or time.monotonic() < deadline, said


# ------------------------------------------------- ways in


def b64(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


def superuser_token() -> str:
    """Of the superuser, unsigned, which the broker of these tests takes."""
    issued_s = int(time.time()) - 60  # the broker's clock may be read as a moment before ours
    return f"{b64({'alg': 'none'})}.{b64({'sub': 'ANONYMOUS', 'iat': issued_s, 'exp': issued_s + 900})}."


def token_with_extensions() -> tuple[str, dict[str, str]]:
    """With what goes beside a token, which this broker refuses unless it is spelt right."""
    return superuser_token(), {"logicalCluster": "lkc1"}


def broken_token() -> str:
    """No JSON Web Token."""
    return "not-a-token"


def no_token() -> str:
    """Nobody gives one."""
    raise RuntimeError("the token service is closed")


def by_tokens(
    settings: Settings, secured_kafka: SecuredKafka, provider: str, listener: str = "SECURED"
) -> Settings:
    return secured_by(
        settings,
        secured_kafka,
        listener,
        "SASL_SSL",
        kafka_sasl_mechanism="OAUTHBEARER",
        kafka_sasl_oauth_token_provider=f"{__name__}:{provider}",
    )


@pytest.mark.parametrize("listener", ["SECURED", "CLEAR"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"])
def test_every_mechanism_lets_both_client_libraries_in(
    secured_kafka: SecuredKafka, opened: Settings, unique_prefix: str, mechanism: str, listener: str
) -> None:
    """With and without TLS: aiokafka asks for brokers, kafka-python for rights, topics and committed offsets."""
    protocol = "SASL_SSL" if listener == "SECURED" else "SASL_PLAINTEXT"
    more: dict[str, Any] = {"kafka_sasl_mechanism": mechanism}
    if mechanism == "OAUTHBEARER":
        more["kafka_sasl_oauth_token_provider"] = f"{__name__}:token_with_extensions"
    elif mechanism == "PLAIN":
        more |= {"kafka_sasl_username": PLAIN_USER, "kafka_sasl_password": PLAIN_PASSWORD}
        secured_kafka.allow(PLAIN_USER, [("READ", "group", opened.group_id)])
    else:
        user = f"{unique_prefix}user"
        secured_kafka.set_password(user, PASSWORD)
        secured_kafka.allow(user, [("READ", "group", opened.group_id)])
        more |= {"kafka_sasl_username": user, "kafka_sasl_password": PASSWORD}
    settings = secured_by(opened, secured_kafka, listener, protocol, **more)
    wait_for_user(settings)
    said = errors(check_kafka(settings))
    assert len(said) == 1
    assert "missing: " in said[0] or "lacks rights" in said[0]
    assert mechanism != "OAUTHBEARER" or "missing: " in said[0]


def client_certificate(
    secured_kafka: SecuredKafka, name: str, authority: Authority | None = None
) -> Identity:
    return (authority or secured_kafka.authority).issue(name, password=KEY_PASSWORD)


def by_certificate(
    settings: Settings, secured_kafka: SecuredKafka, identity: Identity, **more: Any
) -> Settings:
    chosen = {
        "kafka_ssl_certificate_location": identity.certificate_file,
        "kafka_ssl_key_location": identity.key_file,
        "kafka_ssl_key_password": KEY_PASSWORD,
    }
    return secured_by(settings, secured_kafka, "MUTUAL", "SSL", **{**chosen, **more})


async def test_a_client_certificate_is_who_we_are(
    secured_kafka: SecuredKafka, opened: Settings, unique_prefix: str
) -> None:
    """Its key is encrypted; the rights of its subject are ours, and a worker works."""
    await make_topics(opened)
    name = f"{unique_prefix}client"
    secured_kafka.allow(f"CN={name}", [named(right, opened) for right in RIGHTS])
    settings = by_certificate(opened, secured_kafka, client_certificate(secured_kafka, name))
    await until_let_in(settings)
    await produce(opened, [record_of("purchases", order("c1", 1))])
    async with running(settings) as worker:
        await until(lambda: worker.is_idle and bool(worker.states()[0].changes), "published")
    check_sequences(await changes_of(opened))


async def test_sessions_that_end_cost_connections_and_nothing_else(
    secured_kafka: SecuredKafka, opened: Settings
) -> None:
    """A broker drops whoever has not authenticated anew within 2 s; records that come later are published once."""
    await make_topics(opened)
    settings = by_tokens(opened, secured_kafka, "superuser_token", "SHORT")
    async with running(settings) as worker:
        for number in range(1, 5):
            ends_s = time.monotonic() + REAUTHENTICATED_MS / 1000
            await produce(opened, [record_of("purchases", order(f"c{number}", 1))])
            await until_idle(opened, worker)
            await asyncio.sleep(max(ends_s - time.monotonic(), 0))  # every session that there was has ended
        assert worker.failure is None
    changes = await changes_of(opened)
    check_sequences(changes)
    assert {change["customer_id"] for change in changes} == {"c1", "c2", "c3", "c4"}


# ------------------------------------------------- ways that stay shut


def refused_settings(case: str, settings: Settings, secured_kafka: SecuredKafka) -> Settings:
    """What is wrong in each case below."""
    scram = by_scram(settings, secured_kafka, "nobody")
    if case == "wrong password":
        return scram
    if case == "wrong password of PLAIN":
        return by_scram(settings, secured_kafka, PLAIN_USER, kafka_sasl_mechanism="PLAIN")
    if case == "refused token":
        return by_tokens(settings, secured_kafka, "broken_token")
    if case == "no token":
        return by_tokens(settings, secured_kafka, "no_token")
    if case == "unsigned CA":
        stranger = Authority(secured_kafka.folder, "stranger")
        return by_scram(settings, secured_kafka, "nobody", kafka_ssl_ca_location=stranger.ca_file)
    if case == "system's CAs":
        return by_scram(settings, secured_kafka, "nobody", kafka_ssl_ca_location=None)
    if case == "expired":
        return secured_by(settings, secured_kafka, "EXPIRED", "SSL")
    if case == "other host":
        return secured_by(
            settings,
            secured_kafka,
            "TLS",
            "SSL",
            kafka_bootstrap_servers=secured_kafka.servers("TLS", "localhost"),
        )
    if case == "no client certificate":
        return secured_by(settings, secured_kafka, "MUTUAL", "SSL")
    if case == "client certificate of a stranger":
        stranger = Authority(secured_kafka.folder, "stranger")
        return by_certificate(settings, secured_kafka, client_certificate(secured_kafka, "foreign", stranger))
    listener, protocol = case.split(" at ")[1], case.split(" at ")[0]
    if protocol.startswith("SASL_"):
        return secured_by(
            settings,
            secured_kafka,
            listener,
            protocol,
            kafka_sasl_mechanism="PLAIN",
            kafka_sasl_username=PLAIN_USER,
            kafka_sasl_password=PLAIN_PASSWORD,
        )
    return secured_by(settings, secured_kafka, listener, protocol)


REFUSED = {
    "wrong password": "user 'nobody' or the password is wrong for SCRAM-SHA-512 "
    "(settings EBBTIDE_KAFKA_SASL_USERNAME, EBBTIDE_KAFKA_SASL_PASSWORD)",
    "wrong password of PLAIN": f"user '{PLAIN_USER}' or the password is wrong for PLAIN ",
    "refused token": f"the token of {__name__}:broken_token is refused "
    "(setting EBBTIDE_KAFKA_SASL_OAUTH_TOKEN_PROVIDER)",
    "no token": f"EBBTIDE_KAFKA_SASL_OAUTH_TOKEN_PROVIDER: {__name__}:no_token: RuntimeError: "
    "the token service is closed",
    "unsigned CA": "signed by none of the authorities in EBBTIDE_KAFKA_SSL_CA_LOCATION",
    "system's CAs": "signed by none of the authorities in EBBTIDE_KAFKA_SSL_CA_LOCATION "
    "(those that the system trusts)",
    "expired": "the broker's certificate has expired",
    "other host": "the broker's certificate is not made out to localhost",
    "no client certificate": "asks for a certificate of the client's: set EBBTIDE_KAFKA_SSL_CERTIFICATE_LOCATION",
    "client certificate of a stranger": "the broker refuses the certificate in ",
    "PLAINTEXT at TLS": "speaks TLS: EBBTIDE_KAFKA_SECURITY_PROTOCOL must be SSL or SASL_SSL there, not PLAINTEXT",
    "PLAINTEXT at SECURED": "speaks TLS: EBBTIDE_KAFKA_SECURITY_PROTOCOL must be SSL or SASL_SSL there",
    "PLAINTEXT at CLEAR": "EBBTIDE_KAFKA_SECURITY_PROTOCOL must be SASL_PLAINTEXT there, not PLAINTEXT",
    "SSL at OPEN": "speaks no TLS: EBBTIDE_KAFKA_SECURITY_PROTOCOL must be PLAINTEXT there, not SSL",
    "SSL at SECURED": "EBBTIDE_KAFKA_SECURITY_PROTOCOL must be SASL_SSL there, not SSL",
    "SASL_PLAINTEXT at SECURED": "speaks TLS: EBBTIDE_KAFKA_SECURITY_PROTOCOL must be SSL or SASL_SSL there",
    "SASL_PLAINTEXT at OPEN": "takes no SASL: set EBBTIDE_KAFKA_SECURITY_PROTOCOL to PLAINTEXT",
    "SASL_SSL at TLS": "takes no SASL: set EBBTIDE_KAFKA_SECURITY_PROTOCOL to SSL",
    "SASL_SSL at CLEAR": "speaks no TLS: EBBTIDE_KAFKA_SECURITY_PROTOCOL must be SASL_PLAINTEXT there",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_keeps_us_out_is_one_line_that_names_the_setting(
    secured_kafka: SecuredKafka, opened: Settings, ebbtide: Any, case: str
) -> None:
    """A start ends with exit code 1, whatever of the connection is wrong, and prints no secret."""
    settings = refused_settings(case, opened, secured_kafka)
    code, said = ebbtide(settings, "run")
    assert (code, len(said.splitlines())) == (1, 1), said
    assert said.startswith("ebbtide: error: kafka: ")
    assert f"Kafka at {settings.kafka_bootstrap_servers} " in said
    assert REFUSED[case] in said
    assert not any(secret in said for secret in (PASSWORD, PLAIN_PASSWORD, KEY_PASSWORD))


@pytest.mark.parametrize(
    "command",
    [
        ("doctor",),
        ("topics", "create"),
        ("topics", "describe"),
        ("dlq", "list"),
        ("dlq", "redrive"),
        ("erase", "c1"),
    ],
    ids=" ".join,
)
def test_every_command_that_asks_kafka_says_why_it_is_kept_out(
    secured_kafka: SecuredKafka, opened: Settings, ebbtide: Any, command: tuple[str, ...]
) -> None:
    """Each makes its clients of the same settings."""
    code, said = ebbtide(by_scram(opened, secured_kafka, "nobody"), *command)
    assert code == 1
    assert sum("or the password is wrong for SCRAM-SHA-512" in line for line in said.splitlines()) == 1


def test_a_mechanism_that_the_broker_lacks_is_told_with_those_it_has(
    secured_kafka: SecuredKafka, opened: Settings, ebbtide: Any
) -> None:
    """One listener of the broker takes SCRAM-SHA-256 only."""
    settings = by_scram(
        opened,
        secured_kafka,
        "nobody",
        kafka_bootstrap_servers=secured_kafka.servers("SINGLE"),
        kafka_sasl_mechanism="PLAIN",
    )
    code, said = ebbtide(settings, "run")
    assert (code, len(said.splitlines())) == (1, 1)
    assert "the broker has no PLAIN (setting EBBTIDE_KAFKA_SASL_MECHANISM): it has SCRAM-SHA-256" in said


def test_a_host_that_is_not_checked_is_let_pass(secured_kafka: SecuredKafka, opened: Settings) -> None:
    """Only by a setting; what the certificate is signed by is checked all the same."""
    at_localhost = {
        "kafka_bootstrap_servers": secured_kafka.servers("TLS", "localhost"),
        "kafka_ssl_endpoint_identification_algorithm": "none",
    }
    require_access(secured_by(opened, secured_kafka, "TLS", "SSL", **at_localhost))
    with pytest.raises(EbbtideError, match="signed by none of the authorities"):
        require_access(
            secured_by(opened, secured_kafka, "TLS", "SSL", **at_localhost, kafka_ssl_ca_location=None)
        )


@pytest.mark.parametrize("kind", ["consumer", "producer"])
async def test_a_client_of_the_worker_says_why_it_is_not_let_in(
    secured_kafka: SecuredKafka, opened: Settings, kind: str
) -> None:
    """So that a partition's reason on `/readyz` is more than a broker that it does not reach."""
    async with real_clients(by_scram(opened, secured_kafka, "nobody")) as clients:
        client = clients.consumer() if kind == "consumer" else clients.producer()
        try:
            with pytest.raises(
                EbbtideError, match="user 'nobody' or the password is wrong for SCRAM-SHA-512"
            ):
                await client.start()
        finally:
            await client.stop()


def test_committed_offsets_say_why_they_cannot_be_read(secured_kafka: SecuredKafka, opened: Settings) -> None:
    """As a recovery asks for them."""
    with pytest.raises(EbbtideError, match="or the password is wrong for SCRAM-SHA-512"):
        read_committed_offsets(by_scram(opened, secured_kafka, "nobody"), 0)
