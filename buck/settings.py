"""What a buck can be told; the flags, the keys of the file and the variables are these fields."""

from typing import Self

from pydantic import Field, model_validator

from service.authorized import LinkSettings
from service.units import Address, Duration, EnvName, HostPort, Size


class BuckSettings(LinkSettings):
    """One storage node."""

    listen: HostPort = Field(
        Address("127.0.0.1", 7411),
        description="Where tailers, porters and other bucks connect. Port 0 takes a free one.",
    )
    http: HostPort = Field(
        Address("127.0.0.1", 7412), description="Where /ruok, /status, /metrics and /live are. They only read."
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
    memory: Size = Field(
        160_000_000,
        ge=64_000_000,
        description="Bytes that peers may make this buck hold at the same time, by what they send and what they ask. "
        "Beside them it takes some 100 MB.",
    )
    pull_rate: Size = Field(
        32_000_000,
        ge=65_536,
        description="Bytes a second, at most, that this buck fetches from others, for repair and from one that leaves.",
    )

    live_origin: tuple[str, ...] = Field(
        (),
        description="A web page's origin, as https://HOST, that may show /live; can be repeated. Programs need none.",
    )

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.width != int(self.width) or not 1 <= self.width <= 86_400 or 86_400 % int(self.width):
            raise ValueError(f"--width: {self.width:g} s does not divide a day")
        if not self.disk or not all(self.disk):
            raise ValueError("--disk: a buck needs one, and each needs a name: is a variable empty?")
        self.guard((self.listen, *self.join, self.advertise))
        return self

    @property
    def key_file(self) -> str:
        return self.key or self.disk[0].rstrip("/") + ".key"
