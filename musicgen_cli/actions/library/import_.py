"""Sounds made elsewhere → takes: WAV files with what a sidecar says of them, and whole stores without doubles."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any

from musicgen_cli._version import __version__
from musicgen_cli.actions.library.metadata import embedded_record, without_metadata
from musicgen_cli.errors import InvalidValueError, InvalidWavError, MusicgenError, UsageError
from musicgen_cli.limits import TAGS_EACH
from musicgen_cli.store import Artifact, ArtifactDraft, Store, as_draft, check_tag
from musicgen_cli.store.digest import Digest

TAGS = ("type:audio", "format:wav", "phase:import")

_INDEX = "index.jsonl"  # what makes a folder a store
_SIDECAR_BYTES = 1 << 20  # a record has 64 KiB, but may be indented
# A take is known again by these. Not by its id, its parent and its set, which change on the way, nor by its tags, which
# may be changed at any time.
_OF_ORIGIN = ("model", "engine", "precision", "device")
_SAME = (
    *("prompt", "params", "creator", "variation_index", "seed", "requested_duration"),
    *("license", "fingerprint", "client_job_id", "elapsed_s"),
)


@dataclass(frozen=True, slots=True)
class Imported:
    """A sound that is a take now."""

    source: str
    artifact: Artifact
    old_id: str | None = None  # in the other store


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A sound that is a take here already."""

    source: str
    id: str


@dataclass(frozen=True, slots=True)
class ImportFailure:
    """Something that could not be imported, and cost nothing else."""

    source: str
    error: MusicgenError


Result = Imported | Duplicate | ImportFailure


