"""Maintenance of a store, done only on request: compact the index, delete unused audio, repair damage."""

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

from musicgen_cli import atomic, foreign
from musicgen_cli.audio.wav import WavInfo, inspect
from musicgen_cli.errors import DamagedError, InvalidWavError
from musicgen_cli.limits import CREATOR
from musicgen_cli.store import files
from musicgen_cli.store.artifacts import ArtifactDraft, from_draft
from musicgen_cli.store.blobs import Blobs
from musicgen_cli.store.check import QUARANTINE, blob_flaw, ignore, layout
from musicgen_cli.store.digest import Digest, make_id
from musicgen_cli.store.fold import Fold, Problem
from musicgen_cli.store.journal import INDEX, OLD, TEMPORARY, Journal, Snapshot
from musicgen_cli.store.lines import Record, encode, new_head, timestamp
from musicgen_cli.store.lock import locked

RECOVERED = "recovered"
_MIN_AGE_S = 3600.0  # younger files may belong to a write that is in progress
_REPAIR_HINT = "`musicgen store check` lists all problems, `musicgen store repair` repairs them"
_ADOPT_HINT = "`musicgen store repair --adopt` makes takes from it"
_ID_OR_HASH = re.compile(rb'"(?:id":"(artifact_([0-9a-f]{12})(?:-[1-9][0-9]{0,8})?)|content_hash":"([0-9a-f]{64}))"')
_BATCH = 1000  # artifacts that are adopted with one append


@dataclass(frozen=True, slots=True)
class Compaction:
    """The result of a compaction."""

    done: bool  # False: nothing was changed
    lines: int = 0  # before
    kept_lines: int = 0
    index_bytes: int = 0  # before
    kept_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Garbage:
    """The result of a garbage collection."""

    done: bool  # False: nothing was changed
    blobs: int = 0
    blob_bytes: int = 0
    temporaries: int = 0
    temporary_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Repair:
    """The result of a repair."""

    done: bool  # False: nothing was changed
    bad_lines: int = 0  # bad lines, including a torn last one; copied to `quarantine`
    repeated_ids: int = 0  # lines whose id is put again in a later line, which counts; copied to `quarantine`
    salvaged: int = 0  # good lines that were found inside bad ones and stay in the index
    index_rewritten: bool = False
    quarantined: int = 0  # files moved to `quarantine`: damaged audio, and files of a wrong type
    modes: int = 0  # files and directories whose mode was corrected
    adopted: int = 0  # blobs without an artifact that got one
    missing: int = 0  # artifacts without audio: only storing the same audio again repairs them


def compact(root: Path, *, forget: bool = False, dry_run: bool = False) -> Compaction:
    """
    Rewrite the index without removed artifacts and with the edits of tags applied.

    Args:
        root: The store's directory.
        forget: Leave no `index.jsonl.old`, so that the prompts of removed artifacts are gone.
        dry_run: Change nothing; only compute the result.

    Raises:
        DamagedError: The index has a problem, which rewriting it would hide.
    """
    journal = Journal(root, ignore)
    with files.explained("read" if dry_run else "write to", root):
        if not _has_index(root):
            return Compaction(not dry_run)
        with _locked_if(not dry_run, root):
            fold = Fold()
            with journal.reading() as snapshot:
                _refuse_problems(fold.read(snapshot))
                old_size = snapshot.size
                lines, size = _count_and_size(chain([new_head()], fold.live_lines(snapshot))) if dry_run else (0, 0)
            if not dry_run:
                lines, size = journal.rewrite(fold.live_lines, keep_old=not forget)
    return Compaction(not dry_run, fold.lines, lines, old_size, size)


def gc(root: Path, *, yes: bool = False) -> Garbage:
    """
    Delete blobs that no live artifact uses, and files of interrupted writes, if they are older than an hour.

    A writer that has stored its blob but not yet its line checks under the lock whether the blob is still there, and
    writes it again if it is not.

    Args:
        root: The store's directory.
        yes: Delete; otherwise only count.

    Raises:
        DamagedError: The index has a problem, so that it may not show all live artifacts.
    """
    blobs = Blobs(root)
    count_by_kind = [0, 0]  # blobs, temporaries
    bytes_by_kind = [0, 0]
    with files.explained("write to" if yes else "read", root):
        foreign.refuse_link(root / "blobs")
        if os.path.lexists(root):
            with _locked_if(yes, root):
                live = _live_hashes(Journal(root, ignore), blobs)
                cutoff = time.time() - _MIN_AGE_S
                for path, is_temporary, status in _unused_files(root, blobs, live):
                    if status.st_mtime < cutoff:
                        count_by_kind[is_temporary] += 1
                        bytes_by_kind[is_temporary] += status.st_size
                        if yes:
                            atomic.remove(path)
    return Garbage(yes, count_by_kind[0], bytes_by_kind[0], count_by_kind[1], bytes_by_kind[1])


