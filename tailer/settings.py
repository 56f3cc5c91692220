"""What a tailer can be told; the flags, the keys of the file and the variables are these fields."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from protocol.limits import COPIES_MAX, NAME_MAX
from protocol.packet import Class
from service.authorized import LinkSettings
from service.config import ConfigError
from service.units import Duration, EnvName, HostPort, Size
from tailer.blocks import AGE_MAX_S
from tailer.inputs.files import Glob
from tailer.kinds import Kinds, Rule, names_like

__all__ = ["ClassRule", "TailerSettings"]


class ClassRule(BaseModel):
    """How precious some lines are. The first rule that fits a line counts; what it leaves out fits any."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field("", description="A file pattern, as on the command line.")
    host: str = Field("", description="A pattern for the host that a line names; one that names none has the tailer's.")
    app: str = Field("", description="A pattern for the application that a line names.")
    copies: int = Field(2, ge=1, le=COPIES_MAX, description="Bucks that must have a packet before it counts as stored.")
    sync: Literal["none", "packet"] = Field("none", description="Whether each packet is fsynced before its ack.")
    resend: bool = Field(True, description="Whether a third copy is made, and missing copies are mended.")

    def rule(self, folder: bytes) -> Rule:
        """The same in the form that is used; relative paths are meant in `folder`."""
        path = Glob.parse(self.path, folder) if self.path else None
        host, app = (names_like(pattern) if pattern else None for pattern in (self.host, self.app))
        return Rule(path, host, app, Class(self.copies, self.sync == "packet", self.resend))


class TailerSettings(LinkSettings):
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
        description="At most this much in the journal, and a tenth of its disk; 16 MiB are left to others. "
        "When it is full, reading waits.",
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
    goodbye: bool = Field(
        False,
        description="This host is taken out of service: read its files to their ends, deliver everything, say goodbye, "
        "and end. Nobody waits for it after that.",
    )
    level: Literal["A1", "A2"] = Field(
        "A2",
        description="What --once and --goodbye wait for: A1 stored by two bucks, A2 fsynced by three.",
    )
    patience: Duration = Field(60.0, description="How long they wait for bucks without any progress.")
    backfill: bool = Field(
        False,
        description="Old lines are wanted: read from the head, gathered into full packets rather than sent at once.",
    )
    http: HostPort | None = Field(
        None,
        description="Where /ruok, /status and /metrics are. They only read. [nowhere]",
    )
    linger: Duration = Field(
        AGE_MAX_S,
        ge=0.0,
        le=60.0,
        description="A line waits at most so long for others in its packet; half a second where much comes, or "
        "somebody watches live. Shorter: stored sooner. Longer: larger packets, which cost less.",
    )
    rotate_wait: Duration = Field(
        5.0,
        description="A file renamed out of sight or deleted is given up when nothing came for so long.",
    )
    open_files: int = Field(
        512, ge=4, description="Files kept open. More are followed, 16,000 at most, and opened in turn."
    )
    classes: tuple[ClassRule, ...] = Field((), description="Rules that say how precious which lines are.")

    @model_validator(mode="after")
    def _consistent(self) -> "TailerSettings":
        if self.once and self.goodbye:
            raise ValueError("--once says goodbye by itself: leave --goodbye out")
        if self.once and self.from_ == "end":
            raise ValueError("--once reads from the head: --from end contradicts it")
        if not self.journal:
            raise ValueError("--journal: a folder is needed: is a variable empty?")
        self.guard(self.to)
        if len(self.host.encode("utf-8", "surrogateescape")) > NAME_MAX:
            raise ValueError(f"a host's name has at most {NAME_MAX} bytes")
        return self

    @property
    def key_path(self) -> str:
        return self.key or self.journal.rstrip("/") + ".key"

    @property
    def ends(self) -> bool:
        """Does it end by itself, when everything is read and delivered?"""
        return self.once or self.goodbye

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

    def kinds(self, folder: bytes, host: bytes) -> Kinds:
        """The rules of the classes, for a tailer on `host`."""
        return Kinds([rule.rule(folder) for rule in self.classes], host)
