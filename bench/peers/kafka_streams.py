"""The contender on Kafka Streams, which is Java: compiled where it is asked for.

`StreamsPeer.java` says what it does.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from ebbtide.testing.services import maven
from streams.settings import Settings

_SOURCE = Path(__file__).with_name("StreamsPeer.java")
_COMPILE_TIMEOUT_S = 120
_HEAP_MIB = 1_024


def command(settings: Settings, folder: Path, bytes_per_event: int) -> list[str]:
    """How to run it, with its classes and its state in a folder.

    Raises:
        NoKafkaHereError: no Java 17 or later, no Maven, or the download failed.
    """
    jars, classes = maven.jars(maven.STREAMS), folder / "classes"
    compiler = ["javac", "-cp", f"{jars}/*", "-d", str(classes), str(_SOURCE)]
    subprocess.run(compiler, check=True, timeout=_COMPILE_TIMEOUT_S, capture_output=True)
    arguments = [
        settings.kafka_bootstrap_servers,
        settings.group_id,
        settings.topic_prefix,
        str(folder / "state"),
    ]
    made = maven.java_command(jars, "StreamsPeer", *arguments, str(bytes_per_event), heap_mib=_HEAP_MIB)
    at = made.index("-cp") + 1
    made[at] = f"{made[at]}:{classes}"
    return made
