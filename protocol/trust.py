"""Who is let in, as what: the list of keys that an operator keeps, and the certificates of who may speak for it.

The list (`authorized_keys`) is text, a line a key; what follows the known words is a comment, `#` begins a line of it:

    key     PUBLIC roles=tailer hosts=web*,db1    the shop's hosts
    signer  PUBLIC roles=tailer,buck,porter       the cluster's own signer
    revoked PUBLIC                                stolen in May

PUBLIC is an Ed25519 key as `buck key` and its kin print it. `roles` says what a node may be, `hosts` (patterns with `*`
and `?`; all without it) what it may call its host. A signer lends both to whoever shows a certificate of it, so that
adding a server is adding a server. What is revoked is refused whatever else is said of it.

A certificate is one line of text too: base64 of  magic "BUC1" | msgpack array | Ed25519 signature of both, 64
    array: version, env, public key, signer's public key, roles, host patterns, expiry (s since the epoch)

There is no time before which a certificate is not yet good, so a host whose clock begins in 1970 is let in; and where
only keys are listed no clock matters at all. A line that can't be read is an error: a list with a typing mistake must
not let in more, or fewer, than its writer meant.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from protocol import limits
from protocol.errors import FormatError, Refused, SealError
from protocol.identity import PUBLIC_SIZE, SIGNATURE_SIZE, NodeKey, verify
from protocol.messages import ROLES
from protocol.packed import PackedError, pack, unpack_array
from protocol.schema import Blob, Group, Many, Number, SchemaError, Text, Word

MAGIC: Final = b"BUC1"
CERTIFICATE_VERSION: Final = 1
CERTIFICATE_MAX: Final = 1_024  # it travels in a message of the handshake, before anybody is known
LINES_MAX: Final = 100_000
KINDS: Final = ("key", "signer", "revoked")
SHOWN_MAX: Final = 12  # characters of a wrong word in an error: whoever named the secret's file must not find it there
_ANY: Final = ("*",)


@dataclass(frozen=True)
class Grant:
    """What one node may be, and what it may call its host."""

    public: bytes
    roles: tuple[str, ...]
    hosts: tuple[str, ...] = _ANY
    within: tuple[str, ...] = _ANY  # a certificate's hosts count only as far as its signer's reach

    def fits_host(self, host: bytes) -> bool:
        """May it say that it is on `host`?"""
        name = host.decode("utf-8", "surrogateescape")
        return all(any(fnmatchcase(name, one) for one in patterns) for patterns in (self.hosts, self.within))

    def fits(self, role: str, host: bytes) -> bool:
        """May it be that, there?"""
        return role in self.roles and self.fits_host(host)


class Certificate(NamedTuple):
    """A signer's word about one key."""

    version: int
    env: str
    public: bytes
    signer: bytes
    roles: tuple[str, ...]
    hosts: tuple[str, ...]
    expires_s: int

    def encode(self, key: NodeKey) -> bytes:
        """The certificate, signed; FormatError if a reader would refuse it."""
        if key.public != self.signer:
            raise FormatError("a certificate can only be signed by the signer that it names")
        body = MAGIC + pack(_FIELDS.dump(self))
        if len(body) + SIGNATURE_SIZE > CERTIFICATE_MAX:
            raise FormatError(f"a certificate has at most {CERTIFICATE_MAX} bytes: name fewer hosts")
        return body + key.sign(body)


_FIELDS: Final = Group(
    Number(8, CERTIFICATE_VERSION, CERTIFICATE_VERSION), Text(limits.ENV_MAX), Blob(PUBLIC_SIZE), Blob(PUBLIC_SIZE),
    Many(Word("role", ROLES), len(ROLES)), Many(Text(limits.NAME_MAX), 64), Number(64),
    make=Certificate,
)  # fmt: skip


def read_certificate(data: bytes) -> Certificate:
    """The certificate in `data`, its signature checked; FormatError for anything else."""
    if not data.startswith(MAGIC) or len(data) > CERTIFICATE_MAX:
        raise FormatError("not a certificate")
    try:
        found = _FIELDS.load(unpack_array(data[len(MAGIC) : -SIGNATURE_SIZE]))
        assert isinstance(found, Certificate)
        verify(found.signer, data[:-SIGNATURE_SIZE], data[-SIGNATURE_SIZE:])
    except (PackedError, SchemaError, SealError) as error:
        raise FormatError(f"not a good certificate: {error}") from error
    return found


def certificate_text(data: bytes) -> str:
    """A certificate as the line that is kept in files."""
    return "buck-certificate " + b64encode(data).decode()


def read_certificate_text(text: str) -> bytes:
    """The certificate in a file's text, checked but for who signed it; FormatError for anything else."""
    words = text.split()
    if len(words) != 2 or words[0] != "buck-certificate":
        raise FormatError("not a certificate: it is one line that begins with buck-certificate")
    try:
        data = b64decode(words[1], validate=True)
    except ValueError as error:
        raise FormatError(f"not a certificate: {error}") from error
    read_certificate(data)
    return data


