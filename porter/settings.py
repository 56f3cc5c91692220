"""What every porter job can be told; the flags, the keys of the file and the variables are these fields."""

import click
from pydantic import Field

from service.config import Settings
from service.units import Duration, HostPort, Size

__all__ = ["PorterSettings", "default_key"]


def default_key() -> str:
    """In the user's configuration folder: a porter keeps no data that a key could lie beside."""
    return click.get_app_dir("buck") + "/porter.key"


class PorterSettings(Settings):
    """Shared by all commands; a command's own options (--from, --deep, ...) are its arguments."""

    peer: tuple[HostPort, ...] = Field(
        (),
        description="A buck to ask; can be repeated. One is enough: the others are learnt from it.",
    )
    archive: str = Field(
        "",
        description="The archive: a folder, or s3://bucket/prefix. If given, jobs read it as well as the bucks.",
    )
    endpoint: str = Field("", description="Another S3 than Amazon's, as http://HOST:PORT.")
    env: str = Field("prod", description="The closed domain that bucks, tailers and porters share.")
    key: str = Field(
        default_factory=default_key,
        description="This porter's key file; made at the first start. [porter.key in the configuration folder]",
    )
    insecure: bool = Field(
        False, description="Speak in clear text to bucks on other hosts. Anybody on the way can read."
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
