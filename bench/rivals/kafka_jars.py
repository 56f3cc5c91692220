"""Kafka's jars and the Java that runs them: where they are, whether they are whole, how they are fetched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from bench.rivals.process import RivalError

POM = Path(__file__).with_name("kafka.xml")
FETCH_S = 600.0
JAVA_LEAST = 17


def version() -> str:
    found = re.search(r"<kafka.version>(.*)</kafka.version>", POM.read_text())
    assert found
    return found[1]


def folder() -> Path:
    """KAFKA_JARS, or a folder of the user's cache."""
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("KAFKA_JARS") or cached / f"kafka-jars-{version()}")


def fetching(to: Path) -> list[str]:
    return [
        *("mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"),
        *("-DincludeScope=runtime", f"-DoutputDirectory={to}"),
    ]


@cache
def java_version() -> int:
    """The major version of `java`; 0 if there is none."""
    if shutil.which("java") is None:
        return 0
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False, timeout=60).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0


def missing() -> str:
    """What lacks, and the command that brings it; empty if nothing does."""
    if java_version() < JAVA_LEAST:
        found = f"java is {java_version()}" if java_version() else "there is no java"
        return f"{found}, {JAVA_LEAST} is needed: apt-get install openjdk-17-jre-headless"
    if not (folder() / f"kafka_2.13-{version()}.jar").exists():
        if shutil.which("mvn") is None:
            return f"no jars of Kafka {version()} in {folder()}, and no mvn: apt-get install maven, then make rivals"
        return f"no jars of Kafka {version()} in {folder()}: make rivals"
    return ""


def fetch() -> None:
    """Bring the jars, or leave what is there. They appear all at once. RivalError with Maven's words if it fails."""
    to = folder()
    if (to / f"kafka_2.13-{version()}.jar").exists():
        return
    if shutil.which("mvn") is None:
        raise RivalError(f"no jars of Kafka {version()} in {to}, and no mvn: apt-get install maven")
    part = to.with_name(f"{to.name}.part{os.getpid()}")
    try:
        done = subprocess.run(fetching(part), capture_output=True, text=True, check=False, timeout=FETCH_S)
        if done.returncode != 0:
            raise RivalError(f"{' '.join(fetching(part))}: exit {done.returncode}\n{done.stdout[-2000:]}")
        if not to.exists():
            part.rename(to)
    except subprocess.TimeoutExpired:
        raise RivalError(f"{' '.join(fetching(part))}: not done within {FETCH_S:.0f} s") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
