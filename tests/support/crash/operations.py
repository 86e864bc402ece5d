"""What a store does to itself, in one table; and what must hold after each of these was cut off, or was not."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from musicgen_cli.errors import DamagedError, NotFoundError
from musicgen_cli.store import Store, maintenance
from tests.support.index_lines import draft, sound

Takes = dict[str, tuple[str, tuple[str, ...], str, bool]]  # by id: prompt, tags, SHA-256, is the audio right
LONG_AGO = 7_200  # s; more than the hour that gc gives unfinished work


def quiet(root: Path) -> Store:
    return Store(root, warn=lambda line: None)


def takes(root: Path) -> Takes:
    """Read everything that is listed, the audio too."""
    store = quiet(root)
    found: Takes = {}
    for artifact in store.newest(None):
        try:
            store.read_blob(artifact)
        except DamagedError:
            right = False
        else:
            right = True
        assert artifact.id not in found, f"{artifact.id} is listed twice"
        found[artifact.id] = (artifact.prompt, artifact.tags, artifact.content_hash, right)
    return found


def sounds(root: Path) -> set[str]:
    """Hash all audio, right or wrong, wherever it was moved."""
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.wav")}


def temporaries(root: Path) -> int:
    """Count what unfinished writes left."""
    return sum(".tmp-" in path.name for path in root.rglob("*"))


def nothing(root: Path) -> None:
    """Leave the store for the operation to make."""


def some(root: Path) -> None:
    """Make a store with a bit of everything: shared audio, edited tags, a removed take."""
    store = quiet(root)
    store.put(sound(0), draft("zero"))
    one = store.put(sound(1), draft("one", tags=("a", "b")))
    store.put(sound(0), draft("zero again"))
    gone = store.put(sound(2), draft("two"))
    store.tag([one.id], add=["c"], rm=["a"])
    store.remove([gone.id])


def rotten(root: Path) -> None:
    """Add a file that has the name of the audio to come, and zeros in it."""
    some(root)
    path = quiet(root).blob_path(quiet(root).put(sound(9), draft("rotten soon")))
    quiet(root).remove(["last"])
    path.chmod(0o600)
    path.write_bytes(bytes(path.stat().st_size))


def littered(root: Path) -> None:
    """Add what a clean-up takes: audio that nobody names, and an unfinished write, both old."""
    some(root)
    folder = quiet(root).blob_path(quiet(root).get("last")).parent
    (folder / ".tmp-1-0000000000000000").write_bytes(sound()[:50])
    long_ago = time.time() - LONG_AGO
    for path in (root / "blobs").rglob("*"):
        os.utime(path, (long_ago, long_ago))


def damaged(root: Path) -> None:
    """Make one that a repair can mend: two lines glued into one, one that lost a byte, a torn one, corrupt audio."""
    store = quiet(root)
    corrupt = store.put(sound(3), draft("corrupt"))
    for seed in (4, 5, 6):
        store.put(sound(seed), draft(f"line {seed}"))
    *lines, glued, other, cut = (root / "index.jsonl").read_bytes().splitlines(keepends=True)
    (root / "index.jsonl").write_bytes(b"".join([*lines, glued[:-1], other, cut[:50], cut[51:], cut[:99]]))
    store.blob_path(corrupt).chmod(0o600)
    store.blob_path(corrupt).write_bytes(b"RIFF")


def orphaned(root: Path) -> None:
    """Add audio whose line was lost."""
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
    """Remove those that are still there, and say so if one was not."""
    missed = None
    for seed in (0, 1):
        try:
            store.remove([digits(seed)])
        except NotFoundError as err:
            missed = err
    if missed:
        raise missed


def restore(store: Store) -> None:
    store.restore(digits(2))


def repair(store: Store) -> None:
    _promises(maintenance.repair(store.root))


def adopt(store: Store) -> None:
    _promises(maintenance.repair(store.root, adopt=True))


def _promises(mended: maintenance.Repair) -> None:
    if not (mended.index_rewritten or mended.quarantined or mended.adopted):
        raise NotFoundError("nothing to repair")  # it only looked, and can't say what the disk has


def digits(seed: int) -> str:
    """Name the first take of a sound."""
    return hashlib.sha256(sound(seed)).hexdigest()[:12]


@dataclass(frozen=True)
class Operation:
    """
    One thing that a store does.

    Attributes:
        prepare: Makes the store that it is done to.
        run: Does it.
        again: Finishes it, however much of it was done; `NotFoundError` if part of it was, which promises nothing.
    """

    prepare: Callable[[Path], None]
    run: Callable[[Store], object]
    again: Callable[[Store], object]


def _same(prepare: Callable[[Path], None], run: Callable[[Store], object]) -> Operation:
    return Operation(prepare, run, run)


OPERATIONS = {
    "first put": _same(nothing, put),
    "later put": _same(some, put),
    "put over rot": _same(rotten, put),
    "tag": _same(some, tag),
    "rm": Operation(some, remove, remove_rest),
    "restore": _same(some, restore),
    "compact": _same(some, lambda store: maintenance.compact(store.root)),
    "compact --forget": _same(some, lambda store: maintenance.compact(store.root, forget=True)),
    "gc": _same(littered, lambda store: maintenance.gc(store.root, yes=True)),
    "repair": _same(damaged, repair),
    "repair --adopt": _same(orphaned, adopt),
}


class Expected:
    """
    What may be in a store after an operation was done or cut off.

    Args:
        name: Of the operation.
        place: A directory of its own, where the operation is done once without trouble.
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
        """Make the store in which the operation starts, as often as needed."""
        if self.start.exists():
            shutil.copytree(self.start, root)

    def flaw(self, root: Path, *, done: bool, torn: int = 0) -> str | None:
        """
        Tell what is wrong with a store, by looking at it.

        Args:
            root: The store.
            done: The operation said that it was done.
            torn: How many lines may be bad that were not before.
        """
        now = takes(root)
        for name in self._before:
            right = [self._after.get(name)] if done else [self._before[name], self._after.get(name)]
            if now.get(name) not in right:
                return f"{name} is {now.get(name)}, not {right}"
        for name in now.keys() - self._before:
            if now[name] not in self._after.values():
                return f"{name} is {now[name]}, which nobody stored"
        if done and (lost := set(self._after.values()) - set(now.values())):
            return f"done, but not there: {lost}"
        if lost := self._sounds - sounds(root):
            return f"audio is gone: {lost}"
        if (bad := quiet(root).stats().bad_lines) > self._bad + torn:
            return f"{bad} bad lines"
        return None

    def flaw_of_rest(self, root: Path, *, torn: int = 0) -> str | None:
        """Tell what goes wrong when somebody else finishes the operation, and goes on to another."""
        store = quiet(root)
        with suppress(NotFoundError):
            self.operation.again(store)
        if wrong := self.flaw(root, done=True, torn=torn):
            return f"finished by another: {wrong}"
        kept = takes(root)
        new = store.put(sound(77), draft("seventy-seven"))
        if takes(root) != kept | {new.id: ("seventy-seven", new.tags, new.content_hash, True)}:
            return "the next put changed more than itself"
        return None
