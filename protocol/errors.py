"""Every exception that the wire and the formats can raise, as a tree. Each class means one reaction.

BuckError
├── ProtocolError
│   ├── LocalProtocolError     we tried to do what the protocol forbids: our bug
│   │   └── TooLargeError      a message longer than any peer would take; nothing of it was sent
│   ├── RemoteProtocolError    the peer did: close the link, keep serving others
│   │   └── MessageError       a message that is not what its schema says: damaged, or with fields of another version
│   ├── Refused                the peer (or our own check of it) says no to the whole link: don't dial again at once
│   └── LinkLost               the link ended under a question: whether it was done is not known, ask elsewhere
│       └── Unanswered         the link lives, the answer did not come in time: ask elsewhere too
├── FormatError                bytes that are not what they claim to be: never use them, say where they are
│   ├── PacketError
│   │   └── TornError          they end too early: at the end of a file that is a torn tail, else corruption
│   ├── VersionError           written by a later version: keep them, leave the reading to who can
│   ├── ColumnsError           a packet's body; also a saved state of the kernel
│   ├── SealError              also a signature that does not fit
│   ├── RosterError            a retirement that is none, or is not signed by the key it names
│   ├── StatementError         the same of a statement of what is archived
│   └── EventError
└── QueryError                 a query that can't be read, with the place where it went wrong

A peer's fault never takes more than the peer's own link with it; a file's never more than the packet at hand.
"""


class BuckError(Exception):
    """The root: everything that protocol/ raises on purpose."""


class ProtocolError(BuckError):
    """Something is wrong with a conversation."""


class LocalProtocolError(ProtocolError):
    """We tried to do what the protocol forbids: a bug of ours, not to be caught."""


class TooLargeError(LocalProtocolError):
    """A message longer than any peer would take. Nothing of it was sent, so the link is as it was."""


class RemoteProtocolError(ProtocolError):
    """The peer did what the protocol forbids: close this link and keep serving others."""


class MessageError(RemoteProtocolError):
    """A message that is not what its schema says: damaged, or with fields that only another version knows."""


class Refused(ProtocolError):
    """One side refuses the other as a whole. `reason` is one of messages.REASONS."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(f"{text} ({reason})" if text else reason)
        self.reason = reason
        self.text = text


class LinkLost(ProtocolError):
    """The link ended while a question was under way: nobody knows whether it was answered."""


class Unanswered(LinkLost):
    """No answer within the time given; the link itself may be well."""


class FormatError(BuckError):
    """Bytes that are not what they claim to be."""


class PacketError(FormatError):
    """Not a packet, or a damaged one."""


class TornError(PacketError):
    """A packet that ends before its own length says."""


class VersionError(FormatError):
    """Written by a version that this one can't read; the bytes may be fine."""


class ColumnsError(FormatError):
    """A packet's columns, its formats or a saved state of the kernel contradict themselves."""


class SealError(FormatError):
    """Not a seal, or not signed by whom it names."""


class RosterError(FormatError):
    """Not a retirement of a node, or not signed by the key that it names."""


class StatementError(FormatError):
    """Not a statement of what is archived, or one whose signature does not fit."""


class EventError(FormatError):
    """Not an event of the known version."""


class QueryError(BuckError):
    """A query that can't be read: `text` says why. `position` counts characters from 0."""

    def __init__(self, text: str, position: int) -> None:
        super().__init__(f"{text} (at character {position + 1})")
        self.text = text
        self.position = position
