"""The Faust app that hosts the worker: supervision, signals, and the web endpoints.

`ebbtide run` and `faust -A streams.app worker` are the same worker. The hot path does not go through Faust: `Worker` is
a service of the app, which reads whole fetches with the client that Faust itself runs on.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Any

import faust
from faust.web import Request, Response, View

from streams.console.terminal import say
from streams.garbage import expect_long_lives
from streams.kafka.client_logs import throttle_client_logs
from streams.kafka.connection import check_security
from streams.operations.doctor import check_erasure_key, check_kafka, check_model, check_redis, require
from streams.operations.web_port import require_free
from streams.settings import CONFIG_VARIABLE, SECRET_FILE_VARIABLES, Settings, load_settings
from streams.worker.ending import EndingWorker
from streams.worker.exposition import Exposition
from streams.worker.worker import Worker

log = logging.getLogger(__name__)

POLL_S = 0.2


def make_app(settings: Settings) -> faust.App:
    """The Faust app of one worker."""
    folder = settings.faust_data_dir or Path(tempfile.gettempdir()) / f"ebbtide-{os.getpid()}"
    brokers = settings.kafka_bootstrap_servers.replace(",", ";")
    app = faust.App(
        f"{settings.joined}-faust",
        broker=f"aiokafka://{brokers}",
        web_bind=settings.web_bind,
        web_port=settings.web_port,
        datadir=str(folder),
        topic_disable_leader=True,
        broker_check_crcs=False,
        Worker=EndingWorker,
    )
    # Without adapters and deliveries there is nothing for Faust itself to consume or produce: it connects to nothing.
    app.producer_only = True
    app.boot_strategy.enable_kafka_producer = False
    worker = Worker(settings)
    exposition = Exposition(worker)

    @app.service
    class EbbtideService(faust.Service):
        """The worker as a service of the app."""

        async def on_start(self) -> None:
            worker.watch.start()
            await worker.start()

        async def on_stop(self) -> None:
            await worker.stop()

    @app.page("/healthz")
    async def healthz(view: View, request: Request) -> Response:
        """Whether the process should go on: 503 once the whole worker has failed."""
        return view.json({"status": worker.failure or "ok"}, status=503 if worker.failure else 200)

    @app.page("/readyz")
    async def readyz(view: View, request: Request) -> Response:
        """Whether this worker can work, and if not why; how each partition stands is only told."""
        return view.json(readiness(worker), status=200 if worker.is_ready else 503)

    @app.page("/partitions")
    async def partitions(view: View, request: Request) -> Response:
        """Whether every assigned partition runs, and which does not and why."""
        return view.json({"partitions": standings(worker)}, status=200 if worker.is_running else 503)

    @app.page("/metrics")
    async def metrics(view: View, request: Request) -> Response:
        """Prometheus metrics."""
        body, content_type = await exposition.answer(request.headers.get("Accept", ""))
        return view.bytes(body, headers={"Content-Type": content_type})

    return app


def readiness(worker: Worker) -> dict[str, Any]:
    """What `/readyz` says; `worker` is how a command tells one of its own group from anything else on the port."""
    reason = worker.not_ready_because
    settings = worker.settings
    return {
        "ready": reason is None,
        "reason": reason,
        "failure": worker.failure,
        "partitions": standings(worker),
        "worker": {"group_id": settings.group_id, "topic_prefix": settings.topic_prefix},
    }


def standings(worker: Worker) -> dict[str, Any]:
    """How each assigned partition stands, by its number."""
    return {
        str(partition): {
            "status": state.status.value,
            "reason": state.reason or (str(state.loading) if state.loading else None),
            "step": None if state.checkpoint is None else state.checkpoint.batch_id,
            "records": sum(state.outcomes.values()),
            "changes": state.changes,
            "idle": state.is_idle,
        }
        for partition, state in worker.states().items()
    }


def run_worker(settings: Settings, workers: int) -> int:
    """Run one worker in this process, or several in processes of their own; gives the exit code."""
    # A wrong model, and a connection that cannot be made, are wrong use, whatever else there is.
    settings.load_model()
    check_security(settings)
    for number in range(workers):
        require_free(_settings_of(settings, number))
    _check(settings)
    if workers > 1:
        return _run_processes(settings, workers)
    _prepare_process()
    app = make_app(settings)
    worker = EndingWorker(
        app, loglevel=os.environ.get("LOGLEVEL", "INFO"), redirect_stdouts=False, quiet=True
    )
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        return int(ended.code or 0)


def _check(settings: Settings) -> None:
    """Raise `EbbtideError` where a worker could not run; print what is only doubtful."""
    findings = (
        check_model(settings) + check_kafka(settings) + check_redis(settings) + check_erasure_key(settings)
    )
    for warning in require(findings):
        say(f"ebbtide: warning: {warning}", err=True)


def _prepare_process() -> None:
    """Set what holds for the whole process of a worker: what its clients log, and when garbage is looked for."""
    throttle_client_logs()
    expect_long_lives()


def _run_processes(settings: Settings, workers: int) -> int:
    """One process per worker, each with the next web port; a signal goes to all, and one that fails ends the rest."""
    processes: list[subprocess.Popen[bytes]] = []
    told: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        told.append(number)
        for process in processes:
            process.send_signal(number)

    # Before any process is there: a signal that came in between would leave those behind that are.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    for worker in range(workers):
        if not told:
            command = [sys.executable, "-m", "streams", "run"]
            processes.append(subprocess.Popen(command, env=environment_of(settings, worker)))
    while all(process.poll() is None for process in processes):
        time.sleep(POLL_S)
    if any(process.poll() for process in processes):
        forward(signal.SIGTERM, None)
    return 1 if any([process.wait() for process in processes]) else 0


def environment_of(settings: Settings, number: int) -> dict[str, str]:
    """What one process of several is started with: these settings, from wherever they come, and a port of its own.

    A file that `EBBTIDE_CONFIG` names is not read again: they may come from another one, and leave open what it says.
    Nor are files of secrets.
    """
    read = {CONFIG_VARIABLE, *SECRET_FILE_VARIABLES}
    inherited = {name: value for name, value in os.environ.items() if name.upper() not in read}
    return {**inherited, **_settings_of(settings, number).as_environment()}


def _settings_of(settings: Settings, number: int) -> Settings:
    """Those of one process of several: each has a port of its own."""
    return settings.model_copy(update={"web_port": settings.web_port + number})


def __getattr__(name: str) -> Any:
    """`faust -A streams.app` looks for `app`; it is made of the environment's settings when it is asked for."""
    if name == "app":
        settings = load_settings()
        _check(settings)
        _prepare_process()
        return make_app(settings)
    raise AttributeError(name)
