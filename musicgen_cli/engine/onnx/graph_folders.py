"""
Folders of graphs that were built from a checkpoint, and can be built from it again at any time.

A folder is built under a temporary name and renamed when it is complete, so several processes can build the same one at
once. A folder that doesn't match its manifest is built again. Nothing is synced to disk: the hashes reveal what a power
cut damages. They don't tell who made the files, so a folder that another user than root could have written is not used.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from musicgen_cli import atomic, foreign
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.manifest import size_and_sha256
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.errors import CheckpointError, EngineError, NativeUnsuitedError

KV_SCALES, MANIFEST = "scales.npy", "manifest.json"
MANIFEST_BYTES = 1 << 16

STAGING_PREFIX = ".making-"
_STALE_AFTER_S = 24 * 3600.0  # no process builds a folder for as long as this
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_TARGET_EXISTS = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})

Label = Mapping[str, str | int]  # what a folder was built from
Files = dict[str, tuple[int, str]]  # name → bytes and SHA-256

# Why the native decoder can't compute a model, found out while its matrices were quantized; a manifest has it then.
OBSTACLE = "obstacle"


class Builder(Protocol):
    """Builds the files of one folder."""

    @property
    def label(self) -> Label:
        """What it is built from."""

    @property
    def graphs(self) -> tuple[str, ...]:
        """The files without which the folder isn't complete; each may have a file of weights beside it."""

    def build(self, directory: Path) -> None:
        """
        Write all files and the manifest.

        Raises:
            NativeUnsuitedError: The manifest says why there are no files.
        """


@dataclass(frozen=True, slots=True)
class Graphs:
    """A complete folder of graphs."""

    directory: Path
    temporary: tempfile.TemporaryDirectory[str] | None = None  # where the cache couldn't be written

    def scales(self) -> FloatArray | None:
        """Return the scales of the int8 KV cache, or None if the KV cache is float32."""
        path = self.directory / KV_SCALES
        return np.load(path) if path.exists() else None

    def close(self) -> None:
        """Remove the folder if it is temporary."""
        if self.temporary:
            self.temporary.cleanup()


def prepare_folder(
    folder: Path, builder: Builder, checkpoint: Checkpoint, note: Callable[[str], None], *, purpose: str
) -> Graphs:
    """
    Return a folder of graphs: the one in the cache if it is intact, or one that is built now.

    Args:
        folder: Where it is cached.
        checkpoint: From which it is built.
        note: Called with a line when it is being built, and when it can't be cached.
        purpose: What it is for, as "the native decoder".

    Raises:
        CheckpointError: The checkpoint lacks a tensor, or has one that can't be used; or its graphs could have been
            changed by others, and it has no weights to make them again.
        EngineError: There is no disk space for the graphs.
        NativeUnsuitedError: The model is to be computed on ONNX Runtime; `is_unsuited` says so from now on.
    """
    home = folder.parent
    if is_intact(folder, builder):
        return Graphs(folder)
    if not checkpoint.weights and (reason := who_else(folder)) is not None:
        raise CheckpointError(
            f"the prepared {checkpoint.name} in {str(folder)!r} is not used: {reason}",
            hint="a copy of the model's folder that belongs to you alone can be used, and so can a new pull",
        )
    note(f"preparing {checkpoint.name} for {purpose}, once")
    if home.is_dir() and (reason := foreign.who_else(home.stat(), trusted=(foreign.ROOT,))) is not None:
        note(f"{home} is not used: {reason}; the prepared model is for this run only")
        return _build_temporary(builder)
    try:
        staging = _staging_folder(home)
    except OSError as err:
        if err.errno in _DISK_FULL:
            raise _disk_error(home, err) from err
        note(f"can't write to {home} ({err.strerror}): the prepared model is for this run only")
        return _build_temporary(builder)
    try:
        builder.build(staging)
        return Graphs(_publish(staging, folder, builder))
    except NativeUnsuitedError:
        _publish(staging, folder, builder)
        raise
    except BaseException as err:
        shutil.rmtree(staging, ignore_errors=True)
        if isinstance(err, OSError):
            raise _disk_error(home, err) from err
        raise


