"""
Finds the sounds that takes are to be made from, by the names that users give them, and checks each.

A sound is named by a take's id or by the path of a file. A file is imported before a take is made from it, so that the
take has a parent and can be made again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musicgen_cli import limits
from musicgen_cli.actions.library.import_ import Duplicate, Importer, ImportFailure
from musicgen_cli.actions.library.made_from import CONTINUE, MELODY, OVERLAP
from musicgen_cli.actions.library.metadata import sound_in
from musicgen_cli.actions.library.takes import fields_of, find_take
from musicgen_cli.actions.sources import recorded_take
from musicgen_cli.audio.source_file import check_context, check_sound, read_source_file
from musicgen_cli.audio.wav import inspect
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.errors import ArtifactNotFoundError, InvalidValueError, InvalidWavError, NotFoundError, UsageError
from musicgen_cli.store import Artifact, Store
from musicgen_cli.store.digest import Digest, parse_id
from musicgen_cli.store.store import LAST
from musicgen_cli.text import number


@dataclass(frozen=True, slots=True)
class SoundOptions:
    """The sounds that a take is to be made from, as a user names them: by the id of a take, or the path of a file."""

    continue_: str | None = None  # what it goes on from
    melody: str | None = None  # whose tune it follows
    overlap: float | None = None  # in seconds; None is the default


NO_SOUNDS = SoundOptions()


@dataclass(frozen=True, slots=True)
class Source:
    """A sound that was checked: that of a stored take, or of a file that isn't stored yet."""

    content_hash: str  # of the WAV as it is stored
    duration: float  # in seconds
    silent_s: float  # seconds at its end that are silent
    id: str | None = None  # of the take
    path: str | None = None  # of the file, where there is no take
    fields: Mapping[str, Any] = field(default_factory=dict)  # the prompt and the parameters of the take, without a seed

    @property
    def name(self) -> str:
        """What names it from any folder: the id of the take, or else the path of the file."""
        return self.id or os.path.abspath(self.path or "")  # noqa: PTH100  # links are not followed


@dataclass(frozen=True, slots=True)
class Sounds:
    """The sounds that a take is to be made from, all of them checked."""

    source: Source | None = None  # what it goes on from
    melody: Source | None = None  # whose tune it follows
    overlap: float | None = None

    @property
    def hashes(self) -> dict[str, Any]:
        """What of them decides how the take sounds; empty where there is nothing."""
        sounds = {CONTINUE: self.source, MELODY: self.melody}
        hashes: dict[str, Any] = {name: sound.content_hash for name, sound in sounds.items() if sound is not None}
        if self.overlap not in {None, limits.OVERLAP.default}:
            hashes[OVERLAP] = self.overlap
        return hashes

    @property
    def parent_id(self) -> str | None:
        """The take that the new one comes from; None where there is none, or where it is a file still."""
        sound = self.source or self.melody
        return None if sound is None else sound.id

    def check(self, duration: float) -> None:
        """
        Check that there is something to go on from.

        Args:
            duration: Of the new sound, in seconds.

        Raises:
            InvalidValueError: The end of the sound is silent, as far as the model reads it.
        """
        if self.source is not None:
            check_context(self.source.silent_s, duration, self.overlap or limits.OVERLAP.default)


