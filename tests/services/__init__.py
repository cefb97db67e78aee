"""Real services for tests: which Kafka and which Redis this machine can offer.

For Kafka: the address in ``EBBTIDE_TEST_KAFKA``; Docker, where its daemon answers; Apache Kafka from Maven
Central's jars, where there are ``java`` and ``mvn``; the embedded broker. For Redis: the address in
``EBBTIDE_TEST_REDIS``; an installed ``redis-server``; Docker; the embedded Valkey.
"""

from tests.services.kafka import KafkaService, start_kafka, start_own_kafka
from tests.services.kafka_cluster import KafkaCluster, start_kafka_cluster
from tests.services.maven import NoKafkaHereError
from tests.services.proxy import TcpProxy, start_proxy
from tests.services.redis import (
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
from tests.services.secured_kafka import SecuredKafka, start_secured_kafka

__all__ = [
    "JournaledRedis",
    "KafkaCluster",
    "KafkaService",
    "NoKafkaHereError",
    "OwnRedis",
    "RedisService",
    "ReplicatedRedis",
    "SecuredKafka",
    "TcpProxy",
    "start_cluster_redis",
    "start_embedded_redis",
    "start_journaled_redis",
    "start_kafka",
    "start_kafka_cluster",
    "start_own_kafka",
    "start_own_redis",
    "start_proxy",
    "start_redis",
    "start_replicated_redis",
    "start_secured_kafka",
]
