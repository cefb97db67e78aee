"""Every server that tests run on: those of `ebbtide.testing.services`, a cluster, and a broker with TLS and ACLs."""

from ebbtide.testing.services import (
    JournaledRedis,
    KafkaService,
    NoKafkaHereError,
    OwnRedis,
    RedisService,
    ReplicatedRedis,
    TcpProxy,
    start_cluster_redis,
    start_embedded_redis,
    start_journaled_redis,
    start_kafka,
    start_own_kafka,
    start_own_redis,
    start_proxy,
    start_redis,
    start_replicated_redis,
)
from tests.services.kafka_cluster import KafkaCluster, start_kafka_cluster
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