def repair(root: Path, *, adopt: bool = False, dry_run: bool = False) -> Repair:
    """
    Repair what can be repaired. Damaged lines and files are moved to `quarantine`; nothing is deleted.

    Args:
        root: The store's directory.
        adopt: Make artifacts, tagged `recovered`, from blobs that the index does not mention, not even as removed.
        dry_run: Change nothing; only compute the result.
    """
    blobs = Blobs(root)
    journal = Journal(root, ignore)
    quarantine = _Quarantine(root, dry_run=dry_run)
    with files.explained("read" if dry_run else "write to", root):
        if not any(os.path.lexists(root / name) for name in (INDEX, "blobs")):
            return Repair(not dry_run)
        modes = _repair_layout(root, quarantine, dry_run=dry_run)
        damaged = [entry for entry in blobs.entries() if blob_flaw(blobs, entry) is not None]
        for entry in damaged:
            with _locked_if(not dry_run, root):
                if blob_flaw(blobs, entry) is not None:  # the same audio may have been stored again meanwhile
                    quarantine.move(entry.path)
        fold = Fold(salvage=True)
        with journal.reading() as snapshot:
            has_problems = _count(fold.read(snapshot)) > 0
            # Includes removed artifacts, whose lines are there until the index is rewritten: they must not come back.
            mentioned = _hashes(fold.put_records(snapshot, removed=True)) if adopt else set()
        if has_problems and not dry_run:
            fold, has_problems = _repair_index(root, journal, quarantine)
        adopted = 0
        if adopt:
            unmentioned = _unmentioned(blobs, mentioned)
            adopted = _count(unmentioned) if dry_run else _adopt(root, journal, unmentioned)
        quarantined = {entry.digest for entry in damaged if entry.digest} if dry_run else set()
        missing = _count_missing(journal, blobs, quarantined)
    return Repair(
        not dry_run,
        bad_lines=fold.bad,
        repeated_ids=len(fold.superseded),
        salvaged=fold.salvaged,
        index_rewritten=has_problems,
        quarantined=quarantine.moved,
        modes=modes,
        adopted=adopted,
        missing=missing,
    )


class _Quarantine:
    """The directory `quarantine`; each file in it gets a new name."""

    def __init__(self, root: Path, *, dry_run: bool) -> None:
        self._root = root
        self._folder = root / QUARANTINE
        self._dry_run = dry_run
        self.moved = 0

    def move(self, path: Path) -> None:
        """Move a path, of whatever type, out of the store."""
        self.moved += 1
        if not self._dry_run:
            atomic.replace(path, self._unused(path.stem, path.suffix))
            atomic.sync_directory(self._folder)
            atomic.sync_directory(path.parent, follow=path.parent == self._root)

    def write(self, lines: Iterator[bytes]) -> None:
        """Write lines, if there are any, to a new file."""
        if (first := next(lines, None)) is None:
            return
        with atomic.new_file(self._unused("index", ".jsonl")) as file:
            file.writelines(chain([first], lines))
        atomic.sync_directory(self._folder)

    def _unused(self, stem: str, suffix: str) -> Path:
        files.make_directory(self._folder)
        return self._folder / f"{stem}-{os.urandom(8).hex()}{suffix}"


def _locked_if(changes: bool, root: Path) -> AbstractContextManager[None]:
    # A dry run takes no lock, so that it works on read-only media.
    return locked(root) if changes else nullcontext()


def _has_index(root: Path) -> bool:
    try:
        return (root / INDEX).lstat().st_size > 0
    except FileNotFoundError:
        return False


def _refuse_problems(problems: Iterator[Problem]) -> None:
    if (first := next(problems, None)) is not None:
        raise DamagedError(f"the index is damaged, nothing was changed: {first.message}", hint=_REPAIR_HINT)


def _count_and_size(lines: Iterator[bytes]) -> tuple[int, int]:
    total = size = 0
    for line in lines:
        total, size = total + 1, size + len(line)
    return total, size


def _count(items: Iterator[object]) -> int:
    return sum(1 for _ in items)


def _hashes(records: Iterator[Record]) -> set[bytes]:
    return {bytes.fromhex(record["content_hash"]) for record in records}  # half the memory of hex digits


def _live_hashes(journal: Journal, blobs: Blobs) -> set[bytes]:
    fold = Fold()
    with journal.reading() as snapshot:
        if not snapshot.size and any(entry.digest for entry in blobs.entries()):
            raise DamagedError("there is audio, but no index: nothing was changed", hint=_ADOPT_HINT)
        _refuse_problems(fold.read(snapshot))
        return _hashes(fold.put_records(snapshot))


def _unused_files(root: Path, blobs: Blobs, live: set[bytes]) -> Iterator[tuple[Path, bool, os.stat_result]]:
    """Yield the files that can be deleted if they are old enough: path, whether it is a temporary, status."""
    for name in files.names(root):
        if name.startswith(TEMPORARY):
            with suppress(FileNotFoundError):
                yield root / name, True, (root / name).lstat()
    for entry in blobs.entries():
        if entry.is_file and (entry.digest is None or bytes.fromhex(entry.digest.hex) not in live):
            yield entry.path, entry.digest is None, entry.status


