"""
The folder in which a model's files are collected until it is complete, and the lock on a model.

    <models_dir>/small/                      a complete model
    <models_dir>/.pulling/small/             its staging folder: complete files, and partial ones called `….part`
    <models_dir>/.pulling/small.lock         held by the process that writes the model
    <models_dir>/.pulling/small.old/         what is being replaced or removed, for a moment

A model appears in one rename, and disappears in one.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from musicgen_cli import atomic, foreign
from musicgen_cli.errors import ModelBusyError, ModelsFolderError
from musicgen_cli.settings import NO_HOME
from musicgen_cli.text import size

if TYPE_CHECKING:
    from musicgen_cli.checkpoint.repository import RemoteFile

_PULLING = ".pulling"
_COPY_BYTES = 1 << 20  # at a time
_OTHER_PLACE = "XDG_DATA_HOME can name another data folder" if os.name == "posix" else None


@dataclass(frozen=True, slots=True)
class Staging:
    """The staging folder of one model; only the holder of the lock may change it."""

    name: str
    models_dir: Path

    @property
    def directory(self) -> Path:
        """The staging folder."""
        return self._pulling / self.name

    @property
    def installed(self) -> Path:
        """Where the complete model is, or will be."""
        return self.models_dir / self.name

    @contextmanager
    def lock(self, *, hint: str | None = None) -> Iterator[None]:
        """
        Hold the lock on the model, so that no other process writes it.

        Args:
            hint: What the user can know or do if the models directory can't be written.

        Raises:
            ModelBusyError: Another process holds the lock.
            ModelsFolderError: The models directory can't be written.
        """
        pulling = self._pulling
        if pulling.is_relative_to(NO_HOME):
            raise ModelsFolderError("there is no home directory for models", hint=_OTHER_PLACE)
        try:
            atomic.make_private_folder(pulling)
            _refuse_others(pulling)
            with FileLock(pulling / f"{self.name}.lock", mode=atomic.PRIVATE, timeout=0):
                yield
        except Timeout as err:
            raise ModelBusyError(
                f"another process is writing the model {self.name!r}", hint="try again when it has finished"
            ) from err
        except OSError as err:
            raise ModelsFolderError(
                f"can't change the model {self.name!r} in {self.models_dir}: "
                f"{err.strerror or err} ({err.filename or self.models_dir})",
                hint=hint or _OTHER_PLACE,
            ) from err

    def clear(self, *, keep: Collection[str] = ()) -> None:
        """Make the folder, and remove everything from it except the regular files with the given paths in it."""
        if self.directory.is_symlink() or not self.directory.is_dir():
            _remove(self.directory)
            self.directory.mkdir(atomic.PRIVATE_FOLDER)
        _refuse_others(self.directory)
        kept = {self.directory / name for name in keep}
        for path in sorted(self.directory.rglob("*"), reverse=True):  # a folder after what is in it
            mode = path.lstat().st_mode
            holds_kept = stat.S_ISDIR(mode) and any(path in file.parents for file in kept)
            if not holds_kept and not (path in kept and stat.S_ISREG(mode)):
                _remove(path)

    def has(self, file: RemoteFile, folder: str, others: Iterable[Path] = ()) -> bool:
        """
        Tell whether a file is complete here; one that an installed model has is taken from there.

        Args:
            folder: In the staging folder, where the file belongs.
            others: Folders of other installed models that may have it.
        """
        directory = self.directory / folder
        target = directory / file.name
        if not file.is_at(target):
            sources = (self.installed / folder / file.name, *(other / file.name for other in others))
            source = next((path for path in sources if file.is_at(path)), None)
            if source is None:
                return False
            directory.mkdir(atomic.PRIVATE_FOLDER, parents=True, exist_ok=True)
            if foreign.who_else(source.stat()) is None:
                target.unlink(missing_ok=True)
                link_or_copy(source, target)
            else:  # a link could still be written by whoever else can
                copy(source, target)
                if not file.is_at(target):
                    return False
        file.partial(directory).unlink(missing_ok=True)
        return True

    def check_free_space(self, needed: int) -> None:
        """
        Check that the disk has room for `needed` more bytes.

        Raises:
            ModelsFolderError: It hasn't.
        """
        free = shutil.disk_usage(self.models_dir).free
        if needed > free:
            raise ModelsFolderError(
                f"the model {self.name!r} needs {size(needed)} of disk while it is prepared, "
                f"{size(free)} are free in {self.models_dir}",
                hint=_OTHER_PLACE,
            )

    def publish(self) -> None:
        """Sync the folder's files and give it its final name; a model that has the name is replaced."""
        for path in self.directory.rglob("*"):
            if path.is_file():
                with atomic.open_private(path, "r+b") as file:  # Windows syncs only files that are open for writing
                    atomic.sync(file.fileno())
        replaced = self._old()
        if self.installed.exists():
            atomic.rename(self.installed, replaced)
        atomic.rename(self.directory, self.installed)
        _remove(replaced)

    def remove(self) -> None:
        """Remove the model and what an unfinished pull left of it."""
        for folder in (self.installed, self.directory):
            if folder.is_dir():
                old = self._old()
                atomic.rename(folder, old)
                _remove(old)

    def _old(self) -> Path:
        """Return a free name to which a folder can be renamed before it is deleted."""
        old = self.directory.with_name(f"{self.name}.old")
        _remove(old)
        return old

    @property
    def _pulling(self) -> Path:
        return self.models_dir / _PULLING


def _refuse_others(folder: Path) -> None:
    """
    Refuse a folder to which others can write: what they put there would be replaced, or become part of a model.

    Raises:
        ModelsFolderError: It is such a folder, or a symbolic link.
    """
    reason = "it is a symbolic link" if folder.is_symlink() else foreign.who_else(folder.stat())
    if reason is not None:
        raise ModelsFolderError(f"{str(folder)!r} is not used: {reason}", hint=_OTHER_PLACE)


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it exists; of a symbolic link only the link itself."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)  # follows no link either
    else:
        path.unlink(missing_ok=True)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """
    Give a file a second name; where a hard link isn't possible, copy it.

    Unlike for `atomic.link_or_copy`, the source may be a symbolic link, or be on another file system.
    """
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        copy(source, target)


def copy(source: str | Path, target: str | Path) -> None:
    """Copy the bytes of a regular file into a private one; what has its name is replaced, and a link not followed."""
    target = Path(target)
    target.unlink(missing_ok=True)
    with foreign.open_file(Path(source)) as old, atomic.open_private(target) as new:
        shutil.copyfileobj(old, new, _COPY_BYTES)
