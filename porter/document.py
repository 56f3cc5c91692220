"""A verdict as an object of the archive: one JSON document, signed by the porter that wrote it.

It names the hour's parts by digest, the seals that these carry, the verdict before it, and the one that was written
last before it (`after`), so that none can be changed, and none but the very last left out, without somebody noticing.
The signature (Ed25519) is over the document without the member `signature`, written as it is here: keys in order,
indented by one. Anyone with the porter's public key can check it; without it, that the key named in it wrote it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from protocol.errors import FormatError
from protocol.identity import NodeKey, verify
from protocol.ranges import Ranges

__all__ = ["DOCUMENT_MAX", "UNREADABLE", "Document", "opened", "same", "signed"]

CONTEXT = b"buck verdict 1\n"
DOCUMENT_MAX = 64 << 20  # an hour of a hundred thousand tailers is half of it
OWN = ("after", "before", "porter", "signature")  # what two porters that find the same say differently
# Of an object of JSON whose members are not as they should be: of another kind, too deep, infinite.
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


class Document(NamedTuple):
    """A verdict, and the public key of the porter that signed it."""

    said: Mapping[str, Any]
    porter: bytes

    @property
    def parts(self) -> dict[str, str]:
        """Name -> digest of the objects that it names."""
        return {str(part["name"]): str(part["digest"]) for part in self.said["parts"]}

    @property
    def seals(self) -> dict[bytes, tuple[Ranges, str]]:
        """Tailer -> the seals that the parts carry: their numbers, and the digest of the last."""
        found = self.said["seals"]
        return {bytes.fromhex(one["tailer"]): (Ranges.from_flat(one["numbers"]), str(one["last"])) for one in found}

    @property
    def verdicts(self) -> dict[str, str]:
        """Name -> digest of the verdicts that it names."""
        found = [self.said["before"], self.said["after"]]
        return {str(one["name"]): str(one["digest"]) for one in found if one}


def signed(document: Mapping[str, object], key: NodeKey) -> bytes:
    """The object's bytes."""
    said = {**document, "porter": key.public.hex()}
    return _text({**said, "signature": key.sign(CONTEXT + _text(said)).hex()})


def opened(name: str, data: bytes) -> Document:
    """The verdict `name`. FormatError if it is not what its porter signed."""
    try:
        if len(data) > DOCUMENT_MAX:
            raise ValueError(f"{len(data)} bytes")
        said = json.loads(data)
        if _text(said) != data:
            raise ValueError("not as it was written")
        signature, porter = bytes.fromhex(said["signature"]), bytes.fromhex(said["porter"])
        unsigned = {member: value for member, value in said.items() if member != "signature"}
        verify(porter, CONTEXT + _text(unsigned), signature)
        found = Document(said, porter)
        _ = found.parts, found.seals, found.verdicts  # whatever can't be read is found here
    except (*UNREADABLE, FormatError) as error:
        raise FormatError(f"{name}: not a porter's verdict ({error}); was the object changed?") from error
    return found


def same(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Do two verdicts say the same, whoever wrote them, and when?"""
    return _statement(one) == _statement(other)


def _statement(said: Mapping[str, object]) -> object:
    return json.loads(_text({member: value for member, value in said.items() if member not in OWN}))


def _text(said: object) -> bytes:
    return json.dumps(said, indent=1, sort_keys=True).encode() + b"\n"
