"""Object storage: named, immutable pieces of bytes, put once and only if nobody else did.

The archive needs five verbs of a store and no more: put a local file under a name **if the name is free**, read a
range, get all, list by prefix, and ask for a size. Three implementations keep the same promises and pass the same
tests: a folder (the default), an S3 bucket (the only place that knows boto3), and a dictionary (the twin for tests).

Nothing here is asynchronous: each call may block, and is made through `Machine.slow`. Nothing is ever overwritten or
deleted: who finds a name taken gets `ExistsError` and decides. A put that was cut off leaves nothing under the name.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

READ_AHEAD = 1 << 20  # one ranged GET of a column chunk's size; smaller ones cost a round trip each
GET_TRIES = 3  # answers that end in the middle
PUT_TRIES = 5  # answers "conflict, try again" that we sit out before giving up

Reader = io.BufferedReader | io.BytesIO  # seekable, binary


class ObjectsError(Exception):
    """The store did not do what was asked; the text says which object, and what to do."""


class ExistsError(ObjectsError):
    """The name is taken by other bytes."""


class MissingError(ObjectsError):
    """There is no such object."""


class Info(NamedTuple):
    """An object as listed: its name below the store's root, and its size in bytes."""

    name: str
    size: int


class Objects(Protocol):
    """What a store promises. All names are relative, `/` separates, and none begins with a dot."""

    url: str

    def put(self, name: str, source: Path) -> None:
        """Put the file `source` under `name`, durably, unless the name is taken (ExistsError).

        If it is taken by the very same bytes the put is a success: it may be our own, repeated after a lost answer.
        """

    def get(self, name: str) -> bytes:
        """All bytes of an object (MissingError)."""

    def open(self, name: str) -> Reader:
        """A seekable reader; each read fetches a range (MissingError)."""

    def list(self, prefix: str = "") -> list[Info]:
        """Objects whose name begins with `prefix`, sorted by name. Unfinished puts are not among them."""


def check_name(name: str) -> str:
    """Refuse names that could leave the root or hide in it (`..`, absolute, empty or dotted parts)."""
    parts = name.split("/")
    if not all(parts) or any(part.startswith(".") or "\0" in part for part in parts):
        raise ObjectsError(f"object name {name!r} is not allowed: parts must not be empty or begin with a dot")
    return name


def digest(objects: Objects, name: str) -> str:
    """SHA-256 of an object, as the store gives it; hex, as verdicts name it."""
    with objects.open(name) as reader:
        return hashlib.file_digest(reader, "sha256").hexdigest()


class FolderObjects:
    """A folder of files. A put writes a hidden temporary file beside its place and links it: link(2) never replaces."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)

    def put(self, name: str, source: Path) -> None:
        place = self.root / check_name(name)
        try:
            self._make_folder(place.parent)
            self._link(place, source)
            _sync_folder(place.parent)
        except OSError as error:
            raise ObjectsError(f"{place}: {error.strerror}; is the archive's folder writable, has it room?") from error

    def _link(self, place: Path, source: Path) -> None:
        handle, temporary = tempfile.mkstemp(prefix=".put-", dir=place.parent)
        try:
            with os.fdopen(handle, "wb") as out, source.open("rb") as data:
                while block := data.read(READ_AHEAD):
                    out.write(block)
                out.flush()
                os.fsync(out.fileno())
            os.chmod(temporary, 0o644)
            os.link(temporary, place)
        except FileExistsError:
            if _digest(place) != _digest(source):
                raise ExistsError(f"{place} exists with other bytes") from None
        finally:
            os.unlink(temporary)

    def get(self, name: str) -> bytes:
        with self.open(name) as reader:
            return reader.read()

    def open(self, name: str) -> Reader:
        try:
            return (self.root / check_name(name)).open("rb")
        except FileNotFoundError:
            raise MissingError(f"{self.root / name} does not exist") from None
        except OSError as error:
            raise ObjectsError(f"{self.root / name}: {error.strerror}") from error

    def list(self, prefix: str = "") -> list[Info]:
        return sorted(info for info in self._walk() if info.name.startswith(prefix))

    def _walk(self) -> Iterator[Info]:
        for folder, folders, files in os.walk(self.root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                if not name.startswith("."):
                    path = Path(folder, name)
                    yield Info(path.relative_to(self.root).as_posix(), path.stat().st_size)

    def _make_folder(self, folder: Path) -> None:
        """Make the folder and its parents, each one's name synced in its parent: an object must not lose its way."""
        new = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for path in reversed(new):
            _sync_folder(path.parent)


class MemoryObjects:
    """A dictionary with the same promises, for tests and for the simulator."""

    def __init__(self) -> None:
        self.url = "memory:"
        self.held: dict[str, bytes] = {}

    def put(self, name: str, source: Path) -> None:
        data = source.read_bytes()
        if self.held.setdefault(check_name(name), data) != data:
            raise ExistsError(f"{name} exists with other bytes")

    def get(self, name: str) -> bytes:
        try:
            return self.held[check_name(name)]
        except KeyError:
            raise MissingError(f"{name} does not exist") from None

    def open(self, name: str) -> Reader:
        return io.BytesIO(self.get(name))

    def list(self, prefix: str = "") -> list[Info]:
        return [Info(name, len(data)) for name, data in sorted(self.held.items()) if name.startswith(prefix)]


