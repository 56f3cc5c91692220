"""msgpack, strictly: the one file that knows the library.

What comes from outside is one array, in which only integers, booleans, byte strings, text and arrays may occur: no
maps, no extension types, no floats where a schema (schema.py) doesn't ask for them. The library itself bounds the
nesting; the caller bounds the bytes, and with them what can be allocated: about 60 bytes for each byte of input, if
all of it were empty arrays.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgpack

from protocol.limits import ENTRIES_MAX

Buffer: TypeAlias = bytes | bytearray | memoryview

_packer: Final = msgpack.Packer(autoreset=True)


class PackedError(ValueError):
    """Not one well-formed array. Callers turn it into the error of what they were reading."""


def pack(value: object) -> bytes:
    """`value` as msgpack: the shortest form of each number, so equal values are equal bytes."""
    packed: bytes = _packer.pack(value)
    return packed


def unpack_array(data: Buffer, array_max: int = ENTRIES_MAX) -> tuple[object, ...]:
    """The one array in `data`, as a tuple of tuples; PackedError for everything else."""
    try:
        value = msgpack.unpackb(data, use_list=False, max_array_len=array_max, max_map_len=0, max_ext_len=0)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise PackedError(f"not well-formed: {error or type(error).__name__}") from error
    if type(value) is not tuple:
        raise PackedError("not an array")
    return value


def unpack_first(data: Buffer, count: int) -> tuple[object, ...]:
    """The first `count` members of an array, whatever the others are, even what `unpack_array` refuses."""
    unpacker = msgpack.Unpacker(
        use_list=False, max_buffer_size=len(data), max_array_len=ENTRIES_MAX, max_map_len=0, max_ext_len=0
    )
    try:
        unpacker.feed(data)
        if unpacker.read_array_header() < count:
            raise PackedError(f"not an array of {count} or more")
        return tuple([unpacker.unpack() for _ in range(count)])
    except PackedError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise PackedError(f"not well-formed: {error or type(error).__name__}") from error


def unpack_head(data: Buffer, count: int) -> tuple[tuple[object, ...], int]:
    """The first `count` members of an array that has one more, and where the last one begins.

    So the last member, a large byte string, need not be copied (see messages.py).
    """
    unpacker = msgpack.Unpacker(
        use_list=False, max_buffer_size=len(data), max_array_len=0, max_map_len=0, max_ext_len=0
    )
    try:
        unpacker.feed(data)
        if unpacker.read_array_header() != count + 1:
            raise PackedError(f"not an array of {count + 1}")
        values = tuple(unpacker.unpack() for _ in range(count))
    except PackedError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise PackedError(f"not well-formed: {error or type(error).__name__}") from error
    return values, unpacker.tell()
