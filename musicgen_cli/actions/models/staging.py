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
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from musicgen_cli import atomic
from musicgen_cli.errors import ModelBusyError, ModelsFolderError
from musicgen_cli.settings import NO_HOME
from musicgen_cli.text import size

if TYPE_CHECKING:
    from musicgen_cli.checkpoint.repository import RemoteFile

_PULLING = ".pulling"
_OTHER_PLACE = "XDG_DATA_HOME can name another data folder" if os.name == "posix" else None


@dataclass(frozen=True, slots=True)
class Staging:
    """The staging folder of one model; only the holder of the lock may change it."""

    name: str
    models_dir: Path

    @property
    def directory(self) -> Path:
        """The staging folder."""
        return self.models_dir / _PULLING / self.name

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
        pulling = self.directory.parent
        if pulling.is_relative_to(NO_HOME):
            raise ModelsFolderError("there is no home directory for models", hint=_OTHER_PLACE)
        try:
            pulling.mkdir(parents=True, exist_ok=True)
            with FileLock(pulling / f"{self.name}.lock", timeout=0):
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
        """Make the folder, and remove everything from it except the files with the given paths in it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        kept = {self.directory / name for name in keep}
        for path in sorted(self.directory.rglob("*"), reverse=True):  # a folder after what is in it
            if path.is_dir() and not path.is_symlink():
                if not any(path in file.parents for file in kept):
                    path.rmdir()
            elif path not in kept:
                path.unlink()

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
            directory.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            link_or_copy(source, target)
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
                with path.open("r+b") as file:  # Windows syncs only files that are open for writing
                    atomic.sync(file.fileno())
        replaced = self._old()
        if self.installed.exists():
            self.installed.rename(replaced)
        self.directory.rename(self.installed)
        shutil.rmtree(replaced, ignore_errors=True)

    def remove(self) -> None:
        """Remove the model and what an unfinished pull left of it."""
        for folder in (self.installed, self.directory):
            if folder.is_dir():
                shutil.rmtree(folder.rename(self._old()))

    def _old(self) -> Path:
        """Return a free name to which a folder can be renamed before it is deleted."""
        old = self.directory.with_name(f"{self.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        return old


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """
    Give a file a second name; where a hard link isn't possible, copy it.

    Unlike for `atomic.link_or_copy`, the source may be a symbolic link, or be on another file system.
    """
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copyfile(source, target)
