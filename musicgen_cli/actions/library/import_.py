"""Imports sound files with their sidecars or metadata, and all takes of other stores; duplicates are left out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any

from musicgen_cli import foreign
from musicgen_cli._version import __version__
from musicgen_cli.actions.library.made_from import with_ids
from musicgen_cli.actions.library.metadata import sound_in
from musicgen_cli.errors import (
    DamagedError,
    InvalidValueError,
    InvalidWavError,
    MissingExtraError,
    MusicgenError,
    UsageError,
    system_reason,
)
from musicgen_cli.limits import MAX_TAGS, SOUND_BYTES
from musicgen_cli.store import Artifact, ArtifactDraft, Store, as_draft, check_tag
from musicgen_cli.store.digest import Digest
from musicgen_cli.store.names import name_in, tag_of_file
from musicgen_cli.text import plural

TAGS = ("type:audio", "format:wav", "phase:import")

_INDEX = "index.jsonl"  # a folder with this file is a store
_OTHER_ENDINGS = (".aif", ".aiff", ".m4a", ".aac", ".wma", ".w64", ".caf", ".au", ".amr", ".mka", ".mp4", ".webm")
_MAC_FILE, _MAC_FOLDER = "._", "__MACOSX"  # what macOS adds to foreign disks and to archives
_SIDECAR_BYTES = 1 << 20  # a record has 64 KiB, but may be indented
# Two takes with the same bytes are duplicates if these fields agree. The id, the parent and the set are not among them,
# since an import may change them, nor are the tags, which may be changed at any time.
_ORIGIN_FIELDS = ("model", "engine", "precision", "device")
_IDENTITY_FIELDS = (
    *("prompt", "params", "creator", "variation_index", "seed", "requested_duration"),
    *("license", "fingerprint", "client_job_id", "elapsed_s"),
)


@dataclass(frozen=True, slots=True)
class Imported:
    """A sound that was stored as a take."""

    source: str
    artifact: Artifact
    old_id: str | None = None  # of the take in the other store


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A sound that was not stored, because the store has the same take already."""

    source: str
    id: str


@dataclass(frozen=True, slots=True)
class ImportFailure:
    """A file, folder, take or store that could not be imported; the others are."""

    source: str
    error: MusicgenError


Result = Imported | Duplicate | ImportFailure


