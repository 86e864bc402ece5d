"""The operations that change a store, and what must hold after each of them was interrupted or completed."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from musicgen_cli.errors import DamagedError, NotFoundError
from musicgen_cli.store import Store, maintenance
from tests.support.index_lines import draft, sound

LONG_AGO = 7_200  # s; more than the hour for which `gc` leaves unused files alone


class Take(NamedTuple):
    """What is compared of a listed take."""

    prompt: str
    tags: tuple[str, ...]
    content_hash: str
    is_intact: bool  # the audio is there and right


Takes = dict[str, Take]  # by id


def quiet(root: Path) -> Store:
    """Open a store that gives no warnings."""
    return Store(root, warn=lambda line: None)


def takes(root: Path) -> Takes:
    """Read all listed takes, with their audio."""
    store = quiet(root)
    listed: Takes = {}
    for artifact in store.newest(None):
        try:
            store.read_blob(artifact)
        except DamagedError:
            is_intact = False
        else:
            is_intact = True
        assert artifact.id not in listed, f"{artifact.id} is listed twice"
        listed[artifact.id] = Take(artifact.prompt, artifact.tags, artifact.content_hash, is_intact)
    return listed


def sounds(root: Path) -> set[str]:
    """Hash all WAV files, intact or not, in any directory of the store."""
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.wav")}


def temporaries(root: Path) -> int:
    """Count the files of unfinished writes."""
    return sum(".tmp-" in path.name for path in root.rglob("*"))


def nothing(root: Path) -> None:
    """Make nothing: the operation makes the store."""


def some(root: Path) -> None:
    """Make a store with shared audio, edited tags and a removed take."""
    store = quiet(root)
    store.put(sound(0), draft("zero"))
    one = store.put(sound(1), draft("one", tags=("a", "b")))
    store.put(sound(0), draft("zero again"))
    two = store.put(sound(2), draft("two"))
    store.tag([one.id], add=["c"], rm=["a"])
    store.remove([two.id])


def zeroed(root: Path) -> None:
    """Add a file of zeros with the name of the audio that will be put."""
    some(root)
    path = quiet(root).blob_path(quiet(root).put(sound(9), draft("soon zeroed")))
    quiet(root).remove(["last"])
    path.chmod(0o600)
    path.write_bytes(bytes(path.stat().st_size))


def littered(root: Path) -> None:
    """Add old files that `gc` deletes: unused audio, and an unfinished write."""
    some(root)
    folder = quiet(root).blob_path(quiet(root).get("last")).parent
    (folder / ".tmp-1-0000000000000000").write_bytes(sound()[:50])
    long_ago = time.time() - LONG_AGO
    for path in (root / "blobs").rglob("*"):
        os.utime(path, (long_ago, long_ago))


def damaged(root: Path) -> None:
    """Make a store to repair: two lines without an LF between them, one without a byte, a torn one, damaged audio."""
    store = quiet(root)
    corrupt = store.put(sound(3), draft("corrupt"))
    for seed in (4, 5, 6):
        store.put(sound(seed), draft(f"line {seed}"))
    *lines, joined, second, cut = (root / "index.jsonl").read_bytes().splitlines(keepends=True)
    (root / "index.jsonl").write_bytes(b"".join([*lines, joined[:-1], second, cut[:50], cut[51:], cut[:99]]))
    store.blob_path(corrupt).chmod(0o600)
    store.blob_path(corrupt).write_bytes(b"RIFF")


def orphaned(root: Path) -> None:
    """Add audio whose `put` line was lost."""
    some(root)
    quiet(root).restore("last")
    index = (root / "index.jsonl").read_bytes()
    quiet(root).put(sound(8), draft("lost"))
    (root / "index.jsonl").write_bytes(index)


def put(store: Store) -> None:
    store.put(sound(9), draft("nine"))


def tag(store: Store) -> None:
    store.tag([store.get(digits(seed)).id for seed in (0, 1)], add=["new"], rm=["b"])


def remove(store: Store) -> None:
    store.remove([digits(seed) for seed in (0, 1)])


def remove_rest(store: Store) -> None:
    """Remove the takes that are still there; raise an error afterwards if one was not."""
    error = None
    for seed in (0, 1):
        try:
            store.remove([digits(seed)])
        except NotFoundError as err:
            error = err
    if error:
        raise error


def restore(store: Store) -> None:
    store.restore(digits(2))


def repair(store: Store) -> None:
    _require_change(maintenance.repair(store.root))


def adopt(store: Store) -> None:
    _require_change(maintenance.repair(store.root, adopt=True))


def _require_change(result: maintenance.Repair) -> None:
    if not (result.index_rewritten or result.quarantined or result.adopted):
        raise NotFoundError("nothing to repair")  # it synced nothing, so it can't promise that anything is durable


def digits(seed: int) -> str:
    """Return the id, without `artifact_`, of the first take of a sound."""
    return hashlib.sha256(sound(seed)).hexdigest()[:12]


@dataclass(frozen=True)
class Operation:
    """
    One operation of a store.

    Attributes:
        prepare: Makes the store in which the operation starts.
        run: Runs the operation.
        finish: Runs what remains of it after an interruption; a `NotFoundError` means that parts had been done already,
            and that these need not be durable.
    """

    prepare: Callable[[Path], None]
    run: Callable[[Store], object]
    finish: Callable[[Store], object]


def _repeatable(prepare: Callable[[Path], None], run: Callable[[Store], object]) -> Operation:
    return Operation(prepare, run, run)


OPERATIONS = {
    "first put": _repeatable(nothing, put),
    "later put": _repeatable(some, put),
    "put over zeros": _repeatable(zeroed, put),
    "tag": _repeatable(some, tag),
    "rm": Operation(some, remove, remove_rest),
    "restore": _repeatable(some, restore),
    "compact": _repeatable(some, lambda store: maintenance.compact(store.root)),
    "compact --forget": _repeatable(some, lambda store: maintenance.compact(store.root, forget=True)),
    "gc": _repeatable(littered, lambda store: maintenance.gc(store.root, yes=True)),
    "repair": _repeatable(damaged, repair),
    "repair --adopt": _repeatable(orphaned, adopt),
}


class Expected:
    """
    What may be in a store after an operation was completed or interrupted.

    Args:
        name: The operation.
        place: An empty directory, in which the operation is run once without interruption.
    """

    def __init__(self, name: str, place: Path) -> None:
        self.name = name
        self.operation = OPERATIONS[name]
        self.start = place / "start"
        self.operation.prepare(self.start)
        self._before = takes(self.start)
        self._sounds = sounds(self.start)
        self._bad = quiet(self.start).stats().bad_lines
        done = place / "done"
        self.copy_to(done)
        self.operation.run(quiet(done))
        self._after = takes(done)
        self._sounds &= sounds(done)

    def copy_to(self, root: Path) -> None:
        """Copy the store in which the operation starts."""
        if self.start.exists():
            shutil.copytree(self.start, root)

    def flaw(self, root: Path, *, done: bool, torn: int = 0) -> str | None:
        """
        Read a store and return what is wrong with it, or None.

        Args:
            root: The store.
            done: The operation returned without an error.
            torn: How many more bad lines there may be than before.
        """
        now = takes(root)
        for name in self._before:
            allowed = [self._after.get(name)] if done else [self._before[name], self._after.get(name)]
            if now.get(name) not in allowed:
                return f"{name} is {now.get(name)}, not {allowed}"
        for name in now.keys() - self._before:
            if now[name] not in self._after.values():
                return f"{name} is {now[name]}, which was never stored"
        if done and (lost := set(self._after.values()) - set(now.values())):
            return f"done, but missing: {lost}"
        if lost_sounds := self._sounds - sounds(root):
            return f"audio is missing: {lost_sounds}"
        if (bad := quiet(root).stats().bad_lines) > self._bad + torn:
            return f"{bad} bad lines"
        return None

    def flaw_of_rest(self, root: Path, *, torn: int = 0) -> str | None:
        """Finish the operation as another process would, then put a take; return what goes wrong, or None."""
        store = quiet(root)
        with suppress(NotFoundError):
            self.operation.finish(store)
        if problem := self.flaw(root, done=True, torn=torn):
            return f"after another process finished it: {problem}"
        before = takes(root)
        new = store.put(sound(77), draft("seventy-seven"))
        if takes(root) != before | {new.id: Take("seventy-seven", new.tags, new.content_hash, True)}:
            return "the next put changed another take"
        return None