class Importer:
    """
    Stores what is given to `run`.

    Args:
        store: Where to.
        tags: The user's, for each take.
        creator: Of files whose sidecar names none.
        is_creator_sure: It goes before what sidecars say.
        warn: Called with a line about what was left out.

    Raises:
        InvalidValueError: A tag is not one, or there are too many.
    """

    def __init__(
        self,
        store: Store,
        *,
        tags: Sequence[str] = (),
        creator: str,
        is_creator_sure: bool = False,
        warn: Callable[[str], None],
    ) -> None:
        self._store = store
        self._tags = [check_tag(tag) for tag in tags]
        if len({*TAGS, *self._tags}) > TAGS_EACH:
            raise InvalidValueError(f"a take can have {TAGS_EACH} tags, got {len({*TAGS, *self._tags})}")
        self._creator = creator
        self._is_creator_sure = is_creator_sure
        self._warn = warn
        self._root = _real(store.root)
        self._here: dict[bytes, tuple[str, str | None]] = {}  # what is known again → its id, its set
        self._sets: set[str] = set()

    def run(self, paths: Iterable[Path]) -> Iterator[Result]:
        """
        Store the WAV files, those in the folders, and the takes of the other stores; yield each as it is done.

        Raises:
            UsageError: A path is the store itself, or lies in it.
            StoreError, StoreBusyError: The store can't be written; what was yielded stays.
        """
        paths = list(paths)
        for path in paths:
            if self._root in (where := _real(path), *where.parents):
                raise UsageError(f"{str(path)!r} is the store itself, or in it")
        for take in self._store.newest(None):
            self._remember(take)
        for path in paths:
            try:
                is_store, is_folder = (path / _INDEX).is_file(), path.is_dir()
            except OSError as err:
                yield ImportFailure(str(path), _unreadable(err))
                continue
            if is_store:
                yield from self._merge(path)
            elif is_folder:
                yield from self._folder(path)
            else:
                yield self._file(path)

    def _folder(self, top: Path) -> Iterator[Result]:
        trouble: list[OSError] = []
        is_empty = True
        for folder, inner, names in os.walk(top, onerror=trouble.append):
            inner.sort()
            where = Path(folder)
            if _INDEX in names:
                inner.clear()
                is_empty = False
                if _real(where) != self._root:
                    yield from self._merge(where)
                continue
            for name in sorted(names):
                if name.lower().endswith(".wav"):
                    is_empty = False
                    yield self._file(where / name)
        for err in trouble:
            yield ImportFailure(str(err.filename), _unreadable(err))
        if is_empty and not trouble:
            yield ImportFailure(str(top), MusicgenError("there are no WAV files in it"))

    def _file(self, path: Path) -> Result:
        try:
            if path.exists() and not path.is_file():  # reading a pipe could take for ever
                return ImportFailure(str(path), MusicgenError("not a file"))
            wav = path.read_bytes()
        except OSError as err:
            return ImportFailure(str(path), _unreadable(err))
        bare = ArtifactDraft(TAGS, "", {}, self._creator, _origin({}))
        beside = path.with_suffix(".json")
        said, source = self._sidecar(beside, bare), str(beside)
        if (record := embedded_record(wav)) is not None:
            wav = without_metadata(wav, record)
            if said is None:
                said, source = self._metadata(path, record, bare), f"the metadata of {path}"
        try:
            return self._put(str(path), wav, said or bare)
        except InvalidWavError as err:
            return ImportFailure(str(path), err)
        except InvalidValueError as err:
            if said is None:
                return ImportFailure(str(path), err)
            self._warn(f"{source} is left out: {err}")
            return self._put(str(path), wav, bare)

    def _sidecar(self, path: Path, bare: ArtifactDraft) -> ArtifactDraft | None:
        """Read what `export --sidecar` wrote, or part of it; whatever is wrong with it must not cost the sound."""
        try:
            if not path.is_file():
                return None
            with path.open("rb") as file:
                data = file.read(_SIDECAR_BYTES + 1)
            record = json.loads(data) if len(data) <= _SIDECAR_BYTES else None
            said = as_draft(record) if isinstance(record, dict) else None
        except (OSError, ValueError, RecursionError, InvalidValueError) as err:
            self._warn(f"{path} is left out: {_unreadable(err) if isinstance(err, OSError) else err}")
            return None
        if said is None or said == as_draft({}):
            self._warn(f"{path} is left out: it says nothing of a take")
            return None
        return self._of_import(said, bare)

    def _metadata(self, path: Path, record: dict[str, Any], bare: ArtifactDraft) -> ArtifactDraft | None:
        """Read what `export` wrote into a WAV; other programs put JSON there, too."""
        try:
            said = as_draft(record)
        except InvalidValueError as err:
            self._warn(f"the metadata of {path} is left out: {err}")
            return None
        return None if said == as_draft({}) else self._of_import(said, bare)

    def _of_import(self, said: ArtifactDraft, bare: ArtifactDraft) -> ArtifactDraft:
        return replace(
            said,
            tags=(*TAGS, *(tag for tag in said.tags if not tag.startswith("phase:"))),
            creator=bare.creator if self._is_creator_sure or not said.creator else said.creator,
            origin=_origin(said.origin),
        )

    def _merge(self, path: Path) -> Iterator[Result]:
        other = Store(path, warn=self._warn)
        try:
            takes = list(other.newest(None))[::-1]
        except MusicgenError as err:
            yield ImportFailure(str(path), err)
            return
        sets = self._sets_of(takes)
        ids: dict[str | None, str] = {}
        for take in _parents_first(takes):
            source = f"{path}: {take.id}"
            draft = replace(
                as_draft(take.record),
                parent_id=ids.get(take.parent_id, take.parent_id),
                variation_set_id=sets.get(take.variation_set_id, take.variation_set_id),
                unknown=take.unknown,
            )
            known = self._here.get(_identity(draft, take.content_hash))
            if known is not None:
                ids[take.id] = known[0]
                yield Duplicate(source, known[0])
                continue
            try:
                wav = other.read_blob(take)
            except MusicgenError as err:
                yield ImportFailure(source, err)
                continue
            try:
                done = self._put(source, wav, draft, take.id)
            except (InvalidWavError, InvalidValueError) as err:
                yield ImportFailure(source, err)
                continue
            ids[take.id] = done.artifact.id if isinstance(done, Imported) else done.id
            yield done

    def _sets_of(self, takes: list[Artifact]) -> dict[str | None, str]:
        """Map the sets: one that was merged before goes on, one that only has the name of one here gets another."""
        sets: dict[str | None, str] = {}
        for take in takes:
            known = self._here.get(_identity(take, take.content_hash))
            if known is not None and known[1] is not None and take.variation_set_id is not None:
                sets[take.variation_set_id] = known[1]
        used = self._sets | {take.variation_set_id for take in takes}
        for name in dict.fromkeys(take.variation_set_id for take in takes):
            if name in self._sets and name not in sets:
                sets[name] = next(new for i in count(2) if (new := f"{name}-{i}") not in used)
                used.add(sets[name])
        return sets

    def _put(self, source: str, wav: bytes, draft: ArtifactDraft, old_id: str | None = None) -> Imported | Duplicate:
        known = self._here.get(_identity(draft, Digest.of(wav).hex))
        if known is not None:
            return Duplicate(source, known[0])
        take = self._store.put(wav, replace(draft, tags=(*draft.tags, *self._tags)))
        self._remember(take)
        return Imported(source, take, old_id)

    def _remember(self, take: Artifact) -> None:
        found = (take.id, take.variation_set_id)
        self._here[_identity(take, take.content_hash)] = found
        self._here[_identity(replace(take, created=""), take.content_hash)] = found  # a file that doesn't say when
        if take.variation_set_id is not None:
            self._sets.add(take.variation_set_id)


def _identity(take: ArtifactDraft | Artifact, content_hash: str) -> bytes:
    said: list[Any] = [content_hash, take.created or None, take.extra or None]
    said += [take.origin.get(name) for name in _OF_ORIGIN]
    said += [getattr(take, name) for name in _SAME]
    return blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16).digest()


def _origin(said: dict[str, Any]) -> dict[str, Any]:
    kept = {name: said[name] for name in _OF_ORIGIN if isinstance(said.get(name), str)}
    return {"kind": "import", **kept, "version": __version__}


def _parents_first(takes: list[Artifact]) -> Iterator[Artifact]:
    """Yield each take once, in order but for parents that stand after their children: they were brought back later."""
    waiting = {take.id: take for take in takes}
    for take in takes:
        line = []
        wanted: str | None = take.id
        while wanted in waiting:  # a circle ends too
            line.append(waiting.pop(wanted))
            wanted = line[-1].parent_id
        yield from reversed(line)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # `resolve` raises where links go in a circle


def _unreadable(err: OSError) -> MusicgenError:
    return MusicgenError(f"can't be read: {(err.strerror or str(err)).lower()}")
