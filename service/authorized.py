"""How links are secured: the settings that all processes share, and the files they name, read with care.

    --authorized-keys FILE   who is let in, and as what; nobody else may be able to change it
    --secret-file FILE       the cluster's secret, if it has one; nobody else may be able to read it
    --certificate FILE       what a signer said of this node, if its key is in no list itself

All are read again on SIGHUP; a file that can't be used then is said, and the old contents stay in force. Secrets are
read from files alone: not from arguments or variables, which others on the host can see. Clear text needs no files,
and is refused beyond this host, where anybody on the way could read it, unless --insecure says that this is fine.
What the contents mean is the protocol's business.
"""

import ipaddress
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from service.config import ConfigError, Settings
from service.log import get_log
from service.machine import Machine
from service.units import Address

log = get_log("service.authorized")

SECRET_MIN = 16  # characters: a shorter one can be guessed by trying
FILE_MAX = 16 << 20
READERS, WRITERS = 0o077, 0o022  # permission bits of group and world


class LinkSettings(Settings):
    """What every process can be told about its links."""

    security: Literal["auto", "noise", "none"] = Field(
        "auto",
        description="noise: links are encrypted, and only keys of --authorized-keys are let in. none: clear text, and "
        "nobody proves who they are. auto: noise where --authorized-keys is given.",
    )
    authorized_keys: str = Field(
        "", description="File with the keys that are let in, and what each may be. SIGHUP reads it again."
    )
    secret_file: str = Field(
        "", description="File with the cluster's secret, the same everywhere: a second lock beside the keys."
    )
    certificate: str = Field(
        "", description="File with this node's certificate, where a signer is listed instead of each key."
    )
    insecure: bool = Field(
        False, description="Allow clear text beyond this host. Anybody on the way can read and forge."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.security == "noise" and not self.authorized_keys:
            raise ValueError("--security noise: say who is let in with --authorized-keys FILE")
        named = [name for name in ("authorized_keys", "secret_file", "certificate") if getattr(self, name)]
        if named and not self.is_encrypted:
            flag = "--" + named[0].replace("_", "-")
            why = "--security none" if self.security == "none" else "there is no --authorized-keys"
            raise ValueError(f"{flag} is for encrypted links, and {why}")
        return self

    @property
    def is_encrypted(self) -> bool:
        """Are links encrypted?"""
        return self.security == "noise" or (self.security == "auto" and bool(self.authorized_keys))

    def guard(self, addresses: Iterable[Address | None]) -> None:
        """ValueError if clear text would leave this host."""
        far = [address for address in addresses if address and not is_here(address)]
        if far and not self.is_encrypted and not self.insecure:
            raise ValueError(
                f"{far[0]} is another host, and links are not encrypted: name --authorized-keys FILE, "
                "or say --insecure if that is fine"
            )


class Files(NamedTuple):
    """What the files hold. The secret is shown to nobody."""

    authorized: str
    secret: bytes
    certificate: str

    def __repr__(self) -> str:
        return "Files(...)"


Use = Callable[[str, bytes, str], None]


def is_here(address: Address) -> bool:
    """Is it this host itself, so that nobody else can listen in?"""
    if address.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False  # a name: who knows where it leads


def use_files(machine: Machine, settings: LinkSettings, use: Use) -> None:
    """Read all files and give them to `use`, which raises ValueError for what it can't. ConfigError says which."""
    files = read_files(machine, settings)
    try:
        use(*files)
    except ValueError as error:
        raise ConfigError(str(error)) from None


async def use_again(
    machine: Machine, settings: LinkSettings, use: Use, changed: Callable[[], None] = lambda: None
) -> None:
    """At each SIGHUP the same, then `changed`; what can't be used is said, and nothing changes. Never ends."""
    with machine.hangups() as hangups:
        async for _ in hangups:
            try:
                use_files(machine, settings, use)
            except ConfigError as error:
                log.error("the keys can't be read again, the old ones stay in force", why=str(error))
            else:
                log.info("the keys were read again", path=settings.authorized_keys)
                changed()


def read_files(machine: Machine, settings: LinkSettings) -> Files:
    """The contents of the files that the settings name. ConfigError if one can't be trusted."""
    authorized = _read(machine, "--authorized-keys", settings.authorized_keys, WRITERS, "be changed by others")
    secret = b""
    if settings.secret_file:
        secret = _read(machine, "--secret-file", settings.secret_file, READERS, "be read by others").strip()
        if len(secret) < SECRET_MIN:
            raise ConfigError(
                f"--secret-file {settings.secret_file}: a secret of {len(secret)} characters can be guessed; "
                f"make one: openssl rand -hex 32"
            )
    certificate = b""
    if settings.certificate:
        certificate = _read(machine, "--certificate", settings.certificate, WRITERS, "be changed by others")
    return Files(_text(settings.authorized_keys, authorized), secret, _text(settings.certificate, certificate))


def _read(machine: Machine, flag: str, path: str, forbidden: int, what: str) -> bytes:
    try:
        stat = machine.disk.stat(path)
        data = machine.disk.read_bytes(path) if stat.size <= FILE_MAX else b""
    except OSError as error:
        raise ConfigError(f"{flag} {path}: can't be read: {error.strerror or error}") from error
    if stat.size > FILE_MAX:
        raise ConfigError(f"{flag} {path}: a file of {stat.size} bytes is something else")
    if stat.mode & forbidden:
        mode = "600" if forbidden == READERS else "go-w"
        raise ConfigError(f"{flag} {path}: it can {what}; do: chmod {mode} {path}")
    return data


def _text(path: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason}") from None
