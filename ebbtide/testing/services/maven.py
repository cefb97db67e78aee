"""Apache Kafka's jars from Maven Central, kept in a cache folder, and the command that runs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from filelock import FileLock

KAFKA_VERSION = "4.1.1"
# The binding must be of the same generation as the slf4j-api that Kafka brings, or its log is lost.
_SLF4J_VERSION = "1.7.36"
_LEAST_JAVA = 17
_DOWNLOAD_TIMEOUT_S = 280
_COMPLETE = "complete"
BROKER, STREAMS = "kafka_2.13", "kafka-streams"
_FOLDERS = {BROKER: "kafka"}

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>ebbtide.tests</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>{library}</artifactId><version>{kafka}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>{slf4j}</version>
    </dependency>
  </dependencies>
</project>
"""


class NoKafkaHereError(RuntimeError):
    """Java, Maven or the jars are missing; the message says which."""


def jars(library: str = BROKER) -> Path:
    """The folder with the jars of a library of Kafka's, downloaded at the first call on a machine.

    Raises:
        NoKafkaHereError: no Java 17 or later, no Maven, or the download failed.
    """
    check_java()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ebbtide"
    folder = cache / f"{_FOLDERS.get(library, library)}-{KAFKA_VERSION}"
    if (folder / _COMPLETE).exists():
        return folder
    if shutil.which("mvn") is None:
        raise NoKafkaHereError("Maven (mvn) is not installed")
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "kafka.lock"):  # several processes ask at the start of a test run
        if not (folder / _COMPLETE).exists():
            # Filled aside, so that a broken download is never taken for a whole one.
            with tempfile.TemporaryDirectory(prefix="kafka-", dir=cache) as aside:
                _download(Path(aside), library)
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(Path(aside) / "jars", folder)
                (folder / _COMPLETE).touch()
    return folder


def java_command(folder: Path, main_class: str, *arguments: str, heap_mib: int = 768) -> list[str]:
    """How to run ``main_class`` from the jars in ``folder``, with a small heap and its log on stderr."""
    heap = ["-Xms256m", f"-Xmx{heap_mib}m", "-XX:+UseSerialGC"]
    log = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
    return ["java", *heap, *log, "-cp", f"{folder}/*", main_class, *arguments]


def check_java() -> None:
    """Raise ``NoKafkaHereError`` unless ``java`` is version 17 or later."""
    if shutil.which("java") is None:
        raise NoKafkaHereError("Java is not installed")
    answer = subprocess.run(["java", "-version"], capture_output=True, text=True, timeout=30)
    version = re.search(r'version "(\d+)', answer.stderr + answer.stdout)
    if version is None or int(version[1]) < _LEAST_JAVA:
        raise NoKafkaHereError(
            f"Kafka {KAFKA_VERSION} needs Java {_LEAST_JAVA}; `java -version` says otherwise"
        )


def _download(folder: Path, library: str) -> None:
    pom = folder / "pom.xml"
    said = _POM.format(library=library, kafka=KAFKA_VERSION, slf4j=_SLF4J_VERSION)
    pom.write_text(said, encoding="utf-8")
    command = ["mvn", "-B", "-q", "-f", str(pom), "dependency:copy-dependencies"]
    command.append(f"-DoutputDirectory={folder / 'jars'}")
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise NoKafkaHereError(f"Maven did not finish within {_DOWNLOAD_TIMEOUT_S} s") from None
    if done.returncode != 0:
        raise NoKafkaHereError(f"Maven failed:\n{(done.stdout + done.stderr)[-2000:]}")