class SourceFinder:
    """
    Finds sounds, each only once; safe to use from many threads at once.

    Args:
        store: Where takes are found, and files are imported to.
        creator: Of files that are imported, if they name none.
        note: Called with a line about each file that is imported.
    """

    def __init__(self, store: Store, *, creator: str, note: Callable[[str], None] = lambda _: None) -> None:
        self._store, self._creator, self._note = store, creator, note
        self._lock = threading.Lock()  # guards what follows, and keeps a file from being imported twice
        self._found: dict[str, Source] = {}  # by the names that were given
        self._imported: dict[str, str] = {}  # the take of each file, by its path

    def find(self, options: SoundOptions) -> Sounds:
        """
        Find what the options of a take name. Nothing is stored.

        Raises:
            UsageError: A take can't go on from a sound and follow a tune as well.
            InvalidValueError: A sound or a value can't be used.
            NotFoundError, AmbiguousIdError: There is no such sound, or several takes match.
            DamagedError: The audio of a take is damaged.
            MissingExtraError: Nothing here can decode a file.
        """
        check_overlap(options.overlap)
        if options.continue_ is not None and options.melody is not None:
            raise UsageError(
                "continue and melody contradict each other: a take goes on from a sound or follows a tune",
                hint="make the tune's take first, then go on from that",
            )
        source, melody = (None if ref is None else self._sound(ref) for ref in (options.continue_, options.melody))
        return Sounds(source, melody, options.overlap)

    def find_recorded(self, extra: Mapping[str, Any]) -> Sounds:
        """
        Find the sounds that a take was made from.

        Args:
            extra: Of its record.

        Raises:
            SourceGoneError: One of them isn't in the store any more.
            DamagedError: The audio of one is damaged.
        """
        sounds = (recorded_take(extra[name], self._store) if name in extra else None for name in (CONTINUE, MELODY))
        source, melody = (None if take is None else self._of_take(take) for take in sounds)
        check_overlap(extra.get(OVERLAP))
        return Sounds(source, melody, extra.get(OVERLAP))

    def store(self, sounds: Sounds) -> Sounds:
        """
        Import the files among some sounds, each only once, and return all of them as takes.

        Raises:
            InvalidValueError: A file has changed since it was checked, or can't be read any more.
            StoreError, StoreBusyError: The store can't be written.
        """
        with self._lock:
            source, melody = (sound and self._stored(sound) for sound in (sounds.source, sounds.melody))
        return Sounds(source, melody, sounds.overlap)

    def _sound(self, ref: str) -> Source:
        with self._lock:
            if ref not in self._found:
                take = self._take(ref)
                self._found[ref] = self._of_file(Path(ref)) if take is None else self._of_take(take)
            return self._found[ref]

    def _take(self, ref: str) -> Artifact | None:
        """Return the take that a text names; None if it names a file, which it does unless it has the form of an id."""
        is_id, is_file = ref == LAST or parse_id(ref) is not None, os.path.exists(ref)  # noqa: PTH110  # never raises
        if is_file and not is_id:
            return None
        try:
            return find_take(ref, self._store)
        except ArtifactNotFoundError as err:
            if is_file or (not is_id and (Path(ref).suffix or os.sep in ref or "/" in ref)):
                return None
            if is_id:
                raise
            raise NotFoundError(
                f"{ref[:200]!r} is neither a take nor a file", hint="`musicgen list` shows what is stored"
            ) from err

    def _of_take(self, take: Artifact) -> Source:
        silent_s = check_sound(self._store.read_blob(take), take.id)
        fields = {name: value for name, value in fields_of(take).items() if name != "seed"}
        try:
            GenerateRequest.checked(fields)
        except InvalidValueError:  # of another program's take
            fields = {}
        return Source(take.content_hash, take.duration, silent_s, take.id, fields=fields)

    def _of_file(self, path: Path) -> Source:
        wav, _ = _read(path)
        digest, silent_s = Digest.of(wav), check_sound(wav, repr(str(path)))
        if (take := self._with_sound(digest)) is not None:
            self._note(f"{path} is already stored: {take.id}")
            return self._of_take(take)
        return Source(digest.hex, inspect(wav).duration, silent_s, path=str(path))

    def _stored(self, sound: Source) -> Source:
        if sound.path is None:
            return sound
        if sound.path not in self._imported:
            path = Path(sound.path)
            wav, record = _read(path)
            digest = Digest.of(wav)
            if digest.hex != sound.content_hash:
                raise InvalidValueError(f"{sound.path!r} has changed since it was checked")
            take = self._with_sound(digest)  # another process may have imported it
            if take is None:
                importer = Importer(self._store, creator=self._creator, warn=self._note)
                result = importer.sound(path, wav, record)
                if isinstance(result, ImportFailure):
                    raise result.error
                self._imported[sound.path] = result.id if isinstance(result, Duplicate) else result.artifact.id
                self._note(f"imported {path} as {self._imported[sound.path]}")
            else:
                self._imported[sound.path] = take.id
        return Source(sound.content_hash, sound.duration, sound.silent_s, self._imported[sound.path])

    def _with_sound(self, digest: Digest) -> Artifact | None:
        """Return the take that has a sound, one that was generated if there are several."""
        takes = self._store.with_sound(digest)
        return min(takes, key=lambda take: take.seed is None, default=None)


def sound_options(fields: Mapping[str, Any]) -> SoundOptions:
    """Return what some fields, by the names of `SOUND_FIELDS`, say of sounds; other fields are ignored."""
    return SoundOptions(fields.get(CONTINUE), fields.get(MELODY), fields.get(OVERLAP))


def members(sounds: Sounds) -> dict[str, Any]:
    """
    Return the members of a record's `extra` for a take that is to be made from sounds.

    Args:
        sounds: All of them takes, as `SourceFinder.store` returns them.
    """
    extra: dict[str, Any] = {}
    for name, sound in ((CONTINUE, sounds.source), (MELODY, sounds.melody)):
        if sound is not None:
            extra[name] = {"id": sound.id, "content_hash": sound.content_hash, "duration": sound.duration}
    if sounds.overlap is not None:
        extra[OVERLAP] = sounds.overlap
    return extra


def check_overlap(overlap: object) -> None:
    """
    Check an overlap; None is the default.

    Raises:
        InvalidValueError: It is out of range, or no number.
    """
    if overlap is not None and (isinstance(overlap, bool) or overlap not in limits.OVERLAP):
        shown = number(overlap) if isinstance(overlap, float) else f"{overlap!r:.40}"
        raise InvalidValueError(f"overlap must be {limits.OVERLAP}, got {shown}")


def _read(path: Path) -> tuple[bytes, dict[str, Any] | None]:
    """Return the sound of a file as it is stored, and the record in its metadata."""
    try:
        return sound_in(read_source_file(path), longest_s=limits.SOURCE_MOST_S)
    except InvalidWavError as err:
        raise InvalidValueError(f"{str(path)!r} can't be used: {err}") from err
