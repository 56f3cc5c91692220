"""How people write durations, sizes, addresses and names of envs: `300s`, `512MB`, `HOST:PORT`, `prod`.

`Duration`, `Size`, `EnvName` and `HostPort` are types for fields of settings: numbers and addresses for the program,
these texts in files, variables and flags. A bare number is seconds or bytes. MB is a million bytes, MiB is 2**20.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator

PORT_MAX = 65_535

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
BYTES |= {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}

_ENV = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)\Z")


@dataclass(frozen=True)
class Shown:
    """How `--help` writes a type: its placeholder, and its default."""

    metavar: str
    text: Callable[[Any], str]


class Address(NamedTuple):
    """Where to connect or listen. An IPv6 address is written [in brackets]."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_duration(value: Any) -> float:
    """Seconds. ValueError for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _not_negative(float(value))
    number, unit = _split(value, "a duration such as 300s, 10m, 48h")
    if unit and unit not in SECONDS:
        raise ValueError(f"{value!r} is no duration such as 300s, 10m, 48h")
    return number * SECONDS[unit or "s"]


def read_size(value: Any) -> int:
    """Bytes. ValueError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int(_not_negative(value))
    number, unit = _split(value, "a size such as 512MB, 8GiB")
    if unit and unit not in BYTES:
        raise ValueError(f"{value!r} is no size such as 512MB, 8GiB")
    return round(number * BYTES[unit or "B"])


def read_address(value: Any) -> Address:
    """HOST:PORT. ValueError for anything else."""
    if isinstance(value, Address):
        return value
    host, colon, port = str(value).rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{value!r}: write an IPv6 address in brackets: [::1]:7000")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > PORT_MAX:
        raise ValueError(f"{value!r} is no HOST:PORT")
    return Address(host, int(port))


def read_env(value: Any) -> str:
    """The name of an env, which names folders too. ValueError for anything else."""
    if not isinstance(value, str) or not _ENV.fullmatch(value):
        raise ValueError(
            f"{value!r} is no name of an env: 1 to 64 letters, digits, - and _, of which the first is no sign"
        )
    return value


def duration_text(seconds: float) -> str:
    """The shortest way to write it in whole units: 300s, 48h."""
    for unit, size in (("h", 3600), ("s", 1)):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds * 1000:g}ms" if seconds else "0s"


def size_text(size: int) -> str:
    """The largest unit that leaves a whole number: 512MB, 2MiB."""
    fitting = [(factor, unit) for unit, factor in BYTES.items() if size and size % factor == 0 and unit != "kB"]
    factor, unit = max(fitting, default=(1, "B"))
    return f"{size // factor}{unit}"


Duration = Annotated[float, BeforeValidator(read_duration), Shown("DURATION", duration_text)]
Size = Annotated[int, BeforeValidator(read_size), Shown("SIZE", size_text)]
EnvName = Annotated[str, BeforeValidator(read_env), Shown("NAME", str)]
HostPort = Annotated[Address, BeforeValidator(read_address), Shown("HOST:PORT", str)]


def _split(value: Any, wanted: str) -> tuple[float, str]:
    found = _NUMBER.match(value.strip()) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"{value!r} is not {wanted}")
    return float(found[1]), found[2]


def _not_negative(value: float) -> float:
    if not value >= 0:
        raise ValueError(f"{value} is negative")
    return value
