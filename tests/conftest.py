"""Fixtures for every test: real services, a prefix of its own for each test, and a seed that can be set.

Tests may run in several processes (pytest-xdist, `-n`). These share one broker and one seed; each has a Redis of its
own. Tests that use one expensive thing carry the same `xdist_group`, so that one process runs them and makes it once.
"""

from __future__ import annotations

import os
import secrets
import uuid
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import pytest

from streams.demo.embedded import EmbeddedBroker
from tests import services
from tests.absent import IN_CI, missing
from tests.faults.table import print_table
from tests.once import Once
from tests.services.shared_kafka import SharedKafka, shared_kafka

TESTS_PER_CORE = 2
"""Many tests wait for servers and processes."""
FIRST = ("faults", "simulation", "bench", "integration", "mutations")
"""Folders whose tests take longest: they begin first, so that no process is alone with one at the end."""
OF_ONE_PROCESS = ("kafka_cluster", "own_kafka", "secured_kafka")
"""Brokers that only one process starts, which runs all tests that use them, one after the other."""
ONE_AT_A_TIME, OF_CASES = "make_case", "kafka_cluster"
"""A case of faults is a whole system that must keep its time limits, so one runs at a time: in the process of those on
the cluster, which are most of the long ones."""
QUICK_EXAMPLES = 40
"""Of Hypothesis per test that does not say how many; `--deep` makes its usual hundred."""
DEEP_TIMEOUT_S = 1_200
"""What ends a test that hangs. The whole demo takes minutes on a core that other tests use too."""
JAVA_OPTIONS = "-XX:TieredStopAtLevel=1"
"""A broker of a test lives for minutes: the slower compiler's work would never be worth its while."""
_HELD: dict[str, tuple[Any, ExitStack]] = {}
_SEED = pytest.StashKey[int]()
_SHARED_KAFKA = pytest.StashKey[SharedKafka]()

Service = TypeVar("Service")

# A shared machine stalls at times; a deadline would then report a defect that is none.
hypothesis.settings.register_profile("ebbtide", deadline=None, print_blob=True, max_examples=QUICK_EXAMPLES)
hypothesis.settings.register_profile("deep", deadline=None, print_blob=True)
hypothesis.settings.load_profile("ebbtide")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--seed``, ``--deep``, and the options of ``tests/faults``."""
    parser.addoption(
        "--seed", type=int, default=None, help="seed of all random tests; a new one each run if not given"
    )
    parser.addoption(
        "--deep", action="store_true", help="also run the tests marked deep, and the long form of others"
    )
    parser.addoption(
        "--faults", choices=("short", "full"), default="short", help="which form of tests/faults runs"
    )
    parser.addoption("--faults-table", metavar="FILE", help="write the table of tests/faults as Markdown")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the run's seed, for our own random tests and for Hypothesis; all processes have the same."""
    os.environ.setdefault("JDK_JAVA_OPTIONS", JAVA_OPTIONS)
    # Known without pytest-xdist too (`-p no:xdist`), where it says nothing.
    config.addinivalue_line("markers", "xdist_group(name): tests of one group run in one process")
    if config.getoption("--deep"):
        hypothesis.settings.load_profile("deep")
    given = config.getoption("--seed")
    of_the_run = _worker_input(config).get("seed", given)
    config.stash[_SEED] = secrets.randbits(32) if of_the_run is None else int(of_the_run)
    if given is not None and config.getoption("hypothesis_seed", None) is None:
        config.option.hypothesis_seed = str(given)