def _repair_layout(root: Path, quarantine: _Quarantine, *, dry_run: bool) -> int:
    """Move paths of a wrong type to `quarantine`, and set modes; return how many modes were wrong."""
    wrong = 0
    has_modes = True if dry_run else None  # it is tried with a file if one is wrong
    for path, is_directory, mode in layout(root):
        try:
            status = path.stat() if path == root else path.lstat()
        except FileNotFoundError:
            continue
        if not (stat.S_ISDIR if is_directory else stat.S_ISREG)(status.st_mode):
            if path.parent == root and path.name != OLD:  # left to the user: a link may lead to another disk
                code = errno.ELOOP if stat.S_ISLNK(status.st_mode) else errno.ENOTDIR if is_directory else errno.EISDIR
                raise OSError(code, os.strerror(code), str(path))
            with _locked_if(not dry_run, root):
                quarantine.move(path)
        elif hasattr(os, "geteuid") and stat.S_IMODE(status.st_mode) & 0o777 != mode:
            if has_modes is None:
                has_modes = files.keeps_modes(root)
            if not has_modes:
                continue
            with suppress(PermissionError):  # another user's file
                if not dry_run:  # parents come first, so that no other user can put a link here meanwhile
                    path.chmod(mode)
                wrong += 1
    return wrong


def _repair_index(root: Path, journal: Journal, quarantine: _Quarantine) -> tuple[Fold, bool]:
    """Rewrite the index from its good lines, if it still has problems when no process is writing."""
    with locked(root):
        fold = Fold(salvage=True)
        with journal.reading() as snapshot:
            has_problems = _count(fold.read(snapshot)) > 0
            if has_problems:
                quarantine.write(fold.rejected_lines(snapshot))
        if has_problems:
            journal.rewrite(fold.live_lines, keep_old=True)
    return fold, has_problems


def _unmentioned(blobs: Blobs, mentioned: set[bytes]) -> Iterator[tuple[Digest, int, WavInfo]]:
    """Yield the valid WAVs among the blobs whose hash is not `mentioned`: digest, size in bytes, info."""
    for entry in blobs.entries():
        if entry.digest is not None and entry.is_file and bytes.fromhex(entry.digest.hex) not in mentioned:
            with suppress(DamagedError, InvalidWavError):
                wav = blobs.read(entry.digest)
                yield entry.digest, len(wav), inspect(wav)


def _adopt(root: Path, journal: Journal, wavs: Iterator[tuple[Digest, int, WavInfo]]) -> int:
    """Store artifacts for blobs that have none; return how many."""
    blobs = Blobs(root)
    draft = ArtifactDraft(tags=(RECOVERED,), prompt="", params={}, creator=CREATOR, origin={"kind": "import"})
    adopted = 0
    while batch := list(islice(wavs, _BATCH)):
        files.make_directory(root)
        blobs.make()
        for digest, _, _ in batch:
            blobs.sync(digest)
        now = timestamp(datetime.now(UTC))
        with journal.appending() as index:
            used_ids, hashes = _used_ids_and_hashes(index.snapshot, {digest for digest, _, _ in batch})
            lines = []
            for digest, size, info in batch:
                if digest.hex in hashes or not blobs.holds(digest):
                    continue  # meanwhile another process stored an artifact for it, or deleted it
                id_ = next(id_ for number in count(1) if (id_ := make_id(digest.short, number)) not in used_ids)
                used_ids.add(id_)
                artifact = from_draft(draft, artifact_id=id_, created=now, digest=digest, size=size, info=info)
                lines.append(encode({"op": "put", **artifact.record}))
            index.append(lines)
            adopted += len(lines)
    return adopted


def _used_ids_and_hashes(snapshot: Snapshot, digests: set[Digest]) -> tuple[set[str], set[str]]:
    """Return the ids with the digits of these digests, and the hashes among them, that occur anywhere in the index."""
    hashes = {digest.hex for digest in digests}
    shorts = {digest.short for digest in digests}
    used_ids: set[str] = set()
    used_hashes: set[str] = set()
    for block in snapshot.forward(0, snapshot.size):
        for match in _ID_OR_HASH.finditer(block):
            if match[1] and match[2].decode() in shorts:
                used_ids.add(match[1].decode())
            elif match[3] and match[3].decode() in hashes:
                used_hashes.add(match[3].decode())
    return used_ids, used_hashes


def _count_missing(journal: Journal, blobs: Blobs, quarantined: set[Digest]) -> int:
    """Count the live artifacts whose audio is missing or among `quarantined`."""
    fold = Fold(salvage=True)
    with journal.reading() as snapshot:
        _count(fold.read(snapshot))
        digests = (Digest(record["content_hash"]) for record in fold.put_records(snapshot))
        return sum(digest in quarantined or not blobs.holds(digest) for digest in digests)
