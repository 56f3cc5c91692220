"""`porter certify`: a signer's word that a key may be what it may be, as a line of text for that node.

The signing key is an ordinary key file, given by --key: whose public key stands behind `signer` in the list of keys. It
is needed for this alone, so it can be kept on a machine that no node can reach.
"""

from collections.abc import Sequence

from protocol.identity import NodeKey
from protocol.trust import CERTIFICATE_VERSION, Certificate, certificate_text, check_hosts, check_roles, read_public

__all__ = ["certify"]

DAY_S = 86_400


def certify(
    signer: NodeKey, public: str, roles: Sequence[str], hosts: Sequence[str], env: str, days: int, now_s: int
) -> str:
    """The certificate of a public key, good for so many days. FormatError if one could not be used."""
    expires_s = now_s + days * DAY_S
    facts = env, read_public(public), signer.public, check_roles(roles), check_hosts(hosts or ("*",)), expires_s
    return certificate_text(Certificate(CERTIFICATE_VERSION, *facts).encode(signer))
