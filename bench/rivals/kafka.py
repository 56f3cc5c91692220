"""Kafka: KRaft, each node broker and controller, started from the jars that kafka.xml names.

JVM options are those of Kafka's own scripts, with a small heap. Topics are made with `min.insync.replicas` 2 where
there are copies; senders wait for `acks=all`. What is not set here is Kafka's default.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from bench.rivals import kafka_jars, mix
from bench.rivals.kafka_moves import TOOL, Reassignment, are_at, evened
from bench.rivals.lines import weigh
from bench.rivals.ports import free_ports
from bench.rivals.process import Client, Program, RivalError
from bench.rivals.rival import Loaded, Rival, Settings

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

HEAP = ["-Xms256m", "-Xmx512m"]
JVM = "-server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -Djava.awt.headless=true"
LOG4J = """rootLogger.level = info
rootLogger.appenderRefs = out
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = [%d] %p %m (%c)%n
"""
# A broker is thought dead sooner. Shorter sessions than this fence healthy brokers on a machine that is busy.
TUNED = """broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
replica.lag.time.max.ms=1500
replica.socket.timeout.ms=2000
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
controller.quorum.election.backoff.max.ms=250
controller.quorum.request.timeout.ms=1000
"""
ACTIVE = re.compile(rb"Becoming the active controller at epoch (\d+)")
ASK_S, FORMAT_S, LOAD_S = 2.0, 60.0, 3600.0
WAIT_S = 0.1


class Kafka(Rival):
    """Node i is the broker and controller i + 1; one that is added is a broker alone."""

    name = "kafka"

    def __init__(self, folder: Path, settings: Settings | None = None, base_port: int = 0) -> None:
        """`base_port`: nodes listen on it and the next ones, twice as many as there are nodes; 0: anywhere."""
        super().__init__(folder, settings)
        self._base_port = base_port
        self._ports: list[int] = []
        self._controllers: list[int] = []  # their ports
        self._admin: AdminClient | None = None
        self._said: dict[int, int] = {}  # how long each node's log was when it was started last

    @classmethod
    def missing(cls) -> str:
        if why := kafka_jars.missing():
            return why
        if importlib.util.find_spec("confluent_kafka") is None:
            return "no confluent-kafka: .venv/bin/pip install -e '.[bench]'"
        return "" if shutil.which("kcat") else "no kcat: apt-get install kcat"

    @classmethod
    def versions(cls) -> dict[str, str]:
        kcat = subprocess.run(["kcat", "-V"], capture_output=True, text=True, check=True, timeout=60).stdout
        return {
            "kafka": kafka_jars.version(),
            "java": str(kafka_jars.java_version()),
            "confluent-kafka": importlib.metadata.version("confluent-kafka"),
            "kcat": next(line for line in kcat.splitlines() if line.startswith("Version")).split()[1],
        }

    def differences(self) -> list[str]:
        one = self.settings
        found = [
            "batches are compressed by the client and stored as they come; brokers compress nothing",
            "a node serves again when the controller has let it in and it is in sync for all its partitions",
            "time until ready holds the making of the topic, not the formatting of the folders; nodes are JVMs with"
            f" {' '.join(HEAP)}",
            "empty lines are left out by kcat, and therefore by all clients here",
        ]
        if one.copies > 1 and not one.mix:
            found.append(f"acks=all waits for every replica in sync: {one.copies} in calm, {one.acks} at least")
        if one.mix:
            found.append("an acknowledged event is in page caches, and on devices where its topic has flush.messages=1")
        elif one.sync == "each":
            found.append("flush.messages=1: each batch is fsynced by each replica before it counts")
        else:
            where = f"all hosts in sync, {one.acks} at least" if one.copies > 1 else "one host"
            found.append(f"an acknowledged event is in the page caches of {where}, on no device yet")
        return found

    # --- nodes -------------------------------------------------------------------------------------------------------

    def prepare(self, count: int) -> None:
        ports = free_ports(2 * count + self.spare, self._base_port)
        self._ports, self._controllers = ports[:count] + ports[2 * count :], ports[count : 2 * count]
        (self.folder / "log4j2.properties").write_text(LOG4J)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes[:-1] + b"\0").decode().rstrip("=").replace("-", "_")
        formatting = []
        for i in range(count + self.spare):
            self.data(i).mkdir(parents=True, exist_ok=True)
            self._properties(i).write_text(self._configuration(i, count))
            words = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._properties(i))]
            formatting.append(Program.start(f"format {i}", self._java("-Xmx128m", *words), self._log(i)))
        for program in formatting:
            if program.wait(FORMAT_S):
                raise RivalError(f"kafka's folders can't be formatted:\n{program.log_end()}")

    def _configuration(self, i: int, count: int) -> str:
        voters = ",".join(f"{n + 1}@{self.hosts[n]}:{port}" for n, port in enumerate(self._controllers))
        inner = min(3, count)
        client = f"CLIENT://{self.all_hosts[i]}:{self._ports[i]}"
        roles, listeners = "broker", client
        if i < count:
            roles, listeners = f"{roles},controller", f"{client},CONTROLLER://{self.hosts[i]}:{self._controllers[i]}"
        return f"""node.id={i + 1}
