"""
What a disk may contain after a power loss: a recorder of changes, and a strict model of which ones may be lost.

A file system may keep or lose whatever was not synced, in nearly any order (ALICE, OSDI 2014). In this model, until a
file is synced, its new bytes are there, half of them are there, they are zeros, or they are missing. Until a directory
is synced, the changes of names in it are there up to any one of them, or only one of them, or all but one. A rename
within the file system is one change.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_DIRECTORY = -1
_RANDOM_NAME = re.compile(r"-(\d+-)?[0-9a-f]{16}(?=\.|$)")
_RANDOM_MEMBERS = re.compile(rb'"(created|t|gen|crc)":"[^"]*"')
_CALLS = (
    *("open", "write", "fsync", "ftruncate", "close", "fchmod"),
    *("mkdir", "replace", "rename", "link", "unlink", "remove", "rmdir"),
)


@dataclass
class Image:
    """
    The state of a directory tree.

    Attributes:
        names: The number of the file at each path, which is relative to the top; -1 for a directory.
        files: The bytes of each file, by number.
    """

    names: dict[str, int] = field(default_factory=dict)
    files: dict[int, bytes] = field(default_factory=dict)

    def write_to(self, place: Path) -> None:
        """Make the files and directories in a new directory."""
        place.mkdir()
        for name, number in sorted(self.names.items()):  # a directory sorts before the paths in it
            if number == _DIRECTORY:
                (place / name).mkdir()
            else:
                (place / name).write_bytes(self.files[number])

    def essence(self) -> Iterator[tuple[str, bytes | None]]:
        """Yield names and bytes without the parts that differ from run to run."""
        for name, number in sorted(self.names.items()):
            data = None if number == _DIRECTORY else _RANDOM_MEMBERS.sub(b"", self.files[number])
            yield _RANDOM_NAME.sub("", name), data

    def reachable(self) -> Image:
        """Return this image without paths whose directory is missing, and with the files numbered in order."""
        names: dict[str, int] = {}
        files: dict[int, bytes] = {}
        for name, number in sorted(self.names.items()):
            if (above := os.path.dirname(name)) and names.get(above) != _DIRECTORY:  # noqa: PTH120  # it is no path
                continue
            names[name] = number
            if number != _DIRECTORY:
                names[name] = len(files)
                files[len(files)] = self.files[number]
        return Image(names, files)


@dataclass(frozen=True)
class Named:
    """One call added, changed or removed names."""

    changes: dict[str, int | None]


@dataclass(frozen=True)
class Wrote:
    """The bytes of a file changed."""

    number: int
    data: bytes


@dataclass(frozen=True)
class Synced:
    """A file was synced, given by its number, or a directory, given by its name."""

    target: int | str


@dataclass(frozen=True)
class Acknowledged:
    """The operation returned."""


Event = Named | Wrote | Synced | Acknowledged


class Recorder:
    """
    Records the changes in a directory tree, call by call.

    It scans the tree before and after each call of certain functions in `os`. A change that is made in another way is
    seen, too, but together with the next of these calls.

    Attributes:
        start: The state at the start.
        events: The changes since then.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._inodes: dict[int, int | str] = {}  # by inode: a file's number, or a directory's name
        self._next = 0
        self._now = Image()
        self.events: list[Event] = []
        self.scan()
        self.start = self._now
        self.events.clear()

    @contextmanager
    def watching(self, before: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Scan the tree around each call of a function in `os`; `before` is called before each of them."""
        real = {name: getattr(os, name) for name in _CALLS}

        def watched(name: str) -> Callable[..., object]:
            def run(*args: object, **kwargs: object) -> object:
                self.scan()
                before()
                if name == "fsync":
                    target = self._inodes.get(os.fstat(args[0]).st_ino)  # type: ignore[arg-type]
                    if target is not None:
                        self.events.append(Synced(target))
                    return None
                result = real[name](*args, **kwargs)
                self.scan()
                return result

            return run

        for name in real:
            setattr(os, name, watched(name))
        try:
            yield
        finally:
            for name, call in real.items():
                setattr(os, name, call)
            self.scan()

    def scan(self) -> None:
        """Record what changed since the last scan."""
        names: dict[str, int] = {}
        inodes: dict[int, int | str] = {self._place.stat().st_ino: ""}
        folders = [""]
        while folders:
            folder = folders.pop()
            for entry in os.scandir(self._place / folder):
                name, inode = f"{folder}/{entry.name}".lstrip("/"), entry.inode()
                if entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                    names[name], inodes[inode] = _DIRECTORY, name
                    continue
                number = inodes.get(inode, self._inodes.get(inode))
                if not isinstance(number, int):
                    number, self._next = self._next, self._next + 1
                names[name] = inodes[inode] = number
        old = self._now
        self._inodes = inodes
        self._now = Image(names, {})
        for name, number in names.items():
            if number != _DIRECTORY and number not in self._now.files:
                self._now.files[number] = data = (self._place / name).read_bytes()
                if old.files.get(number, b"") != data:
                    self.events.append(Wrote(number, data))
        changes = {each: names.get(each) for each in old.names | names if old.names.get(each) != names.get(each)}
        if changes:
            self.events.append(Named(changes))


def after_power_loss(recorder: Recorder, seen: set[tuple[object, ...]], start: int = 0) -> Iterator[tuple[Image, bool]]:
    """
    Yield the possible states of the disk after a power loss at any moment, and whether the operation had returned.

    Args:
        recorder: The changes.
        seen: States that were yielded before and are skipped; new ones are added.
        start: How many events come before the first moment.
    """
    disk = _Disk(recorder.start)
    for count, event in enumerate([None, *recorder.events]):
        if event is not None:
            disk.do(event)
        if count < start:
            continue
        for image in disk.images():
            key = (disk.acknowledged, *image.essence())
            if key not in seen:
                seen.add(key)
                yield image, disk.acknowledged


class _Disk:
    """The changes that are durable, and those that are not yet synced."""

    def __init__(self, start: Image) -> None:
        self._names = dict(start.names)  # durable, as are `_files`
        self._files = dict(start.files)
        self._new_names: list[
            tuple[dict[str, int | None], set[str]]
        ] = []  # each with the directories that must be synced
        self._new_files: dict[int, bytes] = {}
        self.acknowledged = False

    def do(self, event: Event) -> None:
        match event:
            case Named(changes):
                above = {os.path.dirname(name) for name in changes}  # noqa: PTH120
                self._new_names.append((changes, above))
            case Wrote(number, data):
                self._new_files[number] = data
            case Synced(int(number)):
                self._files[number] = self._new_files.pop(number, self._files.get(number, b""))
            case Synced(str(folder)):
                for changes, above in self._new_names:
                    above.discard(folder)
                    if not above:
                        self._names = _changed(self._names, changes)
                self._new_names = [each for each in self._new_names if each[1]]
            case Acknowledged():
                self.acknowledged = True

    def images(self) -> Iterator[Image]:
        changes = [changes for changes, _ in self._new_names]
        some = [changes[:end] for end in range(len(changes) + 1)]
        some += [[each] for each in changes]
        some += [changes[:at] + changes[at + 1 :] for at in range(len(changes))]
        for applied in some:
            names = self._names
            for each in applied:
                names = _changed(names, each)
            for how in (_all, _none, _half, _zeros):
                files = {number: self._files.get(number, b"") for number in names.values() if number != _DIRECTORY}
                files |= {
                    number: how(files[number], data) for number, data in self._new_files.items() if number in files
                }
                yield Image(names, files).reachable()


def _changed(names: dict[str, int], changes: dict[str, int | None]) -> dict[str, int]:
    return {name: number for name, number in (names | changes).items() if number is not None}


def _all(old: bytes, new: bytes) -> bytes:
    return new


def _none(old: bytes, new: bytes) -> bytes:
    return old


def _half(old: bytes, new: bytes) -> bytes:
    return new[: (len(old) + len(new) + 1) // 2]


def _zeros(old: bytes, new: bytes) -> bytes:
    return old[: len(new)].ljust(len(new), b"\0")
