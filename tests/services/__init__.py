"""Real services for tests: which Kafka and which Redis this machine can offer.

For Kafka: the address in ``EBBTIDE_TEST_KAFKA``; Docker, where its daemon answers; Apache Kafka from Maven
Central's jars, where there are ``java`` and ``mvn``; the embedded broker. For Redis: the address in
``EBBTIDE_TEST_REDIS``; an installed ``redis-server``; Docker; the embedded Valkey.
"""

from tests.services.kafka import KafkaService, start_kafka
from tests.services.redis import OwnRedis, RedisService, start_embedded_redis, start_own_redis, start_redis

__all__ = [
    "KafkaService",
    "OwnRedis",
    "RedisService",
    "start_embedded_redis",
    "start_kafka",
    "start_own_redis",
    "start_redis",
]