process.roles={roles}
controller.quorum.voters={voters}
listeners={listeners}
advertised.listeners={client}
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
log.dirs={self.data(i)}
offsets.topic.replication.factor={inner}
offsets.topic.num.partitions=3
transaction.state.log.replication.factor={inner}
transaction.state.log.min.isr={min(2, inner)}
share.coordinator.state.topic.replication.factor={inner}
auto.create.topics.enable=false
message.max.bytes=8388608
replica.fetch.max.bytes=8388608
{TUNED if self.settings.timeouts == "tuned" else ""}"""

    def _java(self, *words: str) -> list[str]:
        return ["java", f"-Dlog4j2.configurationFile={self.folder}/log4j2.properties", "-cp",
                f"{kafka_jars.folder()}/*", *words]  # fmt: skip

    def _properties(self, i: int) -> Path:
        return self.folder / f"node{i}" / "server.properties"

    def _log(self, i: int) -> Path:
        return self.folder / f"node{i}" / "server.log"

    def data(self, i: int) -> Path:
        return self.folder / f"node{i}" / "data"

    def launch(self, i: int) -> Program:
        self._said[i] = self._log(i).stat().st_size if self._log(i).exists() else 0
        words = self._java(*HEAP, *JVM.split(), "kafka.Kafka", str(self._properties(i)))
        return self.program(i, words, self._log(i))

    def _stop_nodes(self) -> None:
        """Brokers alone first, while there are controllers: without them one waits for longer than anybody should."""
        for node in self.nodes[len(self._controllers) :]:
            with contextlib.suppress(RivalError):  # it was killed then
                node.stop()
        super()._stop_nodes()

    def addresses(self) -> list[str]:
        return [f"{host}:{port}" for host, port in zip(self.hosts, self._ports, strict=False)]

    # --- waiting -----------------------------------------------------------------------------------------------------

    def until_ready(self, deadline: float) -> None:
        """The topics are there, every replica is in sync, and a message is acknowledged."""
        from confluent_kafka import Producer  # not before: where it is absent, `missing` says so
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.cimpl import NewTopic

        from bench.rivals.kafka_client import TOPIC, producer_settings

        quiet = {"log_level": 0}  # that brokers which have just been started don't answer yet is no news
        self._admin = AdminClient({"bootstrap.servers": ",".join(self.addresses()), **quiet})
        while len(self._members()) < len(self.nodes):
            self.pause(deadline, "not all brokers are registered")
        one = self.settings
        config = {"min.insync.replicas": str(one.acks)} | ({"flush.messages": "1"} if one.sync == "each" else {})
        topics = [
            NewTopic(TOPIC, one.partitions, one.copies, config=config),
            NewTopic("ready", 1, one.copies, config=config),
        ]
        for kind in mix.CLASSES if one.mix else ():
            config = {"min.insync.replicas": str(min(2, kind.replicas))} | (
                {"flush.messages": "1"} if kind.sync else {}
            )
            topics.append(NewTopic(kind.name, one.partitions, kind.replicas, config=config))
        for future in self._admin.create_topics(topics, operation_timeout=30).values():
            future.result()
        while not all(self._in_sync(i) for i in range(len(self.nodes))):
            self.pause(deadline, "not all replicas are in sync")
        stored: list[object] = []
        producer = Producer({**producer_settings(",".join(self.addresses()), one), **quiet})
        producer.produce("ready", b"ready", on_delivery=lambda error, _: stored.append(error))
        while not stored:
            producer.poll(WAIT_S)
            self.pause(deadline, "no message is acknowledged")
        if stored != [None]:
            raise RivalError(f"kafka takes no message: {stored[0]}")

    def until_serving(self, i: int, deadline: float) -> None:
        """Its own log comes first: a broker whose death nobody has noticed yet still counts as in sync."""
        while not self.is_unfenced(i):
            self.pause(deadline, "the broker is not let in again", i)
        while i + 1 not in self._members() or not self._in_sync(i):
            self.pause(deadline, "the broker is not in sync again", i)

    def is_unfenced(self, i: int) -> bool:
        """Has the broker said, since it was started last, that the controller has let it in?"""
        with self._log(i).open("rb") as file:
            file.seek(self._said[i])
            return b"Kafka Server started" in file.read()

    def leader(self) -> int | None:
        """A broker that leads a partition, and if there is one not the controllers too: its loss is mended sooner, and
        clusters whose controllers are processes of their own know no other."""
        controller = self._controller()
        leaders = [i for i in self._partition_leaders() if i >= 0]  # below it a partition has none just now
        return next((i for i in leaders if i != controller), leaders[0] if leaders else controller)

    def _partition_leaders(self) -> list[int]:
        """The nodes that lead what is sent to, by partition."""
        from bench.rivals.kafka_client import TOPIC

        assert self._admin is not None
        found = self._admin.list_topics(TOPIC, timeout=ASK_S * 5).topics[TOPIC].partitions
        return [one.leader - 1 for _, one in sorted(found.items())]

    def _controller(self) -> int:
        """The node that leads the controllers, by the nodes' logs."""
        epochs = {}
        for i in range(len(self.nodes)):
            found = ACTIVE.findall(self._log(i).read_bytes())
            epochs[i] = max(map(int, found), default=-1)
        return max(epochs, key=lambda i: epochs[i])

    def _members(self) -> set[int]:
        from confluent_kafka import KafkaException

        assert self._admin is not None
        try:
            return set(self._admin.list_topics(timeout=ASK_S).brokers)
        except KafkaException:
            return set()  # not up yet, or not any more: who waits knows how long

    def _in_sync(self, i: int) -> bool:
        """Is this node among the replicas in sync wherever it is a replica?"""
        from confluent_kafka import KafkaException

        from bench.rivals.kafka_client import TOPIC, topics

        assert self._admin is not None
        try:
            known = self._admin.list_topics(timeout=ASK_S).topics
        except KafkaException:
            return False
        names = {TOPIC, *topics(self.settings)}
        if not names <= set(known):
            return False
        partitions = [one for name in names for one in known[name].partitions.values()]
        return bool(partitions) and all(i + 1 in one.isrs for one in partitions if i + 1 in one.replicas)

    # --- a node more -------------------------------------------------------------------------------------------------

    def joined(self, i: int) -> bool:
        return i + 1 in self._members()

    def stored(self, i: int) -> int:
        from bench.rivals.kafka_client import TOPIC

        found = 0
        for n in range(self.settings.partitions):
            for path in (self.data(i) / f"{TOPIC}-{n}").glob("*.log"):
                with contextlib.suppress(FileNotFoundError):  # a replica that was just moved away
                    found += path.stat().st_size
        return found

    def move_to(self, i: int, deadline: float) -> str:
        """Kafka's tool for reassignments, without a throttle, until the brokers say that all is where it should be."""
        from bench.rivals.kafka_client import TOPIC

        assert self._admin is not None
        found = self._admin.list_topics(TOPIC, timeout=ASK_S * 5).topics[TOPIC].partitions
        plan = evened({number: list(one.replicas) for number, one in sorted(found.items())}, i + 1)
        self._moving().execute(TOPIC, plan)
        while not are_at(self._admin, TOPIC, plan):
            self.pause(deadline, "not all partitions are where they were reassigned to")
        return (
            f"{len(plan)} of {len(found)} partitions were reassigned, one replica of each, by Kafka's own tool, whose"
            " start (a JVM's) is in the time"
        )

    def confirm_moved(self, deadline: float) -> None:
        """The tool's --verify, which is a JVM each time."""
        moving = self._moving()
        while said := moving.left():
            self.pause(deadline, f"the reassignment is not complete: {said}")

    def _moving(self) -> Reassignment:
        return Reassignment(self.folder, self._java("-Xmx128m", TOOL), self.addresses())

    # --- clients -----------------------------------------------------------------------------------------------------

    def client(self, job: str, *arguments: str) -> Client:
        return self.client_command("kafka_client", job, *arguments)

    def load(self, files: Sequence[Path], tool: Literal["kcat", "java", "python"] = "kcat") -> Loaded:
        """By kcat (C; several files come through `cat`, which isn't counted), Kafka's own perf tool in Java (one file:
        it draws as many of its lines at random), or the client in Python."""
        raw, lines = weigh(files)
        before = self.held()
        begin = time.monotonic()
        if tool == "kcat":
            used = self._kcat(files)
        else:
            program = self._perf_tool(files, lines) if tool == "java" else self._python(files)
            if program.wait(LOAD_S):
                raise RivalError(f"{program.name} failed:\n{program.log_end()}")
            used = program.usage().cpu_s
        seconds = time.monotonic() - begin
        held = self.held() - before
        if held < lines:
            raise RivalError(f"kafka was given {lines} lines by {tool} and holds {held}")
        return Loaded(seconds, used, raw, lines, held)

    def _kcat(self, files: Sequence[Path]) -> float:
        options = producer_options(self.addresses(), self.settings)
        command = ["kcat", "-P", "-t", "events", *options]
        with contextlib.ExitStack() as ending, (self.folder / "kcat.log").open("ab") as log:
            source: IO[bytes] | int = subprocess.DEVNULL
            if len(files) == 1:
                command += ["-l", str(files[0])]
            else:
                cat = ending.enter_context(subprocess.Popen(["cat", "--", *files], stdout=subprocess.PIPE))
                assert cat.stdout
                source = cat.stdout
            popen = subprocess.Popen(command, stdin=source, stdout=log, stderr=log)
            program = Program("kcat", popen, self.folder / "kcat.log")
            if program.wait(LOAD_S):
                raise RivalError(f"kcat failed:\n{program.log_end()}")
        return program.usage().cpu_s

    def _perf_tool(self, files: Sequence[Path], lines: int) -> Program:
        if len(files) != 1:
            raise RivalError("Kafka's perf tool takes one file: put them together first")
        one = self.settings
        words = ["acks=all", f"linger.ms={one.linger_ms}", f"batch.size={one.batch_bytes}",
                 f"compression.type={one.compression}", f"enable.idempotence={str(one.idempotent).lower()}",
                 "buffer.memory=67108864"]  # fmt: skip
        command = self._java("-Xmx1g", "org.apache.kafka.tools.ProducerPerformance", "--topic", "events")
        command += ["--num-records", str(lines), "--throughput", "-1", "--payload-file", str(files[0])]
        command += ["--bootstrap-server", ",".join(self.addresses()), "--command-property", *words]
        return Program.start("the perf tool", command, self.folder / "perf.log")

    def _python(self, files: Sequence[Path]) -> Program:
        words = [word for address in self.addresses() for word in ("--to", address)]
        command = [sys.executable, "-m", "bench.rivals.kafka_client", "load", *words, "--settings"]
        return Program.start("load", [*command, self.settings.as_json(), *files], self.folder / "load.log")

    def held(self) -> int:
        """How many events all partitions hold together."""
        from confluent_kafka import Consumer, TopicPartition

        from bench.rivals.kafka_client import TOPIC, topics

        consumer = Consumer({"bootstrap.servers": ",".join(self.addresses()), "group.id": uuid.uuid4().hex})
        try:
            names = {TOPIC, *topics(self.settings)}
            partitions = [TopicPartition(name, i) for name in names for i in range(self.settings.partitions)]
            return sum(consumer.get_watermark_offsets(one, ASK_S * 5)[1] for one in partitions)
        finally:
            consumer.close()


def producer_options(addresses: Sequence[str], settings: Settings) -> list[str]:
    """The same settings as those of the client in Python, as kcat takes them."""
    from bench.rivals.kafka_client import producer_settings

    given = producer_settings(",".join(addresses), settings)
    texts = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in given.items()}
    return [word for key, text in texts.items() for word in ("-X", f"{key}={text}")]
