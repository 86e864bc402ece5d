"""The blobs of a store: one read-only file per SHA-256 digest, which appears complete or not at all."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from musicgen_cli import atomic, foreign
from musicgen_cli.errors import DamagedError
from musicgen_cli.limits import WAV_BYTES
from musicgen_cli.store import files
from musicgen_cli.store.digest import Digest, is_sha256

_SUFFIX = ".wav"
_FOLDER = re.compile(r"[0-9a-f]{2}")
_FLAWS = {  # of a blob that isn't read, by the error
    errno.ELOOP: "the audio is a symbolic link, which is not followed",
    errno.EINVAL: "the audio is not a regular file",
    errno.EFBIG: "the audio is not what was stored",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A blob or an unfinished write in the directory of blobs."""

    path: Path
    digest: Digest | None  # None: an unfinished write
    status: os.stat_result  # of the path itself, even if it is a symbolic link

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.status.st_mode)


class Blobs:
    """The directory `blobs` of a store."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "blobs"

    def path(self, digest: Digest) -> Path:
        """Return the path of a blob, whether or not it exists."""
        return self._folder / digest.hex[:2] / (digest.hex + _SUFFIX)

    def make(self) -> None:
        """Make the directory of blobs, durably."""
        files.make_directory(self._folder)

    def put(self, digest: Digest, data: bytes) -> None:
        """
        Store a blob; it is durable when this returns.

        An existing file is hashed, and replaced if its bytes are wrong: after a crash or on a bad disk, a file may have
        the right name and contain zeros.
        """
        path = self.path(digest)
        for folder in (self._folder, path.parent):
            foreign.refuse_link(folder)
        if not self.is_intact(digest):
            self._write(path, data)
        self.sync(digest)

    def sync(self, digest: Digest) -> None:
        """Make the name of a blob durable: the process that wrote the file may have died before it synced the name."""
        atomic.sync_directory(self.path(digest).parent)
        atomic.sync_directory(self._folder)

    def holds(self, digest: Digest) -> bool:
        """Tell whether a blob's path exists, without reading it."""
        return os.path.lexists(self.path(digest))

    def read(self, digest: Digest, size: int = WAV_BYTES) -> bytes:
        """
        Return the bytes of a blob, after hashing them again.

        Args:
            digest: The blob.
            size: The most bytes that it can have.

        Raises:
            DamagedError: The file is missing, has other bytes, or is a symbolic link.
        """
        path = self.path(digest)
        hint = "storing the same audio again repairs it"
        try:
            with files.open_to_read(path) as file:
                data = foreign.read_all(file, size)
        except FileNotFoundError as err:
            raise DamagedError(f"the audio is missing: {str(path)!r}", hint=hint) from err
        except OSError as err:
            if err.errno not in _FLAWS:
                raise
            raise DamagedError(f"{_FLAWS[err.errno]}: {str(path)!r}", hint=hint) from err
        if Digest.of(data) != digest:
            raise DamagedError(f"the audio is not what was stored: {str(path)!r}", hint=hint)
        return data

    def sizes(self) -> Iterator[int | None]:
        """Yield the size in bytes of each blob, and None for each unfinished temporary."""
        for entry in self.entries():
            yield None if entry.digest is None else entry.status.st_size

    def folders(self) -> Iterator[Path]:
        """Yield the paths named by two hex digits, of whatever type; nothing if `blobs` itself is a symbolic link."""
        if self._folder.is_symlink():
            return
        for name in files.names(self._folder):
            if _FOLDER.fullmatch(name):
                yield self._folder / name

    def entries(self) -> Iterator[Entry]:
        """Yield each blob and each unfinished temporary; other files are ignored."""
        for folder in self.folders():
            if folder.is_symlink() or not folder.is_dir():
                continue
            for name in files.names(folder):
                stem = name.removesuffix(_SUFFIX)
                is_blob = stem != name and is_sha256(stem) and stem.startswith(folder.name)
                if is_blob or name.startswith(atomic.TEMPORARY):
                    with suppress(FileNotFoundError):  # a temporary that was renamed just now
                        path = folder / name
                        yield Entry(path, Digest(stem) if is_blob else None, path.lstat())

    def is_intact(self, digest: Digest) -> bool:
        """Tell whether a blob's file exists and has the right bytes."""
        try:
            with files.open_to_read(self.path(digest)) as file:
                return os.fstat(file.fileno()).st_size <= WAV_BYTES and Digest.of_file(file) == digest
        except FileNotFoundError:
            return False

    def _write(self, path: Path, data: bytes) -> None:
        with atomic.replacing(path) as temporary:
            try:
                atomic.write_new(temporary, data, mode=atomic.READ_ONLY)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    path.parent.mkdir(0o700)
                atomic.write_new(temporary, data, mode=atomic.READ_ONLY)
