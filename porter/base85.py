"""Base85 as `base64.b85encode` and `b85decode` have it, fifty times faster: footers of busy hours have megabytes.

Metadata of Parquet is text for most readers, so a footer must be. Four bytes are five digits, most significant first;
what is short at the end is filled up, and the same number of digits left out.
"""

from __future__ import annotations

import numpy as np

DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
_DIGITS = np.frombuffer(DIGITS, np.uint8)
_WRONG = 255
_VALUES = np.full(256, _WRONG, np.uint8)
_VALUES[_DIGITS] = np.arange(85, dtype=np.uint8)
_POWERS = 85 ** np.arange(4, -1, -1, dtype=np.uint64)


def encode(data: bytes) -> bytes:
    """The digits for these bytes."""
    short = -len(data) % 4
    words = np.frombuffer(data + bytes(short), ">u4").astype(np.uint64)
    digits = _DIGITS[(words[:, None] // _POWERS % 85).astype(np.uint8)].tobytes()
    return digits[: len(digits) - short]


def decode(text: bytes) -> bytes:
    """The bytes that these digits stand for. ValueError for anything that `encode` can't have written."""
    short = -len(text) % 5
    values = _VALUES[np.frombuffer(text + DIGITS[-1:] * short, np.uint8)]
    if len(values) and values.max() == _WRONG:
        raise ValueError(f"no base85 digit at {int(np.argmax(values == _WRONG))}")
    words = values.reshape(-1, 5).astype(np.uint64) @ _POWERS
    if len(words) and words.max() >= 1 << 32:
        raise ValueError(f"no base85 number at {int(np.argmax(words >= 1 << 32)) * 5}")
    data = words.astype(">u4").tobytes()
    return data[: len(data) - short]