@dataclass(frozen=True)
class Trust:
    """An authorized_keys file that was read."""

    keys: dict[bytes, Grant] = field(default_factory=dict)
    signers: dict[bytes, Grant] = field(default_factory=dict)
    revoked: frozenset[bytes] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Trust:
        """Read the whole file. FormatError with the first line that can't be read, and why."""
        lines = text.splitlines()
        if len(lines) > LINES_MAX:
            raise FormatError(f"a list of keys has at most {LINES_MAX} lines")
        found: dict[str, dict[bytes, Grant]] = {kind: {} for kind in KINDS}
        for number, line in enumerate(lines, 1):
            words = line.split()
            if words and not words[0].startswith("#"):
                try:
                    kind, grant = _parse_line(words)
                    if any(grant.public in known for known in found.values()):
                        raise FormatError("this key has a line already")
                except FormatError as error:
                    raise FormatError(f"line {number}: {error}") from None
                found[kind][grant.public] = grant
        return cls(found["key"], found["signer"], frozenset(found["revoked"]))

    def grant(self, public: bytes, certificate: bytes, env: str, now_s: float) -> Grant:
        """What who owns `public` may be; Refused with the reason, which is for our own log and not for the peer."""
        if public in self.revoked:
            raise Refused("security", f"the key {public.hex()} is revoked")
        if public in self.keys:
            return self.keys[public]
        if not certificate:
            raise Refused(
                "security", f"the key {public.hex()} is in no line of authorized_keys, and has no certificate"
            )
        try:
            shown = read_certificate(certificate)
        except FormatError as error:
            raise Refused("security", f"the key {public.hex()}: {error}") from error
        why = self._why_not(shown, public, env, now_s)
        if why:
            raise Refused("security", f"the certificate of the key {public.hex()}: {why}")
        signer = self.signers[shown.signer]
        roles = tuple(role for role in shown.roles if role in signer.roles)
        return Grant(public, roles, shown.hosts, signer.hosts)

    def lists(self, public: bytes, role: str) -> bool:
        """Has this key a line of its own that says so? Of what is signed and kept for good, no certificate can tell."""
        grant = self.keys.get(public)
        return grant is not None and role in grant.roles

    def _why_not(self, shown: Certificate, public: bytes, env: str, now_s: float) -> str:
        if shown.public != public:
            return f"it is of another key, {shown.public.hex()}"
        if shown.signer in self.revoked:
            return f"its signer {shown.signer.hex()} is revoked"
        if shown.signer not in self.signers:
            return f"its signer {shown.signer.hex()} is in no line of authorized_keys"
        if shown.env != env:
            return f"it is for env {shown.env!r}, not {env!r}"
        return "it has expired" if shown.expires_s <= now_s else ""


def _parse_line(words: list[str]) -> tuple[str, Grant]:
    kind = words[0]
    if kind not in KINDS:
        shown = f"{kind!r}" if len(kind) <= SHOWN_MAX else "a word"
        raise FormatError(f"{shown} is none of {', '.join(KINDS)}")
    public = read_public(words[1] if len(words) > 1 else "")
    options: dict[str, tuple[str, ...]] = {}
    for word in words[2:]:
        name, equals, value = word.partition("=")
        if not equals:
            break  # here the comment begins
        if name not in ("roles", "hosts") or name in options:
            raise FormatError("only one roles=... and one hosts=... can stand between a key and its comment")
        options[name] = tuple(value.split(","))
    if kind == "revoked":
        return kind, Grant(public, ())
    return kind, Grant(public, check_roles(options.get("roles", ())), check_hosts(options.get("hosts", _ANY)))


def check_roles(roles: Iterable[str]) -> tuple[str, ...]:
    """The roles, if they are some; FormatError otherwise."""
    found = tuple(roles)
    unknown = [role for role in found if role not in ROLES]
    if unknown or not found:
        raise FormatError(f"roles={','.join(unknown)}: say at least one of {', '.join(ROLES)}")
    return found


def check_hosts(hosts: Iterable[str]) -> tuple[str, ...]:
    """The patterns of hosts, if they are some; FormatError otherwise."""
    found = tuple(hosts)
    if not found or not all(found):
        raise FormatError("hosts=: an empty pattern fits no host")
    if any("[" in pattern for pattern in found):
        raise FormatError("hosts=: only * and ? have a meaning in a pattern")
    return found


def read_public(text: str) -> bytes:
    """A public key as people write it; FormatError for anything else."""
    try:
        public = bytes.fromhex(text)
    except ValueError:
        public = b""
    if len(public) != PUBLIC_SIZE:
        raise FormatError(
            f"{len(text)} characters that are no public key: it has {2 * PUBLIC_SIZE} hex digits, see `buck key`"
        )
    return public
