"""The key file: a node's seed, how often it started, and on which machine.

It is a small TOML text, kept apart from the data so that a lost disk doesn't lose the identity. Each load counts one
more boot, durably, before anybody sees the number: epochs made of it never repeat. On another machine (a copied disk
image, a restored backup) the seed isn't used: two nodes of one identity would be worse than a new one; the old file
is kept beside it under `.moved`. Where a machine has no id, nothing can be told, and the seed is used. Processes that
share a key file, as porters do, take turns at it (`.lock`), so they make one seed and count each start once.

What the seed means (Ed25519, the node's id) is the protocol's business.
"""

import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import trio

from service.config import ConfigError
from service.disk import BusyError, folder_of
from service.machine import Machine

SEED_SIZE = 32
TURN_S, LOOK_EVERY_S = 10.0, 0.02  # whoever holds the file reads some bytes and writes them once
OTHERS = 0o077  # permission bits of group and world


class KeyFile(NamedTuple):
    """`fresh`: the seed was made just now. `moved`: because the file was another machine's (say so to the operator)."""

    seed: bytes
    boots: int
    fresh: bool
    moved: bool

    def __repr__(self) -> str:
        return f"KeyFile(boots={self.boots})"  # the seed must never reach a log


async def load_key(machine: Machine, path: str) -> KeyFile:
    """Read the key file, or make it; count this boot. ConfigError if it can't be trusted."""
    async with _turn(machine, path):
        return await _load(machine, path)


@asynccontextmanager
async def _turn(machine: Machine, path: str) -> AsyncIterator[None]:
    """No other process reads or writes the key file meanwhile."""
    until = machine.now() + TURN_S
    while True:
        try:
            machine.disk.mkdirs(folder_of(path))
            lock = machine.disk.lock(path + ".lock")
            break
        except BusyError as error:
            if machine.now() >= until:
                text = f"{path}: the key file is {error.strerror}; wait for that, or name another with --key"
                raise ConfigError(text) from error
        except OSError as error:
            raise _unwritable(path, error) from error
        await trio.sleep(LOOK_EVERY_S)
    try:
        yield
    finally:
        lock.close()


async def _load(machine: Machine, path: str) -> KeyFile:
    known = _read(machine, path)
    moved = known is not None and _is_elsewhere(machine.machine_id, known.machine)
    if known is None or moved:
        if moved:
            machine.disk.rename(path, path + ".moved")
        found = KeyFile(machine.entropy(SEED_SIZE), 1, True, moved)
    else:
        found = KeyFile(known.seed, known.boots + 1, False, False)
    await _write(machine, path, found)
    return found


class _Content(NamedTuple):
    seed: bytes
    boots: int
    machine: bytes

    def __repr__(self) -> str:
        return f"_Content(boots={self.boots})"


def _is_elsewhere(here: bytes, there: bytes) -> bool:
    return bool(here and there and here != there)


def _read(machine: Machine, path: str) -> _Content | None:
    try:
        mode = machine.disk.stat(path).mode
        text = machine.disk.read_bytes(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: the key file can't be read: {error.strerror or error}") from error
    if mode & OTHERS:
        raise ConfigError(f"{path}: the key file can be read by others; do: chmod 600 {path}")
    try:
        return _parse(tomllib.loads(text.decode()))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a key file ({error}); move it away to get a new identity") from error


def _parse(table: dict[str, Any]) -> _Content:
    seed, boots, machine = bytes.fromhex(table["seed"]), table["boots"], bytes.fromhex(table["machine"])
    if len(seed) != SEED_SIZE or not isinstance(boots, int) or boots < 1:
        raise ValueError("its seed or its counter is damaged")
    return _Content(seed, boots, machine)


async def _write(machine: Machine, path: str, key: KeyFile) -> None:
    text = (
        "# The identity of one node. Keep it secret, and never give it to two.\n"
        f'seed = "{key.seed.hex()}"\nboots = {key.boots}\nmachine = "{machine.machine_id.hex()}"\n'
    )
    try:
        await machine.disk.replace(path, text.encode(), mode=0o600)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: str, error: OSError) -> ConfigError:
    return ConfigError(f"{path}: the key file can't be written: {error.strerror or error}")
