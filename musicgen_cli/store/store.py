"""The store: put takes in, find them by id, list, tag, remove and restore them."""

from __future__ import annotations

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
from musicgen_cli.limits import MAX_TAGS
from musicgen_cli.store import files
from musicgen_cli.store.artifacts import Artifact, ArtifactDraft, from_draft, from_record
from musicgen_cli.store.blobs import Blobs
from musicgen_cli.store.digest import LARGEST_NUMBER, Digest, make_id, parse_id
from musicgen_cli.store.ids import IdCache, UsedIds
from musicgen_cli.store.index import ArtifactSearch, Filter, by_id, newest, removed
from musicgen_cli.store.journal import Journal
from musicgen_cli.store.lines import Record, encode, timestamp
from musicgen_cli.store.lock import locked, probe
from musicgen_cli.store.tags import check_tag, edit_tags
from musicgen_cli.text import size

LAST = "last"
_PUT_ATTEMPTS = 3
_ALL = Filter()


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts and sizes of what is in a store."""

    artifacts: int  # live ones
    lines: int  # complete ones
    bad_lines: int
    index_bytes: int
    blobs: int
    blob_bytes: int
    audio_seconds: float  # of the live artifacts
    temporaries: int  # files of writes that are in progress or were interrupted


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")


class Store:
    """
    A store in the directory `root`, which the first `put` creates.

    Every method raises `StoreError` if the directory can't be read or written, and `NewerStoreError` if only a newer
    version understands it. Reading takes no lock and writes nothing.

    Where a method takes an id as `ref` or in `ids`, it may be a complete id, an id without `artifact_`, the first 4 or
    more digits of an id if no other one starts with them, or `last`. Where it takes several texts, one will do.

    Args:
        root: The store's directory.
        warn: Called with one line, once per kind, for problems that don't make an operation fail.
    """

    def __init__(self, root: str | Path, *, warn: Callable[[str], None] = _to_stderr) -> None:
        self.root = root = Path(root)
        self._warn = warn
        self._warned: set[str] = set()
        self._blobs = Blobs(root)
        self._journal = Journal(root, self._warn_once)
        self._id_cache = IdCache()
        self._probed: Path | None = None

    def check_free_space(self, size_bytes: int) -> None:
        """
        Check that this much audio could be stored, before hours are spent on making it; nothing of the check is left.

        Raises:
            StoreError: The directory can't be written, its file system lacks something, or the disk has too little free
                space.
        """
        with files.explained("write to", self.root):
            place = files.nearest_directory(self.root)
        if (free := shutil.disk_usage(place).free) < size_bytes:
            raise StoreError(
                f"can't write to {str(place)!r}: {size(free)} are free, {size(size_bytes)} are needed",
                hint=files.OTHER_STORE,
            )
        if place != self._probed:
            try:
                probe(place)
            except OSError as err:
                err.filename = str(place)  # instead of a name that means nothing to the user
                with files.explained("write to", place):
                    raise
            self._probed = place

    @contextmanager
    def exclusive_lock(self, task: str) -> Iterator[None]:
        """
        Let only one process at a time do a task in this store, until the block ends or the process dies.

        Args:
            task: A word that can be part of a file name.

        Raises:
            StoreBusyError: Another process is doing the task; this doesn't wait for it.
        """
        with ExitStack() as stack:
            with files.explained("write to", self.root):
                files.make_directory(self.root)
                stack.enter_context(locked(self.root, f"{task}.lock", wait_s=0))
            yield

    def put(self, wav: bytes, draft: ArtifactDraft) -> Artifact:
        """
        Store a take. Once this has returned, the take survives a crash and a power failure.

        Raises:
            InvalidWavError: `wav` is not a WAV that `inspect` accepts.
            InvalidValueError: A value in the draft can't be stored.
            StoreBusyError: Another process kept the store locked.
        """
        info = inspect(wav)
        digest = Digest.of(wav)
        artifact = from_draft(
            draft,
            artifact_id=make_id(digest.short, LARGEST_NUMBER),  # the longest id: none can make the line too long later
            created=timestamp(datetime.now(UTC)),
            digest=digest,
            size=len(wav),
            info=info,
        )
        _put_line(artifact)  # checks all members before anything is written
        used = UsedIds(digest.short, self._id_cache)
        with files.explained("write to", self.root):
            with self._journal.reading() as snapshot:
                used.update(snapshot)
            if not snapshot.size:
                files.make_directory(self.root)
                self._blobs.make()
            for _ in range(_PUT_ATTEMPTS):
                self._blobs.put(digest, wav)
                with self._journal.appending() as index:
                    if not self._blobs.holds(digest):
                        continue  # it was an unused blob that a garbage collection has just deleted
                    used.update(index.snapshot)
                    artifact = replace(artifact, id=used.unused())
                    index.append([_put_line(artifact)])
                    return artifact
        raise StoreError(f"the audio was removed {_PUT_ATTEMPTS} times while it was stored: {str(self.root)!r}")

    def get(self, ref: str) -> Artifact:
        """
        Return the artifact with an id.

        Raises:
            ArtifactNotFoundError: No artifact matches.
            AmbiguousIdError: More than one artifact matches.
        """
        matches = list(self.newest(1)) if ref == LAST else self._by_id(ref)
        if not matches:
            raise ArtifactNotFoundError(ref)
        if len(matches) > 1:
            raise AmbiguousIdError(ref, [artifact.id for artifact in matches])
        return matches[0]

    def with_sound(self, digest: Digest) -> list[Artifact]:
        """Return the artifacts that have this audio, the first one stored first."""
        with files.explained("read", self.root), self._journal.reading() as snapshot:
            records = by_id(snapshot, make_id(digest.short, 1), complete=False)
            return [from_record(record) for record in records if record["content_hash"] == digest.hex]

    def get_many(self, ids: str | Sequence[str]) -> list[Artifact]:
        """
        Return the artifacts with the given ids, in their order, without repeats.

        Raises:
            ArtifactNotFoundError, AmbiguousIdError: An id matches no artifact, or several.
        """
        refs, search = self._look_up(ids)
        return [from_record(search.live[id_]) for id_ in refs]

    def tag(
        self, ids: str | Sequence[str], *, add: str | Sequence[str] = (), rm: str | Sequence[str] = ()
    ) -> list[Artifact]:
        """
        Remove tags from artifacts, then add tags; after an error, none of them has changed.

        Args:
            ids: The artifacts.
            add: The tags to add.
            rm: The tags to remove; those that an artifact doesn't have are ignored.

        Returns:
            The artifacts with their new tags, without repeats; the change is durable.

        Raises:
            ArtifactNotFoundError, AmbiguousIdError: An id matches no artifact, or several.
            InvalidValueError: A tag to add is invalid, or an artifact would have too many.
            StoreBusyError: Another process kept the store locked.
        """
        added = dict.fromkeys(check_tag(tag) for tag in _several(add))
        removed = {unicodedata.normalize("NFC", tag) for tag in _several(rm)}

        def change(artifact: Artifact) -> tuple[Artifact, Record | None]:
            tags = edit_tags(artifact.tags, added, removed)
            if tags == [*artifact.tags]:
                return artifact, None
            if len(tags) > MAX_TAGS:
                raise InvalidValueError(f"{artifact.id} would have {len(tags)} tags, at most {MAX_TAGS} can be stored")
            after = replace(artifact, tags=tuple(tags))
            _put_line(after)  # checks its length: a compaction has to write the record with its new tags
            rm_needed = [tag for tag in artifact.tags if tag in removed]
            add_needed = [tag for tag in added if tag in removed or tag not in artifact.tags]
            return after, {"add": add_needed, "rm": rm_needed}

        return self._edit(ids, "tag", change)

    def remove(self, ids: str | Sequence[str]) -> list[Artifact]:
        """
        Remove artifacts; after an error, none is removed. `restore` can undo this while the audio is still stored.

        Returns:
            The artifacts as they were, without repeats.

        Raises:
            ArtifactNotFoundError, AmbiguousIdError: An id matches no artifact, or several.
            StoreBusyError: Another process kept the store locked.
        """
        return self._edit(ids, "del", lambda artifact: (artifact, {}))

    def restore(self, ref: str) -> Artifact:
        """
        Restore a removed artifact, with its id and its tags; it becomes the newest one.

        Args:
            ref: The artifact; `last` is the one that was removed last.

        Raises:
            NotFoundError: No removed artifact that is still in the index matches.
            AmbiguousIdError: More than one removed artifact matches.
            DamagedError: Its audio is missing or damaged.
            StoreBusyError: Another process kept the store locked.
        """
        with files.explained("read", self.root), self._journal.reading() as snapshot:
            resolved = next((record["id"] for record in removed(snapshot)), None) if ref == LAST else ref
            prefix, complete = parse_id(resolved or "") or ("", True)
            search = ArtifactSearch.matching(prefix, complete=complete, to_edit=True)
            search.update(snapshot)
        if len(search.removed) > 1:
            raise AmbiguousIdError(ref, [*search.removed])
        id_ = next(iter(search.removed), None)
        if id_ is None:
            raise _not_removed(ref, search)
        self.read_blob(from_record(search.removed[id_]))
        with files.explained("write to", self.root), self._journal.appending() as index:
            search.update(index.snapshot)
            if id_ not in search.removed:
                raise _not_removed(ref, search)
            artifact = from_record(search.removed[id_])
            if not self._blobs.holds(artifact.digest):
                raise DamagedError(f"a garbage collection has just deleted {str(self.blob_path(artifact))!r}")
            index.append([_put_line(artifact)])
        return artifact

    def removed(self) -> list[Artifact]:
        """Return the artifacts that `restore` can find, the one that was removed last first."""
        with files.explained("read", self.root), self._journal.reading() as snapshot:
            return [*map(from_record, removed(snapshot))]

    def newest(self, limit: int | None, filter_: Filter = _ALL) -> Iterator[Artifact]:
        """Yield at most `limit` artifacts that match a filter, the last one stored first."""
        with files.explained("read", self.root), self._journal.reading() as snapshot:
            yield from map(from_record, islice(newest(snapshot, filter_), limit))

    def newest_ids(self, limit: int | None, filter_: Filter = _ALL) -> Iterator[str]:
        """Yield the ids of the artifacts that `newest` yields, in less time because no artifacts are made."""
        with files.explained("read", self.root), self._journal.reading() as snapshot:
            yield from (record["id"] for record in islice(newest(snapshot, filter_), limit))

    def next_variation_index(self, variation_set_id: str) -> int:
        """Return one more than the highest index of a variation set's takes, 0 if it has none."""
        takes = self.newest(None, Filter(variation_set_id=variation_set_id))
        return max((take.variation_index + 1 for take in takes if take.variation_index is not None), default=0)

    def blob_path(self, artifact: Artifact) -> Path:
        """Return the path of an artifact's audio."""
        return self._blobs.path(artifact.digest)

    def read_blob(self, artifact: Artifact) -> bytes:
        """
        Return an artifact's audio, after hashing it again.

        Raises:
            DamagedError: The audio is missing or damaged.
        """
        with files.explained("read", self.root):
            return self._blobs.read(artifact.digest, artifact.bytes)

    def stats(self) -> Stats:
        """Count what is in the store; every line is read and checked."""
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

    def _look_up(self, ids: str | Sequence[str]) -> tuple[dict[str, str], ArtifactSearch]:
        """Return a dictionary from the complete ids to the `ids` as they were passed, and a search for them."""
        refs: dict[str, str] = {}
        for ref in _several(ids):
            prefix, complete = parse_id(ref) or ("", False)
            refs.setdefault(prefix if complete else self.get(ref).id, ref)
        search = ArtifactSearch(refs, to_edit=True)
        if refs:
            with files.explained("read", self.root), self._journal.reading() as snapshot:
                search.update(snapshot)
        _check_live(search, refs)
        return refs, search

    def _edit(
        self, ids: str | Sequence[str], op: str, change: Callable[[Artifact], tuple[Artifact, Record | None]]
    ) -> list[Artifact]:
        """
        Append one `tag` or `del` line for each artifact that it changes.

        Args:
            ids: The artifacts.
            op: The op of the lines.
            change: Returns what becomes of an artifact and the further members of its line; None if it needs no line.
        """
        refs, search = self._look_up(ids)
        if not refs:
            return []
        changed = []
        with files.explained("write to", self.root), self._journal.appending() as index:
            search.update(index.snapshot)
            _check_live(search, refs)
            lines = []
            now = timestamp(datetime.now(UTC))
            for id_ in refs:
                artifact, members = change(from_record(search.live[id_]))
                changed.append(artifact)
                if members is not None:
                    lines.append(encode({"op": op, "id": id_, "at": search.offsets[id_], "t": now, **members}))
            index.append(lines)
        return changed

    def _by_id(self, ref: str) -> list[Artifact]:
        if (parsed := parse_id(ref)) is None:
            return []
        prefix, complete = parsed
        with files.explained("read", self.root), self._journal.reading() as snapshot:
            return [from_record(record) for record in by_id(snapshot, prefix, complete=complete)]

    def _warn_once(self, kind: str, line: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            self._warn(line)


def _several(texts: str | Sequence[str]) -> Sequence[str]:
    """Return a list of texts: a text alone is not a list of its letters."""
    return [texts] if isinstance(texts, str) else texts


def _check_live(search: ArtifactSearch, refs: Mapping[str, str]) -> None:
    for id_, ref in refs.items():
        if id_ not in search.live:
            raise ArtifactNotFoundError(ref)


def _not_removed(ref: str, search: ArtifactSearch) -> NotFoundError:
    if search.live:
        return NotFoundError(f"{', '.join(search.live)} is not removed", hint="`musicgen list` shows it")
    return NotFoundError(
        f"no removed take matches {ref!r}",
        hint="a take can be restored after `musicgen rm`, until `musicgen store compact`",
    )


def _put_line(artifact: Artifact) -> bytes:
    return encode({"op": "put", **artifact.record})
