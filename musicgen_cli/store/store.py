"""A directory of takes: put one in, get it back by id, list the newest."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from musicgen_cli.errors import AmbiguousIdError, ArtifactNotFoundError, StoreError
from musicgen_cli.store import files
from musicgen_cli.store.artifacts import Artifact, Draft, from_draft, from_record
from musicgen_cli.store.blobs import Blobs
from musicgen_cli.store.digest import LONGEST_NUMBER, Digest, id_wanted, make_id
from musicgen_cli.store.index import Filter, UsedIds, by_id, newest
from musicgen_cli.store.journal import Journal, encode, timestamp
from musicgen_cli.wav import inspect

LAST = "last"
_TRIES = 3
_ALL = Filter()


@dataclass(frozen=True, slots=True)
class Stats:
    """What a store holds, counted."""

    artifacts: int  # live
    lines: int  # whole ones
    bad_lines: int
    index_bytes: int
    blobs: int
    blob_bytes: int
    audio_seconds: float  # of the live artifacts
    temporaries: int  # files of writes that are under way or were cut off


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")


class Store:
    """
    A store at `root`, which need not be there before the first `put`.

    Args:
        root: Its directory.
        warn: Called with one line when something is wrong that stops nobody; once for each kind of thing.

    Every method raises `StoreError` if the directory can't be used as asked, and `NewerStoreError` if it holds what
    only a later version understands. Reading takes no lock and writes nothing.
    """

    def __init__(self, root: Path, *, warn: Callable[[str], None] = _to_stderr) -> None:
        self.root = root
        self._warn = warn
        self._warned: set[str] = set()
        self._blobs = Blobs(root)
        self._journal = Journal(root, self._warn_once)

    def check_room(self, size_bytes: int) -> None:
        """
        Look whether so much audio could be stored, before hours are spent on making it; nothing is written.

        Raises:
            StoreError: The directory can't be written, or its disk is too full.
        """
        place = self.root
        while not os.path.lexists(place):
            place = place.parent
        why = None
        if not place.is_dir():
            why = "not a directory"
        elif not os.access(place, os.W_OK):
            why = "no permission, or read-only"
        elif (free := shutil.disk_usage(place).free) < size_bytes:
            why = f"{free / 1e6:.1f} MB are free, {size_bytes / 1e6:.1f} MB are needed"
        if why:
            raise StoreError(f"can't write to {str(place)!r}: {why}", hint=files.OTHER_STORE)

    def put(self, wav: bytes, draft: Draft) -> Artifact:
        """
        Store a take; it survives a crash and a power failure once this has returned.

        Raises:
            InvalidWavError: `wav` is not a WAV that can be kept.
            InvalidValueError: The draft can't be stored as it is.
            StoreBusyError: Another process kept the store locked.
        """
        info = inspect(wav)
        digest = Digest.of(wav)
        artifact = from_draft(
            draft,
            artifact_id=make_id(digest.short, LONGEST_NUMBER),  # so that no id can make the line too long later
            created=timestamp(datetime.now(UTC)),
            digest=digest,
            size=len(wav),
            info=info,
        )
        _line(artifact)
        used = UsedIds(digest.short)
        with files.explained("write to", self.root):
            with self._journal.reading() as snapshot:
                used.search(snapshot)
            if not snapshot.size:
                files.make_directory(self.root)
                self._blobs.make()
            for _ in range(_TRIES):
                self._blobs.put(digest, wav)
                with self._journal.appending() as index:
                    if not self._blobs.holds(digest):
                        continue  # the blob was there already, unused, and a clean-up took it just now
                    used.search(index.snapshot)
                    artifact = replace(artifact, id=used.unused())
                    index.append([_line(artifact)])
                    return artifact
        raise StoreError(f"the audio was removed {_TRIES} times while it was stored: {str(self.root)!r}")

    def get(self, wanted: str) -> Artifact:
        """
        Find the artifact with an id: whole, without `artifact_`, a unique start of 4 or more digits, or `last`.

        Raises:
            ArtifactNotFoundError: None answers to it.
            AmbiguousIdError: Several start so.
        """
        found = list(self.newest(1)) if wanted == LAST else self._by_id(wanted)
        if not found:
            raise ArtifactNotFoundError(wanted)
        if len(found) > 1:
            raise AmbiguousIdError(wanted, [artifact.id for artifact in found])
        return found[0]

    def newest(self, limit: int | None, where: Filter = _ALL) -> Iterator[Artifact]:
        """Yield at most `limit` artifacts that pass, the last one stored first."""
        with files.explained("read", self.root), self._journal.reading() as snapshot:
            yield from map(from_record, islice(newest(snapshot, where), limit))

    def next_variation_index(self, variation_set_id: str) -> int:
        """Return one more than the highest index of the set's takes, 0 if it has none."""
        takes = self.newest(None, Filter(variation_set_id=variation_set_id))
        return max((take.variation_index + 1 for take in takes if take.variation_index is not None), default=0)

    def blob_path(self, artifact: Artifact) -> Path:
        """Name the file that holds the audio."""
        return self._blobs.path(artifact.digest)

    def read_blob(self, artifact: Artifact) -> bytes:
        """
        Return the audio, hashed again.

        Raises:
            DamagedError: It is missing or not what was stored.
        """
        with files.explained("read", self.root):
            return self._blobs.read(artifact.digest)

    def stats(self) -> Stats:
        """Count everything; every line is read and checked."""
        with files.explained("read", self.root):
            with self._journal.reading() as snapshot:
                live, seconds = 0, 0.0
                for record in newest(snapshot, _ALL):
                    live, seconds = live + 1, seconds + record["duration"]
                lines = sum(block.count(b"\n") for block in snapshot.forward(0, snapshot.end))
            sizes = list(self._blobs.sizes())
        blobs = [size for size in sizes if size is not None]
        return Stats(
            artifacts=live,
            lines=lines,
            bad_lines=snapshot.bad,
            index_bytes=snapshot.size,
            blobs=len(blobs),
            blob_bytes=sum(blobs),
            audio_seconds=round(seconds, 3),
            temporaries=len(sizes) - len(blobs),
        )

    def _by_id(self, wanted: str) -> list[Artifact]:
        if (start := id_wanted(wanted)) is None:
            return []
        with files.explained("read", self.root), self._journal.reading() as snapshot:
            return [from_record(record) for record in by_id(snapshot, start[0], whole=start[1])]

    def _warn_once(self, kind: str, line: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            self._warn(line)


def _line(artifact: Artifact) -> bytes:
    return encode({"op": "put", **artifact.record})