class S3Objects:
    """A bucket, or a prefix of one, behind the S3 API. Credentials come from where boto3 finds them, never from us."""

    def __init__(self, bucket: str, prefix: str, options: Mapping[str, Any]) -> None:
        import boto3  # here and not above: 35 MB that a folder's user need not load
        from botocore.config import Config

        self.bucket, self.prefix = bucket, prefix.strip("/") + "/" if prefix.strip("/") else ""
        self.url = f"s3://{bucket}/{self.prefix}"
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=16,
            connect_timeout=10,
            read_timeout=60,
            request_checksum_calculation="when_required",  # old servers break on checksums that they were not asked for
            response_checksum_validation="when_required",
        )
        self.client: Any = boto3.client("s3", config=config, **options)

    def put(self, name: str, source: Path) -> None:
        for attempt in range(PUT_TRIES):
            try:
                with source.open("rb") as data:
                    self.client.put_object(Bucket=self.bucket, Key=self._key(name), Body=data, IfNoneMatch="*")
                return
            except Exception as error:  # boto3 makes its exception classes at run time
                code = _code(error)
                if code in ("PreconditionFailed", "412"):
                    return self._compare(name, source)
                if code not in ("ConditionalRequestConflict", "409") or attempt + 1 == PUT_TRIES:
                    raise self._wrap(name, error) from error

    def _compare(self, name: str, source: Path) -> None:
        """The name is taken; by us, if an answer was lost on the way and the client put again."""
        with self.open(name) as held, source.open("rb") as ours:
            if hashlib.file_digest(held, "sha256").digest() != hashlib.file_digest(ours, "sha256").digest():
                raise ExistsError(f"{self.url}{name} exists with other bytes")

    def get(self, name: str) -> bytes:
        return self._range(name, None)

    def open(self, name: str) -> Reader:
        try:
            size = self.client.head_object(Bucket=self.bucket, Key=self._key(name))["ContentLength"]
        except Exception as error:
            raise self._wrap(name, error) from error
        return io.BufferedReader(_Ranges(self, name, size), READ_AHEAD)

    def list(self, prefix: str = "") -> list[Info]:
        try:
            lister = self.client.get_paginator("list_objects_v2")
            pages = lister.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix)
            found = [Info(o["Key"][len(self.prefix) :], o["Size"]) for page in pages for o in page.get("Contents", ())]
        except Exception as error:
            raise self._wrap(prefix, error) from error
        return sorted(found)

    def _range(self, name: str, span: tuple[int, int] | None) -> bytes:
        limits = {} if span is None else {"Range": f"bytes={span[0]}-{span[1] - 1}"}
        for attempt in range(GET_TRIES):
            try:
                answer = self.client.get_object(Bucket=self.bucket, Key=self._key(name), **limits)
                data: bytes = answer["Body"].read()
                return data
            except Exception as error:  # an answer that ends early is nobody's to try again but ours
                if _code(error) or attempt + 1 == GET_TRIES:
                    raise self._wrap(name, error) from error
        raise AssertionError("the last try returns or raises")

    def _key(self, name: str) -> str:
        return self.prefix + check_name(name)

    def _wrap(self, name: str, error: Exception) -> Exception:
        """A store's refusal as ours; a bug of ours stays what it is."""
        from botocore.exceptions import BotoCoreError, ClientError

        if not isinstance(error, BotoCoreError | ClientError):
            return error
        if _code(error) in ("NoSuchKey", "404", "NotFound"):
            return MissingError(f"{self.url}{name} does not exist")
        return ObjectsError(f"{self.url}{name}: {error}; check endpoint, bucket and credentials")


class _Ranges(io.RawIOBase):
    """A seekable view of one object; every read is one ranged GET. Wrapped in a BufferedReader by `open`."""

    def __init__(self, store: S3Objects, name: str, size: int) -> None:
        self._store, self._name, self._size, self._at = store, name, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        room = memoryview(buffer).cast("B")
        end = min(self._at + len(room), self._size)
        if end <= self._at:
            return 0
        data = self._store._range(self._name, (self._at, end))
        room[: len(data)] = data
        self._at += len(data)
        return len(data)


def open_objects(url: str, *, endpoint: str = "") -> Objects:
    """The store that a URL names: `s3://bucket/prefix`, or a folder (made when something is put)."""
    parts = urlsplit(url)
    if parts.scheme == "s3":
        if not parts.netloc:
            raise ObjectsError(f"archive {url!r} names no bucket: write s3://bucket/prefix")
        return S3Objects(parts.netloc, parts.path, {"endpoint_url": endpoint} if endpoint else {})
    if parts.scheme and "://" in url:
        raise ObjectsError(f"archive {url!r}: only folders and s3://bucket/prefix are known")
    return FolderObjects(Path(url))


def _code(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _digest(path: Path) -> bytes:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").digest()


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
