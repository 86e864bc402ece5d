"""What rewrites or removes in a store, only when asked: compact its index, collect garbage, repair damage."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, count, islice
from pathlib import Path

from musicgen_cli import atomic
from musicgen_cli.audio.wav import WavInfo, inspect
from musicgen_cli.errors import DamagedError, InvalidWavError
from musicgen_cli.limits import CREATOR
from musicgen_cli.store import files
from musicgen_cli.store.artifacts import ArtifactDraft, from_draft
from musicgen_cli.store.blobs import Blobs
from musicgen_cli.store.check import QUARANTINE, Fold, Problem, damage, ignore, layout
from musicgen_cli.store.digest import Digest, make_id
from musicgen_cli.store.journal import INDEX, OLD, TEMPORARY, Journal, Snapshot
from musicgen_cli.store.lines import Record, encode, new_head, timestamp
from musicgen_cli.store.lock import locked

RECOVERED = "recovered"
_SAFE_S = 3600.0  # younger files may belong to a write that is under way
_REPAIR = "`musicgen store repair` mends it, and `musicgen store check` tells all that is wrong"
_ADOPT = "`musicgen store repair --adopt` makes takes of it"
_MENTION = re.compile(rb'"(?:id":"(artifact_([0-9a-f]{12})(?:-[1-9][0-9]{0,8})?)|content_hash":"([0-9a-f]{64}))"')
_AT_ONCE = 1000  # lines of one append


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction did, or would do."""

    done: bool  # False: nothing was changed
    lines: int = 0  # before
    kept_lines: int = 0
    index_bytes: int = 0  # before
    kept_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Garbage:
    """What was deleted, or would be."""

    done: bool
    blobs: int = 0
    blob_bytes: int = 0
    temporaries: int = 0
    temporary_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair did, or would do."""

    done: bool
    bad_lines: int = 0  # copied to `quarantine`, as are the following two; a torn one at the end included
    repeated_ids: int = 0  # lines that stored an id again while it was there: the last one counts
    salvaged: int = 0  # good lines found within bad ones, and kept
    index_rewritten: bool = False
    quarantined: int = 0  # files moved to `quarantine`: corrupt audio, and what is in the place of something else
    modes: int = 0  # files and directories that got their mode back
    adopted: int = 0  # audio without a record that got one
    missing: int = 0  # artifacts whose audio isn't there: only storing the same audio again heals them


def compact(root: Path, *, forget: bool = False, dry_run: bool = False) -> Compaction:
    """
    Rewrite the index without what is dead in it: removed artifacts, and the single steps by which tags became.

    Args:
        root: The store's directory.
        forget: Leave no `index.jsonl.old`, so that the prompts of what was removed are gone.
        dry_run: Only reckon what would be done.

    Raises:
        DamagedError: The index has a flaw, which a rewriting would hide.
    """
    journal = Journal(root, ignore)
    with files.explained("read" if dry_run else "write to", root):
        if not _has_index(root):
            return Compaction(not dry_run)
        with _turn(root, take=not dry_run):
            fold = Fold()
            with journal.reading() as snapshot:
                _refuse(fold.read(snapshot))
                size = snapshot.size
                kept = _size(chain([new_head()], fold.kept(snapshot))) if dry_run else (0, 0)
            if not dry_run:
                kept = journal.rewrite(fold.kept, keep_old=not forget)
    return Compaction(not dry_run, fold.lines, kept[0], size, kept[1])


def gc(root: Path, *, yes: bool = False) -> Garbage:
    """
    Delete the audio that no live artifact has, and what unfinished writes left; only what is older than an hour.

    A writer between audio and index line finds its audio gone once it has the lock, and writes it again.

    Args:
        root: The store's directory.
        yes: Delete; else only count.

    Raises:
        DamagedError: The index has a flaw, so an artifact may be live without our knowing.
    """
    blobs = Blobs(root)
    counted = [0, 0]  # audio, temporaries
    freed = [0, 0]
    with files.explained("write to" if yes else "read", root):
        atomic.refuse_link(root / "blobs")
        if os.path.lexists(root):
            with _turn(root, take=yes):
                live = _live(Journal(root, ignore), blobs)
                safe = time.time() - _SAFE_S
                for path, is_temporary, status in _leftovers(root, blobs, live):
                    if status.st_mtime < safe:
                        counted[is_temporary] += 1
                        freed[is_temporary] += status.st_size
                        if yes:
                            atomic.remove(path)
    return Garbage(yes, counted[0], freed[0], counted[1], freed[1])


def repair(root: Path, *, adopt: bool = False, dry_run: bool = False) -> Repair:
    """
    Set right what can be; what is taken out goes to `quarantine`, and nothing is deleted.

    Args:
        root: The store's directory.
        adopt: Make artifacts, tagged `recovered`, of audio that the index says nothing of, not even that it was
            removed.
        dry_run: Only reckon what would be done.
    """
    blobs = Blobs(root)
    journal = Journal(root, ignore)
    quarantine = _Quarantine(root, dry_run=dry_run)
    with files.explained("read" if dry_run else "write to", root):
        if not any(os.path.lexists(root / name) for name in (INDEX, "blobs")):
            return Repair(not dry_run)
        modes = _mend_shapes(root, quarantine, dry_run=dry_run)
        corrupt = [entry for entry in blobs.entries() if damage(blobs, entry) is not None]
        for entry in corrupt:
            with _turn(root, take=not dry_run):
                if damage(blobs, entry) is not None:  # still: the same audio may have been stored again
                    quarantine.move(entry.path)
        fold = Fold(salvage=True)
        with journal.reading() as snapshot:
            is_flawed = _count(fold.read(snapshot)) > 0
            # What was removed has a line that says so, until the rewriting: it isn't to come back without its name.
            known = _digests(fold.artifacts(snapshot, dead=True)) if adopt else set()
        if is_flawed and not dry_run:
            fold, is_flawed = _mend_index(root, journal, quarantine)
        adopted = 0
        if adopt:
            found = _unknown(blobs, known)
            adopted = _count(found) if dry_run else _adopt(root, journal, found)
        lost = {entry.digest for entry in corrupt if entry.digest} if dry_run else set()
        absent = _missing(journal, blobs, lost)
    return Repair(
        not dry_run,
        bad_lines=fold.bad,
        repeated_ids=len(fold.superseded),
        salvaged=fold.salvaged,
        index_rewritten=is_flawed,
        quarantined=quarantine.moved,
        modes=modes,
        adopted=adopted,
        missing=absent,
    )


class _Quarantine:
    """The directory `quarantine`, where each thing gets a name that nothing has."""

    def __init__(self, root: Path, *, dry_run: bool) -> None:
        self._root = root
        self._folder = root / QUARANTINE
        self._dry_run = dry_run
        self.moved = 0

    def move(self, path: Path) -> None:
        """Take a file out of the store, or whatever is in the place of one."""
        self.moved += 1
        if not self._dry_run:
            atomic.replace(path, self._unused(path.stem, path.suffix))
            atomic.sync_directory(self._folder)
            atomic.sync_directory(path.parent, follow=path.parent == self._root)

    def write(self, lines: Iterator[bytes]) -> None:
        """Keep lines in a file, if there are any."""
        if (first := next(lines, None)) is None:
            return
        with atomic.new_file(self._unused("index", ".jsonl")) as file:
            file.writelines(chain([first], lines))
        atomic.sync_directory(self._folder)

    def _unused(self, stem: str, suffix: str) -> Path:
        files.make_directory(self._folder)
        return self._folder / f"{stem}-{os.urandom(8).hex()}{suffix}"


def _turn(root: Path, *, take: bool) -> AbstractContextManager[None]:
    # What changes nothing takes no lock, so that it works on read-only media.
    return locked(root) if take else nullcontext()


def _has_index(root: Path) -> bool:
    try:
        return (root / INDEX).lstat().st_size > 0
    except FileNotFoundError:
        return False


def _refuse(problems: Iterator[Problem]) -> None:
    if (first := next(problems, None)) is not None:
        raise DamagedError(f"the index is damaged, nothing was changed: {first.message}", hint=_REPAIR)


def _size(lines: Iterator[bytes]) -> tuple[int, int]:
    how_many = size = 0
    for line in lines:
        how_many, size = how_many + 1, size + len(line)
    return how_many, size


def _count(things: Iterator[object]) -> int:
    return sum(1 for _ in things)


def _digests(records: Iterator[Record]) -> set[bytes]:
    return {bytes.fromhex(record["content_hash"]) for record in records}  # half the memory of text


def _live(journal: Journal, blobs: Blobs) -> set[bytes]:
    fold = Fold()
    with journal.reading() as snapshot:
        if not snapshot.size and any(entry.digest for entry in blobs.entries()):
            raise DamagedError("there is audio, but no index: nothing was changed", hint=_ADOPT)
        _refuse(fold.read(snapshot))
        return _digests(fold.artifacts(snapshot))


def _leftovers(root: Path, blobs: Blobs, live: set[bytes]) -> Iterator[tuple[Path, bool, os.stat_result]]:
    """Yield the files that nobody needs, were they old enough, and whether each is a temporary."""
    for name in files.names(root):
        if name.startswith(TEMPORARY):
            with suppress(FileNotFoundError):
                yield root / name, True, (root / name).lstat()
    for entry in blobs.entries():
        if entry.is_file and (entry.digest is None or bytes.fromhex(entry.digest.hex) not in live):
            yield entry.path, entry.digest is None, entry.status


def _mend_shapes(root: Path, quarantine: _Quarantine, *, dry_run: bool) -> int:
    """Move what is no file or directory but should be, and set modes; return how many modes were wrong."""
    wrong = 0
    for path, is_directory, mode in layout(root):
        try:
            status = path.stat() if path == root else path.lstat()
        except FileNotFoundError:
            continue
        if not (stat.S_ISDIR if is_directory else stat.S_ISREG)(status.st_mode):
            if path.parent == root and path.name != OLD:  # the user's to decide: it may lead to another disk
                code = errno.ELOOP if stat.S_ISLNK(status.st_mode) else errno.ENOTDIR if is_directory else errno.EISDIR
                raise OSError(code, os.strerror(code), str(path))
            with _turn(root, take=not dry_run):
                quarantine.move(path)
        elif hasattr(os, "geteuid") and stat.S_IMODE(status.st_mode) & 0o777 != mode:
            with suppress(PermissionError):  # somebody else's file
                if not dry_run:  # from the top down, so nobody else can put a link here meanwhile
                    path.chmod(mode)
                wrong += 1
    return wrong


def _mend_index(root: Path, journal: Journal, quarantine: _Quarantine) -> tuple[Fold, bool]:
    """Rewrite the index from what is good in it, unless it is right now that nobody writes."""
    with locked(root):
        fold = Fold(salvage=True)
        with journal.reading() as snapshot:
            is_flawed = _count(fold.read(snapshot)) > 0
            if is_flawed:
                quarantine.write(fold.rejected(snapshot))
        if is_flawed:
            journal.rewrite(fold.kept, keep_old=True)
    return fold, is_flawed


def _unknown(blobs: Blobs, known: set[bytes]) -> Iterator[tuple[Digest, int, WavInfo]]:
    for entry in blobs.entries():
        if entry.digest is not None and entry.is_file and bytes.fromhex(entry.digest.hex) not in known:
            with suppress(DamagedError, InvalidWavError):
                wav = blobs.read(entry.digest)
                yield entry.digest, len(wav), inspect(wav)


def _adopt(root: Path, journal: Journal, found: Iterator[tuple[Digest, int, WavInfo]]) -> int:
    blobs = Blobs(root)
    draft = ArtifactDraft(tags=(RECOVERED,), prompt="", params={}, creator=CREATOR, origin={"kind": "import"})
    adopted = 0
    while batch := list(islice(found, _AT_ONCE)):
        files.make_directory(root)
        blobs.make()
        for digest, _, _ in batch:
            blobs.sync(digest)
        now = timestamp(datetime.now(UTC))
        with journal.appending() as index:
            ids, hashes = _mentioned(index.snapshot, {digest for digest, _, _ in batch})
            lines = []
            for digest, size, info in batch:
                if digest.hex in hashes or not blobs.holds(digest):
                    continue  # a writer came first, or a clean-up
                name = next(each for number in count(1) if (each := make_id(digest.short, number)) not in ids)
                ids.add(name)
                artifact = from_draft(draft, artifact_id=name, created=now, digest=digest, size=size, info=info)
                lines.append(encode({"op": "put", **artifact.record}))
            index.append(lines)
            adopted += len(lines)
    return adopted


def _mentioned(snapshot: Snapshot, digests: set[Digest]) -> tuple[set[str], set[str]]:
    """Return the ids that are used, and the hashes that are named, of those that these audios could have."""
    hashes = {digest.hex for digest in digests}
    starts = {digest.short for digest in digests}
    used: set[str] = set()
    named: set[str] = set()
    for block in snapshot.forward(0, snapshot.size):
        for found in _MENTION.finditer(block):
            if found[1] and found[2].decode() in starts:
                used.add(found[1].decode())
            elif found[3] and found[3].decode() in hashes:
                named.add(found[3].decode())
    return used, named


def _missing(journal: Journal, blobs: Blobs, lost: set[Digest]) -> int:
    """Count the artifacts without audio, that of `lost` included."""
    fold = Fold(salvage=True)
    with journal.reading() as snapshot:
        _count(fold.read(snapshot))
        digests = (Digest(record["content_hash"]) for record in fold.artifacts(snapshot))
        return sum(digest in lost or not blobs.holds(digest) for digest in digests)
