"""NATS JetStream: a cluster of nats-server, one replicated stream in files."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.rivals.lines import weigh
from bench.rivals.ports import free_ports
from bench.rivals.process import Client, Program, RivalError
from bench.rivals.rival import Loaded, Rival, Settings

if TYPE_CHECKING:
    from nats.js.api import StreamInfo

SERVER = Path(sys.executable).with_name("nats-server")
ASK_S, LOAD_S = 2.0, 3600.0
EACH_PORTS = 3


class Nats(Rival):
    """Node i listens on three ports: for clients, for the other nodes, and for questions about its health."""

    name = "nats"

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        super().__init__(folder, settings)
        self._ports: list[int] = []

    @classmethod
    def missing(cls) -> str:
        if SERVER.exists() and importlib.util.find_spec("nats") is not None:
            return ""
        return "no nats-server or nats-py beside this Python: .venv/bin/pip install -e '.[bench]'"

    @classmethod
    def versions(cls) -> dict[str, str]:
        said = subprocess.run([SERVER, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
        return {"nats-server": said.split()[-1].lstrip("v"), "nats-py": importlib.metadata.version("nats-py")}

    def differences(self) -> list[str]:
        found = [
            "one stream, one leader: partitions and keys have no counterpart; every event is acknowledged by itself"
            " once a majority of its copies has it, and there is no linger: batch size is the socket's",
            "what is stored is compressed by the servers with S2, their only way (nothing where `none` is asked); the"
            " wire carries everything uncompressed",
            "the only client in this comparison is the one in Python; its CPU is not that of a client in Go or C",
            "an event whose acknowledgement doesn't come is published again after 5 s, tuned: 1 s; the servers have no"
            " time-outs of elections to set",
            "a node serves again when its own health check, with the stream's, says ok",
        ]
        if self.settings.copies == 2:
            found.append("two copies need both for a majority: with one dead nothing is taken")
        if self.settings.sync == "none":
            found.append("files are fsynced every two minutes, NATS' default")
        else:
            found.append("sync_interval: always: each write is fsynced before it counts")
        return found

    # --- nodes -------------------------------------------------------------------------------------------------------

    def prepare(self, count: int) -> None:
        self._ports = free_ports(EACH_PORTS * (count + self.spare))
        routes = ", ".join(f'"nats://{self.hosts[i]}:{self._ports[EACH_PORTS * i + 1]}"' for i in range(count))
        sync = "always" if self.settings.sync == "each" else "2m"
        for i, host in enumerate(self.all_hosts):
            client, inner, health = self._ports[EACH_PORTS * i : EACH_PORTS * (i + 1)]
            self.data(i).mkdir(parents=True, exist_ok=True)
            text = f"""server_name: node{i}