def _worker_input(config: pytest.Config) -> dict[str, Any]:
    """What the process that distributes the tests told this one; empty where there is only one."""
    return getattr(config, "workerinput", {})


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a new process of pytest-xdist the run's seed, and where to ask for its broker."""
    config: pytest.Config = node.config
    if _SHARED_KAFKA not in config.stash:
        config.stash[_SHARED_KAFKA] = SharedKafka()
    node.workerinput["seed"] = config.stash[_SEED]
    node.workerinput["kafka"] = config.stash[_SHARED_KAFKA].address


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the broker that all processes shared, and what a stopped run has left."""
    _end_services()
    if (shared := config.stash.get(_SHARED_KAFKA, None)) is not None:
        shared.close()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many processes `-n auto` means."""
    return TESTS_PER_CORE * (os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out deep tests unless asked for, begin with long ones, and keep those of one fixture in one process."""
    if not config.getoption("--deep"):
        left_out = [item for item in items if item.get_closest_marker("deep")]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if item not in left_out]
    folders = {folder: at for at, folder in enumerate(FIRST)}
    here = Path(__file__).parent
    items.sort(
        key=lambda item: (
            [fixture not in getattr(item, "fixturenames", ()) for fixture in OF_ONE_PROCESS],
            folders.get(item.path.relative_to(here).parts[0], len(FIRST)),
        )
    )
    for item in items:
        if config.getoption("--deep") and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(DEEP_TIMEOUT_S))
        fixtures = getattr(item, "fixturenames", ())
        shared = [fixture for fixture in OF_ONE_PROCESS if fixture in fixtures]
        if not shared and ONE_AT_A_TIME in fixtures:
            shared = [OF_CASES]
        if not shared and item.get_closest_marker("xdist_group") is None and _shares_with_its_module(item):
            shared = [item.path.relative_to(here).as_posix()]
        for group in shared:
            item.add_marker(pytest.mark.xdist_group(group))


def _shares_with_its_module(item: pytest.Item) -> bool:
    """Whether a test uses something that its module makes once, and would make again in every process."""
    assert isinstance(item, pytest.Function)
    found = item._fixtureinfo.name2fixturedefs.values()
    module = item.module.__name__
    return any(each.scope == "module" and each.func.__module__ == module for of in found for each in of)


def pytest_report_header(config: pytest.Config) -> str:
    """Print the seed above the tests."""
    return f"seed: {config.stash[_SEED]} (run again with --seed {config.stash[_SEED]})"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table of faults, how many tests ran on real Kafka, and the seed where something failed."""
    print_table(terminalreporter, config.getoption("--faults-table"))
    counts = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        reports = terminalreporter.stats.get(outcome, [])
        counts[outcome] = sum("real_kafka" in getattr(report, "keywords", {}) for report in reports)
    parts = [f"{counts['passed']} passed"]
    parts += [f"{count} {outcome}" for outcome, count in counts.items() if count and outcome != "passed"]
    terminalreporter.write_line(f"real Kafka: {', '.join(parts)}")
    if terminalreporter.stats.get("failed"):
        terminalreporter.write_line(pytest_report_header(config))


@pytest.fixture(scope="session")
def is_deep(pytestconfig: pytest.Config) -> bool:
    """Whether tests that have a long form run it."""
    return bool(pytestconfig.getoption("--deep"))


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> Iterator[services.KafkaService]:
    """The best Kafka of this machine; tests that need transactions carry the marker ``real_kafka``."""
    if (shared := _worker_input(pytestconfig).get("kafka")) is not None:
        yield shared_kafka(shared)
        return
    with services.start_kafka() as service:
        yield service


@pytest.fixture
def own_kafka() -> services.KafkaService:
    """A broker from jars that tests may pause; who does lets it go on again."""
    return _held("own_kafka", services.start_own_kafka)


@pytest.fixture
def kafka_cluster() -> services.KafkaCluster:
    """Three brokers from jars, replicated; who ends one starts it again."""
    return _held("kafka_cluster", services.start_kafka_cluster)


@pytest.fixture
def secured_kafka() -> services.SecuredKafka:
    """A broker from jars with TLS, SASL and ACLs: use users and a prefix of your own."""
    return _held("secured_kafka", services.start_secured_kafka)


def _held(fixture: str, start: Callable[[], AbstractContextManager[Service]]) -> Service:
    """A service that the next test gets too, if it asks for it."""
    if fixture not in _HELD:
        stack = ExitStack()
        try:
            _HELD[fixture] = stack.enter_context(start()), stack
        except services.NoKafkaHereError as error:
            missing("brokers of Apache Kafka, from its jars", str(error))
    service: Service = _HELD[fixture][0]
    return service


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """End the brokers that the next test does not ask for: idle ones take a part of a core from all others."""
    result = yield
    _end_services(getattr(nextitem, "fixturenames", ()))
    return result


def _end_services(but: Collection[str] = ()) -> None:
    for fixture in [fixture for fixture in _HELD if fixture not in but]:
        _HELD.pop(fixture)[1].close()


@pytest.fixture(autouse=True)
def _real_kafka_where_marked(request: pytest.FixtureRequest) -> None:
    """Keep tests marked ``real_kafka`` off the embedded broker."""
    if request.node.get_closest_marker("real_kafka") is not None:
        service = request.getfixturevalue("kafka")
        if not service.is_real:
            missing("a real Apache Kafka", service.origin)


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[EmbeddedBroker]:
    """The embedded broker, also where there is a real one."""
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def redis_server() -> Iterator[services.RedisService]:
    """The best Redis of this machine, shared by all tests: use keys of your own, or flush it first."""
    with services.start_redis() as service:
        if IN_CI and not service.is_real:
            missing("a real Redis", service.origin)
        yield service


@pytest.fixture(scope="session")
def redis_url(redis_server: services.RedisService) -> str:
    """The URL of ``redis_server``."""
    return redis_server.url


@pytest.fixture(scope="session")
def embedded_redis() -> Iterator[services.OwnRedis]:
    """The embedded Valkey server, also where there is a real Redis."""
    with services.start_embedded_redis() as service:
        yield service


@pytest.fixture(params=["redis", "embedded"])
def each_redis(request: pytest.FixtureRequest) -> services.RedisService:
    """Runs its test twice: on a real Redis (skipped without one) and on the embedded Valkey."""
    if request.param == "embedded":
        embedded: services.OwnRedis = request.getfixturevalue("embedded_redis")
        return embedded
    service: services.RedisService = request.getfixturevalue("redis_server")
    if not service.is_real:
        missing("a real Redis", service.origin)
    return service


@pytest.fixture
def own_redis() -> Iterator[services.OwnRedis]:
    """An empty Redis of the test's own, which it may flush, kill and start again."""
    with services.start_own_redis() as service:
        yield service


@pytest.fixture
def journaled_redis() -> Iterator[services.JournaledRedis]:
    """An empty Redis of the test's own that keeps a journal, of which it may lose the end."""
    with services.start_journaled_redis() as service:
        yield service


@pytest.fixture
def replicated_redis() -> Iterator[services.ReplicatedRedis]:
    """An empty master of the test's own with its replica, which may take its place."""
    with services.start_replicated_redis() as service:
        yield service


@pytest.fixture
def unique_prefix() -> str:
    """A prefix for topics, groups and keys that no other test, and no earlier run, has used."""
    return f"t{uuid.uuid4().hex[:10]}-"


@pytest.fixture(scope="session")
def random_seed(pytestconfig: pytest.Config) -> int:
    """The run's seed: printed above the tests, set with ``--seed``."""
    return pytestconfig.stash[_SEED]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Once:
    """`once(name, compute)`: what takes long is computed by one process of the test run and shared with the others."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if _worker_input(pytestconfig) else own) / "once"
    folder.mkdir(exist_ok=True)
    return Once(folder)