class Importer:
    """
    Imports files, folders and stores into a store.

    Args:
        store: The store to import into.
        tags: Added to every take.
        creator: The creator of files whose sidecar or metadata names none.
        overrides_creator: Use `creator` even for files that name one.
        warn: Called with a line about each sidecar or metadata that is ignored.

    Raises:
        InvalidValueError: A tag has the wrong form, or there are too many.
    """

    def __init__(
        self,
        store: Store,
        *,
        tags: Sequence[str] = (),
        creator: str,
        overrides_creator: bool = False,
        warn: Callable[[str], None],
    ) -> None:
        self._store = store
        self._tags = [check_tag(tag) for tag in tags]
        if len({*TAGS, *self._tags}) > MAX_TAGS:
            raise InvalidValueError(f"a take can have at most {MAX_TAGS} tags, got {len({*TAGS, *self._tags})}")
        self._creator = creator
        self._overrides_creator = overrides_creator
        self._warn = warn
        self._root = _real(store.root)
        self._stored: dict[bytes, tuple[str, str | None]] = {}  # identity → id and set of the take in the store
        self._sets: set[str] = set()  # in the store

    def run(self, paths: Iterable[Path]) -> Iterator[Result]:
        """
        Import sound files, the sound files in folders, and the takes of other stores; yield the result of each.

        Raises:
            UsageError: A path is the store itself or lies in it; nothing was imported.
            StoreError, StoreBusyError: The store can't be written; what was yielded before is stored.
        """
        paths = list(paths)
        for path in paths:
            if self._root in (real := _real(path), *real.parents):
                raise UsageError(f"{str(path)!r} is the store itself, or in it")
        for take in self._store.newest(None):
            self._add_stored(take)
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
        from musicgen_cli.audio import decode

        endings = (".wav", *decode.ENDINGS) if decode.can_decode() else (".wav",)
        unreadable = 0  # files of other formats, without a decoder
        others: list[str] = []  # endings of the sound files of further formats
        errors: list[OSError] = []
        is_empty = True
        for folder, inner, names in os.walk(top, onerror=errors.append):
            inner[:] = sorted(name for name in inner if name != _MAC_FOLDER)
            path = Path(folder)
            if _INDEX in names:
                inner.clear()
                is_empty = False
                if _real(path) != self._root:
                    yield from self._merge(path)
                continue
            for name in sorted(names):
                if name.startswith(_MAC_FILE):
                    continue
                if name.lower().endswith(endings):
                    is_empty = False
                    yield self._file(path / name)
                elif name.lower().endswith(decode.ENDINGS):
                    unreadable += 1
                elif name.lower().endswith(_OTHER_ENDINGS):
                    others.append(Path(name).suffix.lower())
        for err in errors:
            yield ImportFailure(str(err.filename), _unreadable(err))
        if unreadable:
            files = "its FLAC, Ogg or MP3 file" if unreadable == 1 else f"its {unreadable} FLAC, Ogg and MP3 files"
            yield ImportFailure(
                str(top), MissingExtraError(f"{files} can't be read without the extra 'audio' or ffmpeg")
            )
        if others:
            yield ImportFailure(str(top), _other_format(others))
        if is_empty and not errors and not unreadable and not others:
            yield ImportFailure(str(top), MusicgenError("there are no sound files in it"))

    def _file(self, path: Path) -> Result:
        try:
            if path.exists() and not path.is_file():  # reading a pipe could block forever
                return ImportFailure(str(path), MusicgenError("not a file"))
            wav, record = sound_in(foreign.read(path, SOUND_BYTES))
        except OSError as err:
            return ImportFailure(str(path), _unreadable(err))
        except (InvalidWavError, MissingExtraError) as err:
            is_other = path.suffix.lower() in _OTHER_ENDINGS
            return ImportFailure(str(path), _other_format([path.suffix.lower()]) if is_other else err)
        return self.sound(path, wav, record)

    def sound(self, path: Path, wav: bytes, record: dict[str, Any] | None) -> Imported | Duplicate | ImportFailure:
        """
        Import the sound of a file that was read.

        Args:
            path: Of the file, beside which a sidecar may lie.
            wav: The sound, and
            record: The record in the file's metadata, as `sound_in` returns them.

        Raises:
            StoreError, StoreBusyError: The store can't be written.
        """
        blank = ArtifactDraft(TAGS, "", {}, self._creator, _origin({}))
        sidecar = path.with_suffix(".json")
        draft, source = self._sidecar(sidecar, blank), str(sidecar)
        if record is not None and draft is None:
            draft, source = self._metadata(path, record, blank), f"the metadata of {path}"
        blank, draft = self._named(blank, path), draft and self._named(draft, path)
        try:
            return self._put(str(path), wav, draft or blank)
        except InvalidValueError as err:
            if draft is None:
                return ImportFailure(str(path), err)
            self._warn(f"{source} is ignored: {err}")
            return self._put(str(path), wav, blank)

    def _named(self, draft: ArtifactDraft, path: Path) -> ArtifactDraft:
        """Name a take that has neither a prompt nor a name after its file, if there is room for one more tag."""
        tag = tag_of_file(path.stem)
        if tag is None or draft.prompt or name_in(draft.tags) or len({*draft.tags, *self._tags}) >= MAX_TAGS:
            return draft
        return replace(draft, tags=(*draft.tags, tag))

    def _sidecar(self, path: Path, blank: ArtifactDraft) -> ArtifactDraft | None:
        """
        Read a record, whole or in part, that `export --sidecar` or a person wrote.

        Returns:
            None if there is none, or if it is unusable, which is a warning.
        """
        try:
            if not path.is_file():
                return None
            with foreign.open_file(path) as file:
                data = file.read(_SIDECAR_BYTES + 1)
            record = json.loads(data) if len(data) <= _SIDECAR_BYTES else None
            draft = as_draft(record) if isinstance(record, dict) else None
        except (OSError, ValueError, RecursionError, InvalidValueError) as err:
            self._warn(f"{path} is ignored: {_unreadable(err) if isinstance(err, OSError) else err}")
            return None
        if draft is None or draft == as_draft({}):
            self._warn(f"{path} is ignored: it has no field of a take's record")
            return None
        return self._of_import(draft, blank)

    def _metadata(self, path: Path, record: dict[str, Any], blank: ArtifactDraft) -> ArtifactDraft | None:
        """Read the record that `export` wrote into a WAV; None if the JSON is not a record."""
        try:
            draft = as_draft(record)
        except InvalidValueError as err:
            self._warn(f"the metadata of {path} is ignored: {err}")
            return None
        return None if draft == as_draft({}) else self._of_import(draft, blank)

    def _of_import(self, draft: ArtifactDraft, blank: ArtifactDraft) -> ArtifactDraft:
        """Return a draft from outside with the tags, the creator and the origin that an import gives it."""
        return replace(
            draft,
            tags=(*TAGS, *(tag for tag in draft.tags if not tag.startswith("phase:"))),
            creator=blank.creator if self._overrides_creator or not draft.creator else draft.creator,
            origin=_origin(draft.origin),
        )

    def _merge(self, path: Path) -> Iterator[Result]:
        """Import the takes of another store, oldest first; takes and sets that they name become those in this store."""
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
                extra=with_ids(take.extra or {}, ids),
                unknown=take.unknown,
            )
            duplicate = self._stored.get(_identity(draft, take.content_hash))
            if duplicate is not None:
                ids[take.id] = duplicate[0]
                yield Duplicate(source, duplicate[0])
                continue
            try:
                if take.bytes > SOUND_BYTES:
                    raise DamagedError(f"it has {take.bytes} bytes, at most {SOUND_BYTES} can be imported")
                wav = other.read_blob(take)
            except MusicgenError as err:
                yield ImportFailure(source, err)
                continue
            try:
                result = self._put(source, wav, draft, take.id)
            except (InvalidWavError, InvalidValueError) as err:
                yield ImportFailure(source, err)
                continue
            ids[take.id] = result.artifact.id if isinstance(result, Imported) else result.id
            yield result

    def _sets_of(self, takes: list[Artifact]) -> dict[str | None, str]:
        """
        Map the sets of another store's takes to names in this store.

        A set that was imported before keeps the name that it got then; a set whose name another set has gets a new one.
        """
        sets: dict[str | None, str] = {}
        for take in takes:
            _, stored_set = self._stored.get(_identity(take, take.content_hash), (None, None))
            if stored_set is not None and take.variation_set_id is not None:
                sets[take.variation_set_id] = stored_set
        used = self._sets | {take.variation_set_id for take in takes}
        for name in dict.fromkeys(take.variation_set_id for take in takes):
            if name in self._sets and name not in sets:
                sets[name] = next(new for i in count(2) if (new := f"{name}-{i}") not in used)
                used.add(sets[name])
        return sets

    def _put(self, source: str, wav: bytes, draft: ArtifactDraft, old_id: str | None = None) -> Imported | Duplicate:
        duplicate = self._stored.get(_identity(draft, Digest.of(wav).hex))
        if duplicate is not None:
            return Duplicate(source, duplicate[0])
        take = self._store.put(wav, replace(draft, tags=(*draft.tags, *self._tags)))
        self._add_stored(take)
        return Imported(source, take, old_id)

    def _add_stored(self, take: Artifact) -> None:
        entry = (take.id, take.variation_set_id)
        self._stored[_identity(take, take.content_hash)] = entry
        self._stored[_identity(replace(take, created=""), take.content_hash)] = entry  # matches a file that has no time
        if take.variation_set_id is not None:
            self._sets.add(take.variation_set_id)


