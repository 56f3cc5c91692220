"""Keys for a cluster of real processes, made with the commands that an operator uses.

Bucks are listed by their keys; tailers and porters show certificates of a signer that is listed. Everybody has the same
list of keys, and the cluster's secret.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Keys:
    """The files below `root`: authorized_keys, secret, signer.key and a certificate for each name."""

    def __init__(self, root: Path, env_name: str) -> None:
        self.root, self.env_name = root, env_name
        self.authorized, self.secret, self.signer = root / "authorized_keys", root / "secret", root / "signer.key"
        self._known: set[str] = set()
        if not self.authorized.exists():
            self.secret.touch(0o600)
            self.secret.write_text(secrets.token_hex(32))
            self.authorized.touch(0o644)
            public = self._public("porter", "--key", str(self.signer))
            self.add(f"signer {public} roles=tailer,porter")

    def add(self, line: str) -> None:
        """One line more in the list; processes that run are told by SIGHUP."""
        with self.authorized.open("a") as file:
            file.write(line + "\n")

    def listed(self, role: str, name: str, *where: str) -> list[str]:
        """The flags of a node whose key is in the list; it is put there when first asked for."""
        if name not in self._known:
            self._known.add(name)
            self.add(f"key {self._public(role, *where)} roles={role} {name}")
        return self._flags()

    def certified(self, role: str, name: str, *where: str) -> list[str]:
        """The flags of a node that has a certificate."""
        certificate = self.root / f"{name}.certificate"
        if not certificate.exists():
            words = ["certify", self._public(role, *where), "--role", role, "--env", self.env_name, "--days", "1"]
            certificate.write_text(_run("porter", *words, "--key", str(self.signer)))
        return [*self._flags(), "--certificate", str(certificate)]

    def _flags(self) -> list[str]:
        return ["--security", "noise", "--authorized-keys", str(self.authorized), "--secret-file", str(self.secret)]

    def _public(self, role: str, *where: str) -> str:
        """The public key of a node, made where its process will look for it."""
        return _run(role, "key", *where).split()[3]


def _run(*words: str) -> str:
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
