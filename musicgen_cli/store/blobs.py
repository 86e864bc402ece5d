"""The audio: one read-only file for each SHA-256, which appears whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from musicgen_cli import atomic
from musicgen_cli.errors import DamagedError
from musicgen_cli.store import files
from musicgen_cli.store.digest import Digest, is_sha256

_SUFFIX = ".wav"
_FOLDER = re.compile(r"[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in the directory of the blobs that is ours."""

    path: Path
    digest: Digest | None  # None: an unfinished write
    status: os.stat_result  # of the name itself, were it a symbolic link

    @property
    def is_file(self) -> bool:
        """Tell whether it is what it should be."""
        return stat.S_ISREG(self.status.st_mode)


class Blobs:
    """The directory `blobs` of a store."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "blobs"

    def path(self, digest: Digest) -> Path:
        """Name the file of a digest, whether or not it is there."""
        return self._folder / digest.hex[:2] / (digest.hex + _SUFFIX)

    def make(self) -> None:
        """Make the directory that holds all blobs."""
        files.make_directory(self._folder)

    def put(self, digest: Digest, data: bytes) -> None:
        """
        Store bytes under their digest; they are on the disk when this returns.

        A file that is there already is trusted only after hashing it, and replaced if it is wrong: crashes and bad
        disks have left many a store with zeros under the right name.
        """
        path = self.path(digest)
        for folder in (self._folder, path.parent):
            atomic.refuse_link(folder)  # nothing is written to where it points
        if not self.is_right(digest):
            self._write(path, data)
        self.sync(digest)

    def sync(self, digest: Digest) -> None:
        """Make sure that the disk has the name of a blob: who gave it may have died before doing so."""
        atomic.sync_directory(self.path(digest).parent)
        atomic.sync_directory(self._folder)

    def holds(self, digest: Digest) -> bool:
        """Tell whether a file has the digest's name, without looking into it."""
        return os.path.lexists(self.path(digest))

    def read(self, digest: Digest) -> bytes:
        """
        Return the bytes of a digest, hashed again.

        Raises:
            DamagedError: They are missing, wrong, or behind a symbolic link.
        """
        path = self.path(digest)
        hint = "storing the same audio again heals it"
        try:
            with files.open_to_read(path) as file:
                data = file.read()
        except FileNotFoundError as err:
            raise DamagedError(f"the audio is missing: {str(path)!r}", hint=hint) from err
        except OSError as err:
            if err.errno != errno.ELOOP:
                raise
            raise DamagedError(f"the audio is a symbolic link, which is not followed: {str(path)!r}") from err
        if Digest.of(data) != digest:
            raise DamagedError(f"the audio is not what was stored: {str(path)!r}", hint=hint)
        return data

    def sizes(self) -> Iterator[int | None]:
        """Yield the size in bytes of each blob, and None for each unfinished temporary."""
        for entry in self.entries():
            yield None if entry.digest is None else entry.status.st_size

    def folders(self) -> Iterator[Path]:
        """Yield what stands where the directories of two digits do, whatever it is; a link is not followed."""
        if self._folder.is_symlink():
            return
        for name in files.names(self._folder):
            if _FOLDER.fullmatch(name):
                yield self._folder / name

    def entries(self) -> Iterator[Entry]:
        """Yield each blob and each unfinished temporary; what else lies there is not ours."""
        for folder in self.folders():
            if folder.is_symlink() or not folder.is_dir():
                continue
            for name in files.names(folder):
                stem = name.removesuffix(_SUFFIX)
                is_blob = stem != name and is_sha256(stem) and stem.startswith(folder.name)
                if is_blob or name.startswith(atomic.TEMPORARY):
                    with suppress(FileNotFoundError):  # a write ended just now
                        path = folder / name
                        yield Entry(path, Digest(stem) if is_blob else None, path.lstat())

    def is_right(self, digest: Digest) -> bool:
        """Tell whether the file of a digest is there and holds what it should."""
        try:
            with files.open_to_read(self.path(digest)) as file:
                return Digest.of_file(file) == digest
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
