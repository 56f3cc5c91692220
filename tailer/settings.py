"""What a tailer can be told; the flags, the keys of the file and the variables are these fields."""

import ipaddress
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from protocol.limits import COPIES_MAX, NAME_MAX
from protocol.packet import Class
from service.config import ConfigError, Settings
from service.units import Address, Duration, EnvName, HostPort, Size
from tailer.inputs.files import Glob

__all__ = ["ClassRule", "TailerSettings"]


class ClassRule(BaseModel):
    """How precious the lines of some files are. The first rule whose pattern takes a file counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(description="A file pattern, as on the command line.")
    copies: int = Field(2, ge=1, le=COPIES_MAX, description="Bucks that must have a packet before it counts as stored.")
    sync: Literal["none", "packet"] = Field("none", description="Whether each packet is fsynced before its ack.")
    resend: bool = Field(True, description="Whether a third copy is made, and missing copies are mended.")

    def kind(self) -> Class:
        return Class(self.copies, self.sync == "packet", self.resend)


class TailerSettings(Settings):
    """One tailer."""

    files: tuple[str, ...] = Field(
        (),
        description="File patterns, also given as arguments: `*`, `?`, `[...]`, `**` for any folders.",
    )
    exclude: tuple[str, ...] = Field(
        (),
        description="Patterns of files and folders to leave out; one without a slash fits any name.",
    )
    to: tuple[HostPort, ...] = Field(
        (),
        description="A buck to send to; can be repeated. One is enough: the others are learnt from it.",
    )
    journal: str = Field(
        "buck-journal",
        description="Folder of the journal: what was read and is not stored yet, and where reading stands.",
    )
    journal_size: Size = Field(
        4 << 30,
        description="At most this much in the journal, and a tenth of its disk; when it is full, reading waits.",
    )
    key: str = Field("", description="This tailer's key file; made at the first start. [<journal>.key]")
    host: str = Field("", description="The host's name in all packets. [this host's name]")
    env: EnvName = Field("prod", description="The closed domain that bucks, tailers and porters share.")
    from_: Literal["recent", "head", "end"] = Field(
        "recent",
        alias="from",
        description="Where to begin in files that were there first; recent is the end, and the last 24 h before it.",
    )
    once: bool = Field(False, description="Read all files from head to end, deliver everything, and end.")
    level: Literal["A1", "A2"] = Field(
        "A2",
        description="What --once waits for: A1 stored by two bucks, A2 fsynced by three.",
    )
    patience: Duration = Field(60.0, description="How long --once waits for bucks without any progress.")
    backfill: bool = Field(
        False,
        description="Old lines are wanted: read from the head, gathered into full packets rather than sent at once.",
    )
    rotate_wait: Duration = Field(
        5.0,
        description="A file renamed out of sight or deleted is given up when nothing came for so long.",
    )
    open_files: int = Field(512, ge=4, description="Files kept open. More are followed, and opened in turn.")
    insecure: bool = Field(
        False,
        description="Speak in clear text to bucks on other hosts. Anybody on the way can read.",
    )
    classes: tuple[ClassRule, ...] = Field((), description="Rules that say how precious the lines of a file are.")

    @model_validator(mode="after")
    def _consistent(self) -> "TailerSettings":
        if self.once and self.from_ == "end":
            raise ValueError("--once reads from the head: --from end contradicts it")
        far = [address for address in self.to if not _is_here(address)]
        if far and not self.insecure:
            raise ValueError(f"{far[0]} is another host, and links are not encrypted: say --insecure if that is fine")
        if len(self.host.encode("utf-8", "surrogateescape")) > NAME_MAX:
            raise ValueError(f"a host's name has at most {NAME_MAX} bytes")
        return self

    @property
    def key_path(self) -> str:
        return self.key or self.journal.rstrip("/") + ".key"

    @property
    def begin(self) -> Literal["head", "end", "recent"]:
        """Where to begin in files that were there before this tailer."""
        return "head" if self.once or (self.backfill and self.from_ == "recent") else self.from_

    def globs(self, folder: bytes) -> list[Glob]:
        """The patterns, relative ones meant in `folder`."""
        if not self.files:
            raise ConfigError("no file pattern was given; name some, such as '/var/log/**/*.log'")
        return [Glob.parse(text, folder) for text in self.files]

    def excluded(self, folder: bytes) -> list[Glob]:
        return [Glob.parse(text if "/" in text else f"/**/{text}", folder) for text in self.exclude]

    def kind_of(self, folder: bytes) -> "Kinds":
        return Kinds([(Glob.parse(rule.path, folder), rule.kind()) for rule in self.classes])


def _is_here(address: Address) -> bool:
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return address.host == "localhost"


class Kinds:
    """The class of a file's lines, by its path."""

    def __init__(self, rules: list[tuple[Glob, Class]]) -> None:
        self._rules = rules

    def __call__(self, path: bytes) -> Class:
        return next((kind for glob, kind in self._rules if glob.fits(path)), Class())
