"""What can go wrong in a buck, by what is done about it.

BuckError (protocol.errors)
├── Declined      a put or a seal is not taken: the peer gets `no(reason, text)` and stays connected
├── UnusableError (a ConfigError)  a disk that can't be taken at the start: another one is used, if there is one
└── SpoiltError   bytes of ours on a disk are not what they claim: skipped, counted, never served
"""

from protocol.errors import BuckError
from service.config import ConfigError


class Declined(BuckError):
    """Answered with No. `reason` is one of the wire's words, `text` says what to do."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason
        self.text = text


class UnusableError(ConfigError):
    """A disk can't be read or written at the start: left if there are others, else the end of the start."""

    def __init__(self, root: str, error: OSError) -> None:
        advice = "see who may write there (ls -ld), or name another by --disk"
        super().__init__(f"{root}: the disk can't be used: {error.strerror or error}; {advice}")
        self.error = error


class SpoiltError(BuckError):
    """A footer, a mark or a record on disk doesn't verify; it is rebuilt from the packets where it can be."""
