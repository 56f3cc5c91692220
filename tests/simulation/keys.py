"""Keys for simulated hosts: files as the processes themselves would make them, of seeds that a test knows."""

import hashlib
from collections.abc import Iterable

from protocol.identity import NodeKey
from tests.simulation.machine import World

LISTED, SECRET = "/etc/buck/authorized_keys", "/etc/buck/secret"


def key_of(name: str) -> NodeKey:
    """The key of a host, by its name."""
    return NodeKey.from_seed(hashlib.sha256(name.encode()).digest())


async def write(world: World, host: str, path: str, text: str, mode: int) -> None:
    disk = world.machine(host).disk
    disk.mkdirs(path.rpartition("/")[0] or "/")
    await disk.replace(path, text.encode(), mode=mode)


async def give_key(world: World, host: str, path: str) -> None:
    """The host's key file, as if it had started once."""
    machine = world.machine(host).machine_id.hex()
    text = f'seed = "{key_of(host).seed.hex()}"\nboots = 1\nmachine = "{machine}"\n'
    await write(world, host, path, text, 0o600)


async def give_fleet(world: World, roles: dict[str, tuple[str, list[str]]]) -> dict[str, str]:
    """Keys for all hosts of each role (and where its processes keep theirs); the settings that name the files."""
    lines = []
    for role, (path, hosts) in roles.items():
        for host in hosts:
            await give_key(world, host, path)
            lines.append(f"key {key_of(host).public.hex()} roles={role} hosts={host}")
    return await give_lists(world, [host for _, hosts in roles.values() for host in hosts], lines)


async def give_lists(world: World, hosts: Iterable[str], lines: Iterable[str]) -> dict[str, str]:
    """The list of keys and the secret on each host; the settings that name them."""
    for host in hosts:
        await write(world, host, LISTED, "\n".join(lines), 0o644)
        await write(world, host, SECRET, "the secret of a simulated cluster", 0o600)
    return {"authorized_keys": LISTED, "secret_file": SECRET}
