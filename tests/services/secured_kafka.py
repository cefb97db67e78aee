"""One Kafka broker from jars with TLS, SASL and an authorizer that allows nothing unless an ACL does."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
    UserScramCredentialUpsertion,
)

from ebbtide.testing.services import maven
from ebbtide.testing.services.kafka import SINGLE_NODE, format_storage
from ebbtide.testing.services.ports import lasting_port
from streams.demo.embedded import HOST, OwnedProcess, answers_kafka, wait_until_ready
from tests.services.certificates import Authority

PLAIN_USER: Final = "plain-user"
PLAIN_PASSWORD: Final = "plain-user's password"
REAUTHENTICATED_MS: Final = 2_000
"""After so long the listener SHORT drops who has not authenticated anew."""
_HEAP_MIB: Final = 384
_START_TIMEOUT_S: Final = 120.0
_SCRAM_MECHANISMS: Final = ("SCRAM-SHA-256", "SCRAM-SHA-512")
_MECHANISMS: Final = (*_SCRAM_MECHANISMS, "PLAIN", "OAUTHBEARER")

_LISTENERS: Final = {
    "OPEN": "PLAINTEXT",  # without a name, and as such the superuser; also the broker's own way to itself
    "CONTROLLER": "PLAINTEXT",
    "TLS": "SSL",  # the server alone shows a certificate
    "MUTUAL": "SSL",  # so does the client
    "EXPIRED": "SSL",
    "SECURED": "SASL_SSL",
    "SHORT": "SASL_SSL",  # of sessions that end after a while
    "SINGLE": "SASL_SSL",  # of one mechanism only
    "CLEAR": "SASL_PLAINTEXT",
}


@dataclass(frozen=True, slots=True)
class SecuredKafka:
    """A running broker; `ports` are by the names of its listeners, `folder` is for files of tests."""

    ports: dict[str, int]
    authority: Authority
    folder: Path

    def servers(self, listener: str, host: str = HOST) -> str:
        """Where to begin, by listener."""
        return f"{host}:{self.ports[listener]}"

    @contextmanager
    def superuser(self) -> Iterator[Any]:
        """A `KafkaAdminClient` that may do anything."""
        with closing(KafkaAdminClient(bootstrap_servers=self.servers("OPEN"))) as admin:
            yield admin

    def set_password(self, name: str, password: str) -> None:
        """Of a user, new or known, by both kinds of SCRAM."""
        with self.superuser() as admin:
            for mechanism in _SCRAM_MECHANISMS:  # Kafka takes one change to a user at a time
                changed = [UserScramCredentialUpsertion(name, mechanism, password)]
                refused = admin.alter_user_scram_credentials(changed)
                assert refused == {name: None}, refused

    def allow(self, user: str, rights: Sequence[tuple[str, str, str]]) -> None:
        """Give a user rights: operation, kind of resource, and its name, with * at the end for a prefix."""
        with self.superuser() as admin:
            done = admin.create_acls([_acl(user, *right) for right in rights])
        assert not done["failed"], done


def _acl(user: str, operation: str, kind: str, name: str) -> ACL:
    pattern = ACLResourcePatternType.PREFIXED if name.endswith("*") else ACLResourcePatternType.LITERAL
    resource = ResourcePattern(ResourceType[kind.upper()], name.removesuffix("*"), pattern)
    allowed = ACLPermissionType.ALLOW
    return ACL(f"User:{user}", "*", ACLOperation[operation.upper()], allowed, resource)


@contextmanager
def start_secured_kafka() -> Iterator[SecuredKafka]:
    """A secured broker for the length of the block.

    Raises:
        NoKafkaHereError: this machine cannot run Kafka's jars; the message says why.
        EmbeddedServiceError: it did not start; the message ends with the broker's log.
    """
    jars = maven.jars()
    folder = Path(tempfile.mkdtemp(prefix="ebbtide-secured-"))
    process: OwnedProcess | None = None
    try:
        ports = {listener: lasting_port() for listener in _LISTENERS}
        authority = Authority(folder, "authority")
        properties = folder / "server.properties"
        settings = _settings(folder, ports, authority)
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        format_storage(jars, properties, str(uuid.uuid4()))
        process = OwnedProcess(
            maven.java_command(jars, "kafka.Kafka", str(properties), heap_mib=_HEAP_MIB),
            log_path=folder / "kafka.log",
            cwd=folder,
            scratch=folder,
            stop_timeout_s=20.0,
        )
        wait_until_ready(process, "secured Kafka", lambda: answers_kafka(ports["OPEN"]), _START_TIMEOUT_S)
        yield SecuredKafka(ports, authority, folder)
    finally:
        if process is not None:
            process.kill()  # nothing on its disk is wanted any more
        shutil.rmtree(folder, ignore_errors=True)


def _settings(folder: Path, ports: dict[str, int], authority: Authority) -> dict[str, str]:
    addresses = [f"{listener}://{HOST}:{port}" for listener, port in ports.items()]
    server = authority.issue("broker", [HOST])
    expired = authority.issue("expired-broker", [HOST], is_expired=True)
    settings = {
        **SINGLE_NODE,
        "listener.security.protocol.map": ",".join(f"{name}:{kind}" for name, kind in _LISTENERS.items()),
        "inter.broker.listener.name": "OPEN",
        "listeners": ",".join(addresses),
        "advertised.listeners": ",".join(
            address for address in addresses if not address.startswith("CONTROLLER")
        ),
        "controller.quorum.voters": f"1@{HOST}:{ports['CONTROLLER']}",
        "log.dirs": str(folder / "data"),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(server.both_file),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.ca_file),
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.expired.ssl.keystore.location": str(expired.both_file),
        "listener.name.expired.ssl.keystore.type": "PEM",
        "sasl.enabled.mechanisms": ",".join(_MECHANISMS),
    }
    settings["listener.name.single.sasl.enabled.mechanisms"] = _MECHANISMS[0]
    for listener in ("secured", "short", "single", "clear"):
        for mechanism in _MECHANISMS:
            name = f"listener.name.{listener}.{mechanism.lower()}"
            settings[f"{name}.sasl.jaas.config"] = _JAAS[mechanism]
            if listener == "short":
                settings[f"{name}.connections.max.reauth.ms"] = str(REAUTHENTICATED_MS)
    return settings


_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_JAAS: Final = {
    "SCRAM-SHA-256": _SCRAM,
    "SCRAM-SHA-512": _SCRAM,
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule required "
    f'user_{PLAIN_USER}="{PLAIN_PASSWORD}";',
    # Takes tokens that nobody has signed, which is for tests only.
    "OAUTHBEARER": "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
    'unsecuredLoginStringClaim_sub="broker";',
}