listen: "{host}:{client}"
http: "{host}:{health}"
jetstream {{ store_dir: "{self.data(i)}", sync_interval: "{sync}" }}
"""
            cluster = f'cluster {{ name: bench, listen: "{host}:{inner}", routes: [{routes}] }}\n'
            (self.data(i).parent / "server.conf").write_text(text + (cluster if count + self.spare > 1 else ""))

    def launch(self, i: int) -> Program:
        folder = self.data(i).parent
        return self.program(i, [SERVER, "-c", folder / "server.conf"], folder / "server.log")

    def data(self, i: int) -> Path:
        return self.folder / f"node{i}" / "data"

    def addresses(self) -> list[str]:
        return [f"{host}:{port}" for host, port in zip(self.hosts, self._ports[::EACH_PORTS], strict=False)]

    def until_ready(self, deadline: float) -> None:
        """The stream is made and a message in another one is acknowledged."""
        while not all(self._healthy(i) for i in range(len(self.nodes))):
            self.pause(deadline, "not all nodes are healthy")
        while not asyncio.run(self._made()):
            self.pause(deadline, "no message is acknowledged")

    def until_serving(self, i: int, deadline: float) -> None:
        while not self._healthy(i):
            self.pause(deadline, "the node is not healthy again", i)

    def _healthy(self, i: int) -> bool:
        try:
            url = f"http://{self.hosts[i]}:{self._ports[EACH_PORTS * i + 2]}/healthz"
            with urllib.request.urlopen(url, timeout=ASK_S) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False  # not up yet: who waits knows how long

    def leader(self) -> int | None:
        """Who leads the stream."""
        found = asyncio.run(self._stream_info()).cluster
        return int(found.leader.removeprefix("node")) if found is not None and found.leader else None

    async def _made(self) -> bool:
        import nats  # not before: where it is absent, `missing` says so
        from nats.errors import Error
        from nats.js.api import StoreCompression, StreamConfig

        from bench.rivals.nats_client import STREAM

        packed = StoreCompression.NONE if self.settings.compression == "none" else StoreCompression.S2
        try:
            connection = await nats.connect([f"nats://{address}" for address in self.addresses()])
            try:
                stream = connection.jetstream(timeout=ASK_S)
                for name in (STREAM, "ready"):
                    config = StreamConfig(name, subjects=[name], num_replicas=self.settings.copies, compression=packed)
                    await stream.add_stream(config)
                await stream.publish("ready", b"ready")
            finally:
                await connection.close()
        except (TimeoutError, OSError, Error):
            return False  # no leader yet
        return True

    # --- a node more -------------------------------------------------------------------------------------------------

    def joined(self, i: int) -> bool:
        return self._healthy(i)

    def stored(self, i: int) -> int:
        """Before compression: files shrink when a block is full and is packed, on each node at another time."""
        return self._state(i)["bytes"]

    def move_to(self, i: int, deadline: float) -> str:
        """A peer of the stream that doesn't lead it is removed; the servers choose another, which can only be the one
        that has no replica yet."""
        end = asyncio.run(self._remove_a_peer())
        while self._state(i)["last_seq"] < end:
            self.pause(deadline, "the stream's new replica has not caught up")
        return "one of the stream's three peers was removed, and the servers put the new one in its place"

    async def _remove_a_peer(self) -> int:
        """The stream's last place when it was asked for."""
        import nats

        from bench.rivals.nats_client import STREAM

        connection = await nats.connect([f"nats://{address}" for address in self.addresses()])
        try:
            found = await connection.jetstream().stream_info(STREAM)
            cluster = found.cluster
            if cluster is None or not cluster.replicas:
                raise RivalError("nats: the stream has no followers")
            leaves = cluster.replicas[0].name
            asked = json.dumps({"peer": leaves}).encode()
            answer = await connection.request(f"$JS.API.STREAM.PEER.REMOVE.{STREAM}", asked, timeout=ASK_S * 5)
        finally:
            await connection.close()
        if not json.loads(answer.data).get("success"):
            raise RivalError(f"nats: {leaves} can't be removed from the stream: {answer.data.decode()}")
        return found.state.last_seq

    def _state(self, i: int) -> dict[str, int]:
        """Bytes and last place of what a node has of the stream itself; nothing if it has no replica or isn't up yet. A
        replica is filled in order."""
        from bench.rivals.nats_client import STREAM

        nothing = {"bytes": 0, "last_seq": 0}
        try:
            url = f"http://{self.hosts[i]}:{self._ports[EACH_PORTS * i + 2]}/jsz?accounts=true&streams=true"
            with urllib.request.urlopen(url, timeout=ASK_S) as answer:
                said = json.load(answer)
        except OSError:
            return nothing
        streams = [one for account in said.get("account_details", []) for one in account.get("stream_detail", [])]
        return next((one["state"] for one in streams if one["name"] == STREAM), nothing)

    # --- clients -----------------------------------------------------------------------------------------------------

    def client(self, job: str, *arguments: str) -> Client:
        return self.client_command("nats_client", job, *arguments)

    def load(self, files: Sequence[Path]) -> Loaded:
        """By the client in Python, 4,000 events under way."""
        raw, lines = weigh(files)
        before = asyncio.run(self._held())
        where = [word for address in self.addresses() for word in ("--to", address)]
        command = [sys.executable, "-m", "bench.rivals.nats_client", "load", *where, "--settings"]
        begin = time.monotonic()
        program = Program.start("load", [*command, self.settings.as_json(), *files], self.folder / "load.log")
        if program.wait(LOAD_S):
            raise RivalError(f"nats' client failed:\n{program.log_end()}")
        seconds = time.monotonic() - begin
        held = asyncio.run(self._held()) - before
        if held < lines:
            raise RivalError(f"nats was given {lines} lines and holds {held}")
        return Loaded(seconds, program.usage().cpu_s, raw, lines, held)

    async def _held(self) -> int:
        return (await self._stream_info()).state.messages

    async def _stream_info(self) -> StreamInfo:
        import nats

        from bench.rivals.nats_client import STREAM

        connection = await nats.connect([f"nats://{address}" for address in self.addresses()])
        try:
            return await connection.jetstream().stream_info(STREAM)
        finally:
            await connection.close()
