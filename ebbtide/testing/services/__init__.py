"""Real servers for tests: the best Kafka and the best Redis that this machine has, for the length of a block.

    with start_kafka() as kafka, start_redis() as redis:
        settings = make_settings(kafka.bootstrap_servers, redis.url, prefix="mine-")

For Kafka: the address in `EBBTIDE_TEST_KAFKA`; Docker, where its daemon answers; Apache Kafka from Maven Central's
jars, where there are `java` and `mvn`; the embedded broker. For Redis: the address in `EBBTIDE_TEST_REDIS`; an
installed `redis-server`; Docker; the embedded Valkey. Servers given by address are written to and flushed.

Needs the extra `testing`.
"""

from ebbtide.testing.services.kafka import KafkaService, start_kafka, start_own_kafka
from ebbtide.testing.services.maven import NoKafkaHereError
from ebbtide.testing.services.proxy import TcpProxy, start_proxy
from ebbtide.testing.services.redis import (
    JournaledRedis,
    OwnRedis,
    RedisService,
    ReplicatedRedis,
    start_cluster_redis,
    start_embedded_redis,
    start_journaled_redis,
    start_own_redis,
    start_redis,
    start_replicated_redis,
)
from ebbtide.testing.services.worker import make_settings, process_environment, readiness_of

__all__ = [
    "JournaledRedis",
    "KafkaService",
    "NoKafkaHereError",
    "OwnRedis",
    "RedisService",
    "ReplicatedRedis",
    "TcpProxy",
    "make_settings",
    "process_environment",
    "readiness_of",
    "start_cluster_redis",
    "start_embedded_redis",
    "start_journaled_redis",
    "start_kafka",
    "start_own_kafka",
    "start_own_redis",
    "start_proxy",
    "start_redis",
    "start_replicated_redis",
]
