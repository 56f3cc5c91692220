"""What every porter job can be told; the flags, the keys of the file and the variables are these fields."""

from typing import Self

import click
from pydantic import Field, model_validator

from service.authorized import LinkSettings
from service.units import Address, Duration, EnvName, HostPort, Size

__all__ = ["PorterSettings", "default_key"]


def default_key() -> str:
    """In the user's configuration folder: a porter keeps no data that a key could lie beside."""
    return click.get_app_dir("buck") + "/porter.key"


class PorterSettings(LinkSettings):
    """Shared by all commands; a command's own options (--from, --deep, ...) are its arguments."""

    peer: tuple[HostPort, ...] = Field(
        (),
        description="A buck to ask; can be repeated. One is enough: the others are learnt from it. "
        "[127.0.0.1:7411, unless an archive is named]",
    )
    archive: str = Field(
        "",
        description="The archive: a folder, or s3://bucket/prefix. If given, jobs read it as well as the bucks.",
    )
    endpoint: str = Field("", description="Another S3 than Amazon's, as http://HOST:PORT.")
    env: EnvName = Field("prod", description="The closed domain that bucks, tailers and porters share.")
    key: str = Field(
        default_factory=default_key,
        description="This porter's key file; made at the first start. [porter.key in the configuration folder]",
    )
    memory: Size = Field(
        512_000_000,
        description="Memory for packets and rows; what does not fit is fetched again, so less is slower, never wrong.",
    )
    patience: Duration = Field(
        10.0,
        description="How long to wait for an answer before asking another buck. Too short, and healthy ones look dead.",
    )
    json_: bool = Field(False, alias="json", description="Write JSON, one object a line, instead of text for people.")

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        self.guard(self.peer)
        return self

    @property
    def peers(self) -> tuple[Address, ...]:
        """Whom to ask: those named, or the buck of this host."""
        return self.peer or (Address("127.0.0.1", 7411),)

    @property
    def reads_bucks(self) -> bool:
        """Does a job that can read both read the bucks? Not if an archive alone is named."""
        return bool(self.peer) or not self.archive
