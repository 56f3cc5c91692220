"""A small network for a cluster: each node in a network namespace of its own, at one switch with the clients.

The switch is a bridge of this host, at which the clients listen and dial; a node's cable is a veth pair. There is no
proxy: what passes is what the programs say to each other, and the counters of the cables say how much. A node that is
cut off is one whose port at the switch forwards nothing any more: packets vanish both ways, nobody is told, and the
node's own side of the cable stays up. Addresses are fixed for all (no ARP), so that nobody can tell the silence from
that of a host behind a router either.

Names carry our pid. What a killed harness has left is swept when the next one begins: namespaces, cables and switches
of dead pids, and the processes that still run in them.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
from itertools import count
from pathlib import Path
from typing import NamedTuple

from bench.rivals.process import RivalError

NAMES = re.compile(r"rival(\d+)[a-z]\d*")  # an interface's name has 15 characters at most
INTERFACES, NAMESPACES = Path("/sys/class/net"), Path("/run/netns")
FORWARDS, DISABLED = 3, 0  # states of a bridge's port
TRIES, END_S = 50, 10.0
_letters = count()


class Traffic(NamedTuple):
    """Bytes of frames that a node's cable carried, as the kernel counts them: large TCP segments with one header."""

    received: int
    sent: int


class Nets:
    """So many nodes at one switch, from its making to `close`. `addresses`: of the nodes; `host`: of the clients."""

    def __init__(self, nodes: int) -> None:
        if why := missing():
            raise RivalError(why)
        sweep()
        letter = chr(ord("a") + next(_letters) % 26)
        self.bridge = f"rival{os.getpid()}{letter}"
        self.names = [f"{self.bridge}{i}" for i in range(nodes)]
        subnet = _free_subnet()
        self.host, self.addresses = f"{subnet}.1", [f"{subnet}.{i + 2}" for i in range(nodes)]
        self._seen: list[Traffic] = []  # at the end
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        hardware = [f"02:00:00:00:00:{i + 1:02x}" for i in range(len(self.names) + 1)]
        # A bridge that snoops tells all of its ports that it does, whenever one comes.
        _ip("link", "add", self.bridge, "address", hardware[0], "type", "bridge", "mcast_snooping", "0")
        _silence(self.bridge)
        _ip("address", "add", f"{self.host}/24", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")
        neighbours = list(zip([self.host, *self.addresses], hardware, strict=True))
        for i, name in enumerate(self.names):
            _ip("netns", "add", name)
            _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "address", hardware[i + 1],
                "netns", name)  # fmt: skip
            _silence(name)
            _silence("eth0", *self.prefix(i))
            _ip("link", "set", name, "master", self.bridge, "up")
            # What is for a node that is cut off goes nowhere, not to all others.
            _say("bridge", "fdb", "replace", hardware[i + 1], "dev", name, "master", "static")
            for kind in ("flood", "mcast_flood", "bcast_flood"):
                _say("bridge", "link", "set", "dev", name, kind, "off")
            inside = ["-n", name]
            _ip(*inside, "link", "set", "lo", "up")
            _ip(*inside, "link", "set", "eth0", "up")
            _ip(*inside, "address", "add", f"{self.addresses[i]}/24", "dev", "eth0")
            _know(neighbours[: i + 1] + neighbours[i + 2 :], "eth0", *inside)
        _know(neighbours[1:], self.bridge)

    def prefix(self, i: int) -> list[str]:
        """A command that becomes another in the node's namespace; the process stays the same."""
        return ["nsenter", f"--net={NAMESPACES / self.names[i]}"]

    def cut(self, i: int) -> None:
        """From now on nothing passes, in either direction, and nobody is told."""
        _say("bridge", "link", "set", "dev", self.names[i], "state", str(DISABLED))

    def heal(self, i: int) -> None:
        _say("bridge", "link", "set", "dev", self.names[i], "state", str(FORWARDS))

    def heal_all(self) -> None:
        """Every node that is still there."""
        for i, name in enumerate(self.names):
            if (INTERFACES / name).exists():
                self.heal(i)

    def traffic(self) -> list[Traffic]:
        """Of each node, since the beginning; once it is closed, until then. What a node says to itself isn't in it."""
        return self._seen or self._count("bytes")

    def frames(self) -> list[Traffic]:
        """The same in frames, as one program's kernel hands them to another's: up to 64 KiB each. Not after the end."""
        return self._count("packets")

    def _count(self, what: str) -> list[Traffic]:
        return [Traffic(_counter(name, f"tx_{what}"), _counter(name, f"rx_{what}")) for name in self.names]

    def close(self) -> None:
        """Everything is removed, and who still runs in a namespace is killed; a second time does nothing."""
        with contextlib.suppress(OSError):
            self._seen = self.traffic()
        for name in [*self.names, self.bridge]:
            _remove(name)


def missing() -> str:
    """Why there can't be namespaces here; empty if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root: run it with sudo"
    if absent := [name for name in ("ip", "bridge", "nsenter") if shutil.which(name) is None]:
        return f"no {' and no '.join(absent)} for network namespaces: apt-get install iproute2 util-linux"
    name = f"rival{os.getpid()}z"
    try:
        _ip("netns", "add", name)
        _ip("link", "add", name, "type", "bridge")
    except RivalError as error:
        return f"network namespaces are not to be had: {error}"
    finally:
        _remove(name)
    return ""


def sweep() -> None:
    """Remove what processes have left that are dead by now."""
    for name in {path.name for folder in (NAMESPACES, INTERFACES) if folder.is_dir() for path in folder.iterdir()}:
        found = NAMES.fullmatch(name)
        if found and not Path(f"/proc/{found[1]}").exists():
            _remove(name)


def _remove(name: str) -> None:
    """A namespace with who runs in it, and an interface. The cable goes with either of its ends, but a namespace goes
    only when nobody holds it any more, so its cable is removed first."""
    if (NAMESPACES / name).exists():
        for pid in _inside(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for kind, folder in (("link", INTERFACES), ("netns", NAMESPACES)):
        if (folder / name).exists():
            _ip(kind, "delete", name)


def _inside(name: str) -> list[int]:
    return [int(line) for line in _ip("netns", "pids", name).splitlines()]


def _silence(device: str, *inside: str) -> None:
    """No IPv6: its housekeeping would be counted."""
    if Path("/proc/sys/net/ipv6").exists():
        _say(*inside, "sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{device}/disable_ipv6")


def _know(neighbours: list[tuple[str, str]], device: str, *inside: str) -> None:
    for address, hardware in neighbours:
        _ip(*inside, "neighbour", "replace", address, "lladdr", hardware, "dev", device, "nud", "permanent")


def _counter(name: str, which: str) -> int:
    return int((INTERFACES / name / "statistics" / which).read_text())


def _free_subnet() -> str:
    """The first three numbers of one that no interface of this host has."""
    used = _ip("-4", "address", "show")
    free = (f"10.{random.randrange(64, 256)}.{random.randrange(256)}" for _ in range(TRIES))
    for subnet in free:
        if f" {subnet}." not in used:
            return subnet
    raise RivalError(f"no free 10.x.y.0/24 in {TRIES} tries")


def _ip(*words: str) -> str:
    return _say("ip", *words)


def _say(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=END_S)
    if done.returncode:
        raise RivalError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
