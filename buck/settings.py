"""What a buck can be told; the flags, the keys of the file and the variables are these fields."""

import ipaddress
from typing import Literal, Self

from pydantic import Field, model_validator

from service.config import Settings
from service.units import Address, Duration, EnvName, HostPort


class BuckSettings(Settings):
    """One storage node."""

    listen: HostPort = Field(
        Address("127.0.0.1", 7411),
        description="Where tailers, porters and other bucks connect. Port 0 takes a free one.",
    )
    http: HostPort = Field(
        Address("127.0.0.1", 7412), description="Where /ruok, /status and /metrics are. They only read."
    )
    disk: tuple[str, ...] = Field(
        ("buck-data",),
        description="A folder to keep packets in; can be repeated, one a disk. A disk belongs to one node for good.",
    )
    join: tuple[HostPort, ...] = Field(
        (), description="A buck that is there already; the others are learnt from it. The first buck of all has none."
    )
    env: EnvName = Field("prod", description="The closed domain this buck belongs to; packets of others are refused.")
    width: Duration = Field(
        300.0,
        description="Seconds of time in one bucket, the same in all of an env, for ever. Shorter means more and "
        "smaller files, and older logs sooner in reach of the archive.",
    )
    key: str = Field("", description="The node's key file; made at the first start. [the first disk's name + .key]")
    advertise: HostPort | None = Field(
        None, description="Where others reach this buck, if not where it listens. [the listening address]"
    )
    zone: str = Field(
        "", max_length=255, description="A rack or site; copies are spread over zones where there are some."
    )
    connections: int = Field(
        1024, ge=1, le=60_000, description="Peers at the same time; more are turned away before they cost memory."
    )
    security: Literal["none"] = Field(
        "none", description="How links are secured. There is only none yet: clear text, and nobody proves who they are."
    )
    insecure: bool = Field(
        False, description="Allow clear text beyond this host. Anybody on the way can read and forge."
    )

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.width != int(self.width) or not 1 <= self.width <= 86_400 or 86_400 % int(self.width):
            raise ValueError(f"--width: {self.width:g} s does not divide a day")
        if not self.disk:
            raise ValueError("--disk: a buck needs one")
        far = [address for address in (self.listen, *self.join, self.advertise) if address and not _is_here(address)]
        if far and not self.insecure:
            raise ValueError(
                f"{far[0]} is beyond this host, and links are not encrypted: say --insecure if that is fine"
            )
        return self

    @property
    def key_file(self) -> str:
        return self.key or self.disk[0].rstrip("/") + ".key"


def _is_here(address: Address) -> bool:
    """Is it this host itself, so that nobody else can listen in?"""
    if address.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False  # a name: who knows where it leads
