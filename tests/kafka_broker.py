"""A real Kafka for tests and benchmarks: one KRaft broker on free loopback ports, gone with its folder.

The jars come once by Maven into the cache. Where Java or Maven is missing, Debian's packages bring them.
"""

from __future__ import annotations

import base64
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import free_ports
from tidegate_components.storage import cache_folder, replacing

__all__ = ["Broker", "broker"]

_VERSION = "4.1.0"
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>dev.tidegate</groupId><artifactId>test-broker</artifactId><version>1</version><dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{_VERSION}</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies></project>"""
_PATIENCE = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Broker:
    """A running broker: its `address`, and how much CPU it has used."""

    def __init__(self, address: str, process: subprocess.Popen[bytes]) -> None:
        self.address = address
        self._process = process

    def cpu_seconds(self) -> float:
        """User and system time of the broker so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def create(self, topic: str, partitions: int) -> None:
        """Create a topic and return once it is there."""
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": self.address})
        admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)


@contextmanager
def broker(folder: Path, host: str = "127.0.0.1") -> Iterator[Broker]:
    """Start a broker that listens on an address of this machine, with its data in `folder`.

    It is killed, and its data removed, when the block ends.
    """
    data = folder / "kafka"
    data.mkdir(parents=True)
    try:
        process, address = _start(data, host)
        try:
            yield Broker(address, process)
        finally:
            _end(process)
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _start(data: Path, host: str, attempts: int = 3) -> tuple[subprocess.Popen[bytes], str]:
    """Start on free ports; again on others where somebody took one in between."""
    java = [_program("java", "openjdk-17-jre-headless"), "-Xmx768m", "-Xms256m", "-XX:+UseG1GC"]
    java += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{_jars()}/*"]
    port, controller = free_ports(2)
    properties, log = data / "server.properties", data / "log"
    properties.write_text(_properties(data, f"{host}:{port}", controller))
    cluster = base64.urlsafe_b64encode(b"T" + uuid.uuid4().bytes[1:]).rstrip(b"=").decode()  # never begins with a dash
    formatting = ["kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", str(properties)]
    subprocess.run([*java, *formatting], check=True, capture_output=True)
    with log.open("wb") as out:
        command = [*java, "kafka.Kafka", str(properties)]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    if _is_up(process, f"{host}:{port}"):
        return process, f"{host}:{port}"
    _end(process)
    if attempts == 1:
        raise RuntimeError(f"Kafka was not up within {_PATIENCE:.0f} s: {log.read_text()[-2000:]}")
    shutil.rmtree(data / "logs", ignore_errors=True)
    return _start(data, host, attempts - 1)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(30)


def _properties(data: Path, address: str, controller: int) -> str:
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://{address},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://{address}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": data / "logs",
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "offsets.topic.num.partitions": 1,
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _is_up(process: subprocess.Popen[bytes], address: str) -> bool:
    """Whether the broker answers within the patience; False as soon as its process has ended."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if admin.list_topics(timeout=1).brokers:
                return True
        except KafkaException:
            continue
    return False


def _jars() -> Path:
    """The folder with Kafka's jars, filled once; several test processes may ask at the same time."""
    folder = cache_folder() / f"kafka-{_VERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".kafka-{_VERSION}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _program("java", "openjdk-17-jre-headless")
            maven = _program("mvn", "maven")
            with replacing(folder) as beside:
                beside.mkdir()
                (beside / "pom.xml").write_text(_POM)
                copy = ["dependency:copy-dependencies", f"-DoutputDirectory={beside}"]
                subprocess.run([maven, "-q", "-B", *copy], cwd=beside, check=True, stdout=sys.stderr)
    return folder


def _program(name: str, package: str) -> str:
    if shutil.which(name) is None and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=True, stdout=sys.stderr)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
        subprocess.run(install, check=True, stdout=sys.stderr)
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is missing: install the package {package}")
    return found