def _other_format(endings: Sequence[str]) -> MusicgenError:
    """Return the error for sound files with these endings, which nothing here reads."""
    kinds = ", ".join(sorted(set(endings)))
    files = plural(len(endings), "sound file")
    return MusicgenError(
        f"{files} left out, whose format is not read ({kinds}); `ffmpeg -i FILE FILE.wav` converts one"
    )


def _identity(take: ArtifactDraft | Artifact, content_hash: str) -> bytes:
    """Return a hash by which two takes are duplicates of each other."""
    values: list[Any] = [content_hash, take.created or None, take.extra or None]
    values += [take.origin.get(name) for name in _ORIGIN_FIELDS]
    values += [getattr(take, name) for name in _IDENTITY_FIELDS]
    return blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).digest()


def _origin(origin: dict[str, Any]) -> dict[str, Any]:
    """Return the origin of an imported take, with what its record says of the model."""
    fields = {name: origin[name] for name in _ORIGIN_FIELDS if isinstance(origin.get(name), str)}
    return {"kind": "import", **fields, "version": __version__}


def _parents_first(takes: list[Artifact]) -> Iterator[Artifact]:
    """
    Yield each take once, and a parent before its children; otherwise the order stays.

    A parent stands after its children if it was removed and restored.
    """
    remaining = {take.id: take for take in takes}
    for take in takes:
        ancestry = []  # from the take to its oldest ancestor
        id_: str | None = take.id
        while id_ in remaining:  # ends in a cycle, too
            ancestry.append(remaining.pop(id_))
            id_ = ancestry[-1].parent_id
        yield from reversed(ancestry)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # `resolve` raises on a cycle of links


def _unreadable(err: OSError) -> MusicgenError:
    return MusicgenError(f"can't be read: {system_reason(err)}")
