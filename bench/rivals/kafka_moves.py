"""Replicas of a Kafka topic that are moved to a new broker: which ones, and Kafka's own tool that does it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.rivals.process import Program, RivalError

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

TOOL = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
TOOL_S, ASK_S = 60.0, 2.0


class Reassignment:
    """One move, written down in a file that the tool is given. `tool`: the command that starts it."""

    def __init__(self, folder: Path, tool: Sequence[str | Path], servers: Sequence[str]) -> None:
        self._folder, self._path = folder, folder / "reassignment.json"
        self._tool = [*tool, "--bootstrap-server", ",".join(servers), "--reassignment-json-file", self._path]

    def execute(self, topic: str, plan: dict[int, list[int]]) -> None:
        """Tell the brokers where these partitions are to lie. They go on by themselves."""
        moves = [{"topic": topic, "partition": number, "replicas": one} for number, one in plan.items()]
        self._path.write_text(json.dumps({"version": 1, "partitions": moves}))
        self._run("--execute")

    def left(self) -> str:
        """What the tool says while not all is moved; empty when all is."""
        moves = len(json.loads(self._path.read_text())["partitions"])
        said = self._run("--verify")
        return said if said.count("is completed") < moves else ""

    def _run(self, job: str) -> str:
        """What the tool says; RivalError if it fails."""
        log = self._folder / f"reassign{job}.log"
        log.unlink(missing_ok=True)
        program = Program.start(f"reassign {job}", [*self._tool, job], log)
        try:
            if program.wait(TOOL_S):
                raise RivalError(f"partitions can't be reassigned:\n{program.log_end()}")
        finally:
            program.kill()
        return log.read_text(errors="replace")


def are_at(admin: AdminClient, topic: str, plan: dict[int, list[int]]) -> bool:
    """Are these partitions in sync at these brokers and nowhere else?"""
    from confluent_kafka import KafkaException  # not before: where it is absent, `missing` says so

    try:
        found = admin.list_topics(topic, timeout=ASK_S).topics[topic].partitions
    except KafkaException:
        return False
    return all(set(found[n].replicas) == set(found[n].isrs) == set(replicas) for n, replicas in plan.items())


def evened(replicas: dict[int, list[int]], new: int) -> dict[int, list[int]]:
    """The partitions that get a replica at a new broker, with where they lie then: as many as its even part of all,
    each in place of a follower of the broker that has most, so that no leader has to change."""
    counts = Counter(broker for one in replicas.values() for broker in one)
    part = counts.total() // (len(counts) + 1)
    found = {}
    for number, one in list(replicas.items())[:part]:
        leaves = max(one[1:] or one, key=lambda broker: counts[broker])
        counts[leaves] -= 1
        found[number] = [new if broker == leaves else broker for broker in one]
    return found
