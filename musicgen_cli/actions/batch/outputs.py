"""
Where a batch exports a take to: which files it may replace.

A file of an earlier run belongs to the batch: it has the name that a row's `output` still has, its metadata say that a
batch wrote it under this name and how it was cut into a loop, its sound is unchanged, and the store holds that sound.
So a row that was changed replaces its own file, and nothing is lost. Any other file is replaced only if that is forced.
"""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from enum import Enum, auto
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from musicgen_cli import foreign
from musicgen_cli.actions.library.export import FORMATS, ExportTarget, convert, export, file_name, resolve_target
from musicgen_cli.actions.library.loops import LoopOptions
from musicgen_cli.actions.library.metadata import embedded_record, record_in
from musicgen_cli.audio.decode import decode, kind_of
from musicgen_cli.audio.wav import without_last_info
from musicgen_cli.errors import InvalidValueError, MusicgenError, TargetError, system_reason
from musicgen_cli.limits import SOUND_BYTES
from musicgen_cli.store import Artifact, Store, from_record
from musicgen_cli.text import printable

_MARK = "batch_output"  # in the metadata of an exported file: its name when a batch wrote it
_LOOP_MARK = "batch_loop"  # and how the batch cut it into a loop

_HEAD_BYTES = 1 << 16
_NAME_CHARS = 255


class _Content(Enum):
    """What a file is to the batch."""

    NOTHING = auto()  # there is no file
    TAKE = auto()  # the take itself, perhaps edited
    EARLIER = auto()  # another take, or another loop of it, which an earlier run exported there
    FOREIGN = auto()


def target_of(output: str, store: Store, *, loop: LoopOptions | None, force: bool) -> ExportTarget:
    """
    Return where a take that is to be made is exported to.

    Args:
        output: A file, or a folder that ends with a separator.
        loop: How it is cut into a loop; None if it isn't.
        force: Replace any file.

    Raises:
        TargetError: A file is there that may not be replaced, or it can't be read.
        UsageError: As `resolve_target`.
    """
    target = resolve_target(output, loop=loop, force=True)
    if force or target.is_folder:
        return replace(target, force=force)
    return _replacing(target, _content(target, None, store))


def missing_target(
    output: str, artifact: Artifact, store: Store, *, loop: LoopOptions | None, force: bool
) -> ExportTarget | None:
    """
    Return where a stored take is to be exported to; None if its file is there.

    Args:
        output, loop: As in `target_of`.
        artifact: The take.
        force: Replace any file that doesn't have the take's unchanged sound.

    Raises:
        TargetError: As `target_of`.
    """
    target = resolve_target(output, loop=loop, force=True)
    if target.is_folder:
        path = _file_in(target, artifact)
        if not os.path.lexists(path):
            return replace(target, force=False)
        target = replace(target, path=path, is_folder=False)
    content = _content(target, artifact, store)
    if content is _Content.TAKE:
        return None if not force or _is_unchanged(target, artifact, store, loop) else target
    return target if force else _replacing(target, content)


def write(artifact: Artifact, store: Store, target: ExportTarget) -> tuple[Path, str]:
    """
    Export a take, and mark the file as written by a batch; see `export`.

    A file that was edited while its take was made is not replaced.

    Returns:
        The file, and how it was cut into a loop; "" if it wasn't.
    """
    path = _file_in(target, artifact) if target.is_folder else target.path
    marks = {_MARK: path.name} | ({_LOOP_MARK: asdict(target.loop)} if target.loop else {})
    notes: list[str] = []
    try:
        written = export(replace(artifact, unknown=artifact.unknown | marks), store, target, set(), note=notes.append)
        return written, "; ".join(notes)
    except InvalidValueError as err:
        hint = "the take is in the store; other values of `bars` and `bpm` help"
        raise TargetError(f"can't write {printable(str(path))}: {err}", hint=hint) from err
    except TargetError as err:
        if not err.exists:
            err.hint = "the take is in the store; another `output` names another place"
        raise


def _file_in(folder: ExportTarget, artifact: Artifact) -> Path:
    """Return the file in a folder that a take is exported to, if no other has the name."""
    return folder.path / f"{file_name(artifact, folder.template)}.{folder.format_}"


