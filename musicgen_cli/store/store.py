"""A directory of takes: put one in, get it back by id, list the newest."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from musicgen_cli.audio.wav import inspect
from musicgen_cli.errors import (
    AmbiguousIdError,
    ArtifactNotFoundError,
    DamagedError,
    InvalidValueError,
    NotFoundError,
    StoreError,
)
from musicgen_cli.limits import TAGS_EACH
from musicgen_cli.store import files
from musicgen_cli.store.artifacts import Artifact, ArtifactDraft, check_tag, from_draft, from_record, retagged
from musicgen_cli.store.blobs import Blobs
from musicgen_cli.store.digest import LONGEST_NUMBER, Digest, make_id, parse_id
from musicgen_cli.store.ids import IdCache, UsedIds
from musicgen_cli.store.index import ArtifactSearch, Filter, by_id, last_deleted, newest
from musicgen_cli.store.journal import Journal
from musicgen_cli.store.lines import Record, encode, timestamp
from musicgen_cli.store.lock import locked
from musicgen_cli.text import size

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
        self._id_cache = IdCache()

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
            why = f"{size(free)} are free, {size(size_bytes)} are needed"
        if why:
            raise StoreError(f"can't write to {str(place)!r}: {why}", hint=files.OTHER_STORE)

    @contextmanager
    def exclusive_lock(self, task: str) -> Iterator[None]:
        """
        Keep other processes from doing the same task in this store, until this is left or the process dies.

        Args:
            task: A word that may be part of a file's name.

        Raises:
            StoreBusyError: Another one is at it; nothing is waited for.
        """
        with ExitStack() as lock:
            with files.explained("write to", self.root):
                files.make_directory(self.root)
                lock.enter_context(locked(self.root, f"{task}.lock", wait_s=0))
            yield

    def put(self, wav: bytes, draft: ArtifactDraft) -> Artifact:
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
        used = UsedIds(digest.short, self._id_cache)
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

    def get_many(self, ids: Sequence[str]) -> list[Artifact]:
        """
        Find the artifacts with some ids, given as `get` takes them; each once.

        Raises:
            ArtifactNotFoundError, AmbiguousIdError: An id answers to none, or to several.
        """
        names, takes = self._look_up(ids)
        return [from_record(takes.live[name]) for name in names]

    def tag(self, ids: Sequence[str], *, add: Sequence[str] = (), rm: Sequence[str] = ()) -> list[Artifact]:
        """
        Take the tags `rm` off artifacts, then give them those of `add` that they lack; an error changes none of them.

        Args:
            ids: In any form that `get` takes.
            add: Tags.
            rm: Anything; what isn't there is no error.

        Returns:
            The artifacts as they are now, each once; they are durable.

        Raises:
            ArtifactNotFoundError, AmbiguousIdError: An id answers to none, or to several.
            InvalidValueError: A tag is not one, or an artifact would have too many.
            StoreBusyError: Another process kept the store locked.
        """
        added = dict.fromkeys(check_tag(tag) for tag in add)
        removed = {unicodedata.normalize("NFC", tag) for tag in rm}

        def change(artifact: Artifact) -> tuple[Artifact, Record | None]:
            tags = retagged(artifact.tags, added, removed)
            if tags == [*artifact.tags]:
                return artifact, None
            if len(tags) > TAGS_EACH:
                raise InvalidValueError(f"{artifact.id} would have {len(tags)} tags, at most {TAGS_EACH} can be stored")
            after = replace(artifact, tags=tuple(tags))
            _line(after)  # may be too long, and a rewriting of the index will want it
            taken = [tag for tag in artifact.tags if tag in removed]
            given = [tag for tag in added if tag in removed or tag not in artifact.tags]
            return after, {"add": given, "rm": taken}

        return self._edit(ids, "tag", change)

    def remove(self, ids: Sequence[str]) -> list[Artifact]:
        """
        Take artifacts off the list; an error takes none. `restore` brings them back while their audio is there.

        Args:
            ids: In any form that `get` takes.

        Returns:
            The artifacts as they were, each once.

        Raises:
            ArtifactNotFoundError, AmbiguousIdError: An id answers to none, or to several.
            StoreBusyError: Another process kept the store locked.
        """
        return self._edit(ids, "del", lambda artifact: (artifact, {}))

    def restore(self, wanted: str) -> Artifact:
        """
        Bring a removed artifact back, with its id and its tags, as the newest.

        Args:
            wanted: In any form that `get` takes; `last` is the one that was removed last.

        Raises:
            NotFoundError: No removed artifact that the index still knows answers to it.
            AmbiguousIdError: Several do.
            DamagedError: Its audio is missing or not what was stored.
            StoreBusyError: Another process kept the store locked.
        """
        with files.explained("read", self.root), self._journal.reading() as snapshot:
            named = last_deleted(snapshot) if wanted == LAST else wanted
            start, whole = parse_id(named or "") or ("", True)
            takes = ArtifactSearch([start], to_edit=True) if whole else ArtifactSearch(start=start, to_edit=True)
            takes.search(snapshot)
        if len(takes.gone) > 1:
            raise AmbiguousIdError(wanted, [*takes.gone])
        name = next(iter(takes.gone), None)
        if name is None:
            raise _not_removed(wanted, takes)
        self.read_blob(from_record(takes.gone[name]))
        with files.explained("write to", self.root), self._journal.appending() as index:
            takes.search(index.snapshot)
            if name not in takes.gone:
                raise _not_removed(wanted, takes)
            artifact = from_record(takes.gone[name])
            if not self._blobs.holds(artifact.digest):
                raise DamagedError(f"a clean-up took the audio just now: {str(self.blob_path(artifact))!r}")
            index.append([_line(artifact)])
        return artifact

    def newest(self, limit: int | None, where: Filter = _ALL) -> Iterator[Artifact]:
        """Yield at most `limit` artifacts that pass, the last one stored first."""
        with files.explained("read", self.root), self._journal.reading() as snapshot:
            yield from map(from_record, islice(newest(snapshot, where), limit))

    def newest_ids(self, limit: int | None, where: Filter = _ALL) -> Iterator[str]:
        """Yield the ids of what `newest` yields, without the time that it takes to make an artifact of each."""
        with files.explained("read", self.root), self._journal.reading() as snapshot:
            yield from (record["id"] for record in islice(newest(snapshot, where), limit))

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

    def _look_up(self, ids: Sequence[str]) -> tuple[dict[str, str], ArtifactSearch]:
        """Return the whole ids, each with how it was called, and what the index says of them."""
        names: dict[str, str] = {}
        for wanted in ids:
            start, whole = parse_id(wanted) or ("", False)
            names.setdefault(start if whole else self.get(wanted).id, wanted)
        takes = ArtifactSearch(names, to_edit=True)
        if names:
            with files.explained("read", self.root), self._journal.reading() as snapshot:
                takes.search(snapshot)
        _check_live(takes, names)
        return names, takes

    def _edit(
        self, ids: Sequence[str], op: str, change: Callable[[Artifact], tuple[Artifact, Record | None]]
    ) -> list[Artifact]:
        """
        Append the lines of one edit.

        Args:
            ids: In any form that `get` takes.
            op: Of each line.
            change: Tells what becomes of an artifact, and what more its line says; None if it needs no line.
        """
        names, takes = self._look_up(ids)
        if not names:
            return []
        changed = []
        with files.explained("write to", self.root), self._journal.appending() as index:
            takes.search(index.snapshot)
            _check_live(takes, names)
            lines = []
            now = timestamp(datetime.now(UTC))
            for name in names:
                artifact, says = change(from_record(takes.live[name]))
                changed.append(artifact)
                if says is not None:
                    lines.append(encode({"op": op, "id": name, "at": takes.at[name], "t": now, **says}))
            index.append(lines)
        return changed

    def _by_id(self, wanted: str) -> list[Artifact]:
        if (start := parse_id(wanted)) is None:
            return []
        with files.explained("read", self.root), self._journal.reading() as snapshot:
            return [from_record(record) for record in by_id(snapshot, start[0], whole=start[1])]

    def _warn_once(self, kind: str, line: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            self._warn(line)


def _check_live(takes: ArtifactSearch, names: Mapping[str, str]) -> None:
    for name, wanted in names.items():
        if name not in takes.live:
            raise ArtifactNotFoundError(wanted)


def _not_removed(wanted: str, takes: ArtifactSearch) -> NotFoundError:
    if takes.live:
        return NotFoundError(f"{', '.join(takes.live)} is not removed", hint="`musicgen list` shows it")
    return NotFoundError(
        f"no removed take matches {wanted!r}",
        hint="only what `musicgen rm` removed can come back, until `musicgen store compact`",
    )


def _line(artifact: Artifact) -> bytes:
    return encode({"op": "put", **artifact.record})
