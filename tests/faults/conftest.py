"""Which cases run, what they run on, and the table at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from streams.replay.replay import NAMESPACE
from tests.faults.case import FaultCase
from tests.faults.table import ROW
from tests.faults.workload import DEEP, FULL, SHORT, Size, Workload, crowd
from tests.integration.harness import make_settings
from tests.once import Once
from tests.services import KafkaService, OwnRedis

MakeCase = Callable[..., AbstractContextManager[FaultCase]]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cases that are not in the short form, unless all are asked for; `--deep` asks for all, short."""
    if config.getoption("--faults") == "full" or config.getoption("--deep"):
        return
    left_out = [item for item in items if (mark := _mark(item)) and not mark.kwargs.get("short")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def size(pytestconfig: pytest.Config) -> Size:
    """How large each case is."""
    if pytestconfig.getoption("--faults") == "full":
        return FULL
    return DEEP if pytestconfig.getoption("--deep") else SHORT


@pytest.fixture(scope="session")
def common_crowd(random_seed: int, size: Size, once: Once) -> Workload:
    """The events of most cases; what replay makes of them is computed once."""
    return crowd(random_seed, size, once)


@pytest.fixture
def make_case(
    request: pytest.FixtureRequest,
    common_crowd: Workload,
    unique_prefix: str,
    tmp_path: Path,
    random_seed: int,
    size: Size,
) -> MakeCase:
    """`make_case(servers, redis_url, …)` is a case, closed at the end of the block, with its row in the table.

    `workload` takes the place of the common crowd; `reader_servers` and `replication_factor` are as in `FaultCase`; all
    else are settings of the workers.
    """
    mark = _mark(request.node)
    assert mark is not None, "a case carries the marker fault_case"

    @contextmanager
    def make(
        servers: str,
        redis_url: str,
        *,
        workload: Workload | None = None,
        reader_servers: str | None = None,
        replication_factor: int = 1,
        **settings: Any,
    ) -> Iterator[FaultCase]:
        chosen = {
            "namespace": NAMESPACE,
            "clock": "event",
            "batch_max_records": size.batch,
            **settings,
        }
        case = FaultCase(
            ": ".join(mark.args),
            make_settings(servers, redis_url, unique_prefix, **chosen),
            workload or common_crowd,
            tmp_path,
            is_full=size is FULL,
            seed=random_seed,
            reader_servers=reader_servers,
            replication_factor=replication_factor,
        )
        try:
            yield case
        finally:
            case.close()
            if case.row is not None:
                request.node.user_properties.append((ROW, tuple(case.row)))

    return make


@pytest.fixture
def case(make_case: MakeCase, kafka: KafkaService, own_redis: OwnRedis) -> Iterator[FaultCase]:
    """A case with the common crowd, on the session's broker and a Redis of the test's own."""
    with make_case(kafka.bootstrap_servers, own_redis.url) as case:
        yield case


def _mark(item: pytest.Item) -> pytest.Mark | None:
    return item.get_closest_marker("fault_case")