def as_folder(output: str) -> str:
    """Return the path of `-o` as a folder, also if there is none yet; the name of a sound file stays one."""
    is_file = Path(output).suffix.lower()[1:] in FORMATS and not os.path.isdir(output)  # noqa: PTH112  # it never raises
    return output if is_file or not output or output.endswith(("/", os.sep)) else output + os.sep


def below(folder: str, output: str) -> str:
    """
    Return a row's output as a path below the folder of `-o`.

    Raises:
        InvalidValueError: It leads out of the folder, or `-o` names a file.
    """
    if not as_folder(folder).endswith(("/", os.sep)):
        raise InvalidValueError(f"-o {folder!r} is a file, and the row has the output {output!r}")
    joined = os.path.join(folder, output)  # noqa: PTH118  # a Path would lose the separator at the end
    top, path = (os.path.abspath(each) for each in (folder, joined))  # noqa: PTH100  # links are not followed
    if path != top and not Path(path).is_relative_to(top):
        raise InvalidValueError(f"output {output!r} is not below {folder!r}, the folder of -o")
    return joined


def name_of(output: str | None) -> str:
    """Return the name of a row's file without folder and ending; "" if the row names none."""
    if output is None or resolve_target(output, force=True).is_folder:
        return ""
    return Path(output).stem[:_NAME_CHARS]


def absolute(output: str) -> str:
    """Return an output that is the same in every working directory, and below every `-o` that it was below."""
    separator = os.sep if output.endswith(("/", os.sep)) else ""
    return os.path.abspath(output) + separator  # noqa: PTH100  # links are not followed


def _replacing(target: ExportTarget, content: _Content) -> ExportTarget:
    if content is _Content.FOREIGN:
        raise TargetError(
            f"{printable(str(target.path))} exists already, and is not as a batch wrote it",
            hint="`--force` replaces it",
            exists=True,
        )
    return replace(target, force=content is _Content.EARLIER)


def _content(target: ExportTarget, artifact: Artifact | None, store: Store) -> _Content:
    path = target.path
    try:
        if path.is_symlink():
            return _Content.FOREIGN
        if not path.exists():
            return _Content.NOTHING
        record = _record_of(path)
    except OSError as err:
        raise TargetError(f"can't read {printable(str(path))}: {system_reason(err)}") from err
    if record is None:
        return _Content.FOREIGN
    is_same_loop = record.get(_LOOP_MARK) == (asdict(target.loop) if target.loop else None)
    if is_same_loop and artifact is not None and record.get("content_hash") == artifact.content_hash:
        return _Content.TAKE
    if record.get(_MARK) != path.name:
        return _Content.FOREIGN
    try:
        earlier = from_record(record)
        mark = record.get(_LOOP_MARK)
        loop = None if mark is None else LoopOptions(**mark)
    except (LookupError, TypeError, InvalidValueError):
        return _Content.FOREIGN
    return _Content.EARLIER if _is_unchanged(target, earlier, store, loop) else _Content.FOREIGN


def _record_of(path: Path) -> dict[str, Any] | None:
    """Return the record in a file's metadata, if it is a sound with one."""
    if not path.is_file() or not path.stat().st_size:
        return None
    with foreign.open_file(path) as file:
        kind = kind_of(file.read(_HEAD_BYTES))
        if not kind:
            with mmap(file.fileno(), 0, access=ACCESS_READ) as wav:  # a WAV's metadata are a small part of it
                return embedded_record(wav)
    try:
        return record_in(decode(foreign.read(path, SOUND_BYTES), kind)[1])
    except MusicgenError:
        return None


def _is_unchanged(target: ExportTarget, artifact: Artifact, store: Store, loop: LoopOptions | None) -> bool:
    """Tell whether a file has the sound that an export of a take has, and the store still holds that."""
    try:
        sound = store.read_blob(artifact)
        exported = convert(sound, artifact, format_=target.format_, loop=loop, metadata=False)
        return _samples(foreign.read(target.path, SOUND_BYTES)) == _samples(exported)
    except (MusicgenError, OSError, ValueError, TypeError):  # among them what a record of somebody else may hold
        return False


def _samples(data: bytes) -> bytes:
    """Return the sound of a file without its metadata, as a WAV."""
    kind = kind_of(data)
    return decode(data, kind)[0] if kind else without_last_info(data)
