"""Public keys that somebody trusts, from a file: whose seals and verdicts an audit believes (`--keys FILE`).

A key is 64 hex digits anywhere on a line; the rest of the line says whose it is, for people. `#` begins a comment.
"""

from __future__ import annotations

import re

from protocol.errors import FormatError
from service.machine import Machine

__all__ = ["read_keys"]

KEY = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{64}(?![0-9a-fA-F])")
FILE_MAX = 16 << 20


def read_keys(machine: Machine, path: str) -> frozenset[bytes]:
    """The keys in a file. FormatError if it can't be read, or a line has none."""
    try:
        data = machine.disk.read_bytes(path)
    except OSError as error:
        raise FormatError(f"--keys {path}: {error.strerror or error}") from error
    if len(data) > FILE_MAX:
        raise FormatError(f"--keys {path}: {len(data)} bytes; is this a list of keys?")
    found: set[bytes] = set()
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        text = line.partition("#")[0]
        keys = KEY.findall(text)
        if text.strip() and not keys:
            raise FormatError(f"--keys {path}, line {number}: no public key (64 hex digits) in it")
        found.update(bytes.fromhex(key) for key in keys)
    if not found:
        raise FormatError(f"--keys {path}: no public key in it")
    return frozenset(found)
