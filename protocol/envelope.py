"""The envelope of a signed document: seals, retirements and statements differ only in what is inside.

    magic 4 | length u32 | msgpack array | Ed25519 signature of all before, 64

The array's first member is a version, one of the others the public key of who signs. A reader looks at the length and
the magic, then at the version (of a later one it reads nothing more: it may be fine), at each member, and at last at
the signature. Whether that key may say so, and whether the members fit each other, is its caller's business. Pure.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

from protocol.errors import FormatError, VersionError
from protocol.identity import SIGNATURE_SIZE, NodeKey, verify
from protocol.packed import Buffer, PackedError, pack, unpack_array
from protocol.schema import Group, SchemaError

PREFIX: Final = struct.Struct(">4sI")


@dataclass(frozen=True, slots=True)
class Envelope:
    """One kind of document: `fields` are all members of its array, the version first."""

    magic: bytes
    name: str  # as errors call it
    version: int
    size_max: int  # bytes of the whole
    fields: Group
    signer: int  # which of the members is the public key
    error: type[FormatError]  # of whatever is no such document

    def sign(self, key: NodeKey, *members: object) -> bytes:
        """The document that says so; `error` if it would be too large, or names another key."""
        row = (self.version, *members)
        if key.public != row[self.signer]:
            raise self.error(f"a {self.name} can only be signed by the key that it names")
        return self.wrap(key, pack(self.fields.dump(row)))

    def wrap(self, key: NodeKey, body: bytes) -> bytes:
        """A packed array with what goes around it, whatever it says."""
        size = PREFIX.size + len(body) + SIGNATURE_SIZE
        if size > self.size_max:
            raise self.error(f"a {self.name} of {size} bytes: at most {self.size_max}; state less at once")
        data = PREFIX.pack(self.magic, len(body)) + body
        return data + key.sign(data)

    def open(self, data: Buffer) -> tuple[Any, ...]:
        """The members without the version, the signature checked. `error`, or VersionError for a later version."""
        data = bytes(data)
        if not PREFIX.size + SIGNATURE_SIZE <= len(data) <= self.size_max:
            raise self.error(f"no {self.name} has {len(data)} bytes")
        magic, size = PREFIX.unpack_from(data)
        if magic != self.magic or len(data) != PREFIX.size + size + SIGNATURE_SIZE:
            raise self.error(f"not a {self.name}, or not of the length that it says")
        try:
            row = unpack_array(data[PREFIX.size : -SIGNATURE_SIZE])
            if row and row[0] != self.version and type(row[0]) is int:
                raise VersionError(f"a {self.name} of version {row[0]}: this reads {self.version}")
            members = self.fields.load(row)
            verify(members[self.signer], data[:-SIGNATURE_SIZE], data[-SIGNATURE_SIZE:])
        except VersionError:
            raise
        except (PackedError, SchemaError, FormatError) as error:
            raise self.error(f"not a {self.name}: {error}") from error
        return members[1:]