def is_unsuited(folder: Path) -> bool:
    """Return whether a folder for the native decoder says that the model is to be computed on ONNX Runtime."""
    try:
        return OBSTACLE in json.loads(foreign.read(folder / MANIFEST, MANIFEST_BYTES))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def is_intact(directory: Path, builder: Builder) -> bool:
    """
    Return whether a folder has what this builder would write, and matches its manifest to the byte.

    Reads every file: about 0.6 s per gigabyte from the page cache on two cores, 3 s from a disk. The graphs are then in
    the page cache when they are loaded.
    """
    try:
        if who_else(directory) is not None:
            return False
        manifest = json.loads(foreign.read(directory / MANIFEST, MANIFEST_BYTES))
        files = {name: (entry["bytes"], entry["sha256"]) for name, entry in manifest.pop("files").items()}
        data = {f"{Path(name).stem}.data" for name in builder.graphs}
        if manifest != builder.label or not set(builder.graphs) <= files.keys() <= {KV_SCALES, *builder.graphs, *data}:
            return False
        if any((directory / name).stat().st_size != size for name, (size, _) in files.items()):
            return False
        with ThreadPoolExecutor(len(files)) as pool:  # hashing releases the GIL
            identities = pool.map(size_and_sha256, [directory / name for name in files])
            return list(identities) == list(files.values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def who_else(directory: Path) -> str | None:
    """
    Say who else than this user and root could have changed graphs; None if nobody can, or if there are none.

    ONNX Runtime runs them, and hashes beside them prove nothing.
    """
    try:
        for path in (directory, *directory.iterdir()):
            if (reason := foreign.who_else(path.lstat(), trusted=(foreign.ROOT,))) is not None:
                return reason
    except (FileNotFoundError, NotADirectoryError):
        pass  # there are none
    return None


def write_manifest(directory: Path, label: Label, members: Mapping[str, object]) -> None:
    """Write the manifest of a folder."""
    manifest = json.dumps({**label, **members}, indent=1) + "\n"
    atomic.write_new(directory / MANIFEST, manifest.encode(), durable=False)


def entries(files: Files) -> dict[str, dict[str, int | str]]:
    """Return files as a manifest has them."""
    return {name: {"bytes": size, "sha256": sha256} for name, (size, sha256) in files.items()}


def _build_temporary(builder: Builder) -> Graphs:
    """Build the graphs in a temporary folder, which is removed when they are closed."""
    try:
        temporary = tempfile.TemporaryDirectory(prefix="musicgen-")
        try:
            builder.build(Path(temporary.name))
        except BaseException:
            temporary.cleanup()
            raise
    except OSError as err:
        raise _disk_error(Path(tempfile.gettempdir()), err) from err
    return Graphs(Path(temporary.name), temporary)


def _staging_folder(home: Path) -> Path:
    """Create a folder to build in, and remove those that killed processes left behind."""
    atomic.make_private_folder(home)
    for leftover in home.glob(f"{STAGING_PREFIX}*"):
        with suppress(OSError):
            if time.time() - leftover.lstat().st_mtime > _STALE_AFTER_S:
                shutil.rmtree(leftover, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=home))


def _publish(staging: Path, target: Path, builder: Builder) -> Path:
    """Rename a complete folder to its final name, replacing a damaged one, and return where the graphs are."""
    try:
        atomic.rename(staging, target)
    except OSError as err:
        if err.errno not in _TARGET_EXISTS:
            raise
    else:
        return target
    if is_intact(target, builder):  # another process was first
        shutil.rmtree(staging, ignore_errors=True)
        return target
    aside = target.with_name(f"{STAGING_PREFIX}{os.urandom(8).hex()}")
    with suppress(FileNotFoundError):  # another process moved it first
        atomic.rename(target, aside)  # within the same folder, which is allowed even if it is another user's
    shutil.rmtree(aside, ignore_errors=True)
    with suppress(OSError):
        aside.unlink()  # it was no folder
    atomic.rename(staging, target)
    return target


def _disk_error(home: Path, err: OSError) -> EngineError:
    return EngineError(
        f"can't write the model's graphs to {home}: {err.strerror or err}",
        hint="they need as much disk space as the weights",
    )
