"""What writes logs in a simulated fleet, and the ledger of what it wrote: all that the oracle knows.

A writer appends lines of many kinds to one file in bursts, sometimes half a line, and rotates it now and then. What it
writes is on its device at once, so whatever befalls its host, the file holds what the ledger says. Some lines are the
same on purpose (two equal lines are two events), some hold nasty bytes, some are far too long, some are old or early.
"""

import contextlib
import json
import random
from datetime import UTC, datetime

import trio

from service.machine import File
from tests.simulation.disk import SimDisk
from tests.simulation.machine import Host

NS = 1_000_000_000
FOLDER = "/var/log"
SAME = b"the same line as ever\n"
NASTY = (b"\xff\xfe not text \x00\x01\n", b"\r\n", b"\n", b"tab\tand \x1b[31mcolour\r\n", "µ → ∞ ü\n".encode())
LONG = 70_000
DAY_S = 86_400


class Writer:
    """One log: its name, and what each of its files holds, in order of their making."""

    def __init__(self, host: Host, name: str, rng: random.Random, strange: float = 0.5) -> None:
        self.host, self.name, self.rng = host, name, rng
        self.files: list[bytearray] = []
        self.lines = 0
        self.strange = rng.random() < strange  # some of its times are days off
        self._disk = SimDisk(host.platter)
        self._file: File | None = None
        self._disk.mkdirs(FOLDER)
        self._line = rng.choice((self._iso, self._rfc3164, self._json, self._iso))

    @property
    def path(self) -> str:
        return f"{FOLDER}/{self.name}.log"

    @property
    def names(self) -> list[str]:
        """Every name that one of its files has ever had."""
        return [self.path, *(f"{self.path}.{number}" for number in range(1, len(self.files) + 1))]

    async def run(self, until: float, lines: int, rotate: float) -> None:
        """Write so many lines until then, in bursts; rotate after some of them."""
        bursts = max(6, round(until / 4))
        for burst in range(bursts):
            await trio.sleep(max(0.0, (until - trio.current_time()) / (bursts - burst) * self.rng.uniform(0.4, 1.6)))
            if self.host.name in self.host.world.network.down:
                continue  # its host has no power either
            left = lines - self.lines
            self.write(b"".join(self._some(max(1, left // (bursts - burst)))))
            if self.rng.random() < rotate:
                self.rotate()
        self.write(b"".join(self._some(max(1, lines - self.lines))))

    def write(self, data: bytes) -> None:
        """Append, as far as there is room."""
        if self._file is None:
            self._file = self._disk.open_append(self.path)
            self.files.append(bytearray())
        if not self.files[-1] and not data.endswith(b"\n"):
            data += b"\n"  # a file of one unfinished line has no name yet: it is not sent while it may grow
        before = self._file.size()
        with contextlib.suppress(OSError):  # the disk is full: the ledger has what the file has
            self._file.write(data)
        self.files[-1] += self._file.pread(len(data), before)
        self._sync()

    def rotate(self) -> None:
        """The file gets another name, and the next line begins a new one."""
        if self._file is not None:
            self._disk.rename(self.path, f"{self.path}.{len(self.files)}")
            self._file.close()
            self._file = None
            self._sync()

    def _sync(self) -> None:
        folder = self.host.platter.folder(FOLDER)
        for node in folder.names.values():
            node.fsync()
        folder.fsync()

    # --- lines --------------------------------------------------------------------------------------------------------

    def _some(self, count: int) -> list[bytes]:
        found = []
        for _ in range(count):
            dice = self.rng.random()
            self.lines += 1
            if dice < 0.1:
                found.append(SAME)
            elif dice < 0.11:
                found.append(self.rng.choice(NASTY))
            elif dice < 0.1105:
                found.append(self._text() * (LONG // 20) + b"\n")
            else:
                found.append(self._line(self._when()))
        if self.rng.random() < 0.1:
            found[-1] = found[-1].rstrip(b"\n")  # the rest of this line comes with the next burst
        return found

    def _when(self) -> int:
        shift = 0
        if self.strange and self.rng.random() < 0.02:
            shift = self.rng.choice((-3 * DAY_S, -2 * 3600, 3600, 2 * DAY_S, DAY_S - self.host.time_ns() // NS)) * NS
        return self.host.time_ns() + shift

    def _text(self) -> bytes:
        return b"request %d took %d ms " % (self.rng.randrange(10**6), self.rng.randrange(1000))

    def _iso(self, at: int) -> bytes:
        return b"%s web-1 app[%d]: %s\n" % (_time(at, "%Y-%m-%dT%H:%M:%SZ"), self.rng.randrange(9), self._text())

    def _rfc3164(self, at: int) -> bytes:
        return b"%s %s sshd[%d]: %s\n" % (_time(at, "%b %d %H:%M:%S"), b"web-1", self.rng.randrange(99), self._text())

    def _json(self, at: int) -> bytes:
        return json.dumps({"ts": _time(at, "%Y-%m-%dT%H:%M:%SZ").decode(), "n": self.lines}).encode() + b"\n"


def _time(at: int, pattern: str) -> bytes:
    return datetime.fromtimestamp(at // NS, UTC).strftime(pattern).encode()
