"""Two bucks and a tailer in a simulated world: a file goes in, both bucks hold its packets, in virtual time."""

import hashlib

import trio

from buck.node import run_node
from buck.settings import BuckSettings
from protocol.packet import peek, read
from service.run import DONE
from service.units import Address
from tailer.agent import run_tailer
from tailer.settings import TailerSettings
from tests.simulation.machine import Host, SimMachine, World, simulate
from tests.simulation.platter import Folder, Inode

BUCKS = (Address("b1", 7000), Address("b2", 7000))
LINES = b"".join(b"2023-11-14T22:13:%02dZ web-1 app[%d]: request %d done\n" % (i % 60, i % 7, i) for i in range(2_000))


async def buck(machine: SimMachine, join: Address) -> None:
    settings = BuckSettings(
        listen=Address("0.0.0.0", 7000), http=Address("0.0.0.0", 7001), disk=("/disk",), join=(join,), insecure=True
    )
    await run_node(machine, settings, trio.Event(), lambda here, there: None)


async def tailer(machine: SimMachine) -> int:
    settings = TailerSettings(files=("/var/log/*.log",), to=BUCKS[:1], journal="/journal", once=True, insecure=True)
    return await run_tailer(machine, settings, trio.Event())


async def cluster(world: World) -> tuple[int, list[list[bytes]], str]:
    """The tailer's exit code, the packets on each buck, and a trace of the whole run."""
    codes: list[int] = []
    hosts = [world.host(address.host) for address in BUCKS]
    logs = world.machine("web-1").disk
    logs.mkdirs("/var/log")
    logs.open_new("/var/log/app.log").write(LINES)

    async def once(machine: SimMachine) -> None:
        codes.append(await tailer(machine))

    async with trio.open_nursery() as nursery:
        for host, other in zip(hosts, reversed(BUCKS), strict=True):
            host.start(nursery, lambda machine, join=other: buck(machine, join))
        await trio.sleep(3)
        await world.host("web-1").start(nursery, once).ended.wait()
        for host in hosts:
            host.power_cut()
    packets = [sorted(_packets(host)) for host in hosts]
    trace = hashlib.sha256(b"%.9f" % trio.current_time())
    for one in packets:
        trace.update(b"".join(one))
    return codes[0], packets, trace.hexdigest()


def _packets(host: Host) -> list[bytes]:
    found = []
    for file in _files(host.platter.folder("/disk")):
        data, at = bytes(file.data), 0
        while data[at : at + 4] == b"BUK1":
            size = peek(data, at)
            found.append(data[at : at + size])
            at += size
    return found


def _files(folder: Folder) -> list[Inode]:
    found = []
    for node in folder.names.values():
        found += _files(node) if isinstance(node, Folder) else [node]
    return found


def test_both_bucks_hold_every_packet_even_after_their_power_goes():
    code, [first, second], _ = simulate(5, cluster)
    assert code == DONE
    assert first == second != []
    headers = [read(packet).header for packet in first]
    assert sum(header.raw for header in headers) == len(LINES)
    assert sum(header.count for header in headers) == 2_000
    assert {header.streams[0].path for header in headers} == {b"/var/log/app.log"}


def test_a_cluster_runs_the_same_way_for_the_same_seed():
    traces = [simulate(seed, cluster)[2] for seed in (5, 6, 5)]
    assert traces[0] == traces[2] != traces[1]
