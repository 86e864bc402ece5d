"""Copies stored takes to files: each whole or not at all, and never over an existing file unless forced."""

from __future__ import annotations

import json
import os
import re
import stat
import string
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from musicgen_cli import atomic
from musicgen_cli.actions.library.loops import LoopOptions, cut_loop
from musicgen_cli.errors import InvalidValueError, TargetError, UsageError
from musicgen_cli.store import Artifact, Store
from musicgen_cli.text import printable

TEMPLATE = "{prompt_slug}-{seed}-{id}"
FIELDS = ("prompt_slug", "name", "seed", "id", "set", "index", "model", "creator", "duration", "date", "output")
NAME_BYTES = 80  # of a name made from a template, without its suffix

FORMATS = ("wav", "flac", "ogg", "mp3")

_OTHER_FORMATS = frozenset({".opus", ".m4a", ".aac", ".aif", ".aiff", ".wma"})
_SEPARATORS = "-_. "
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))}


@dataclass(frozen=True, slots=True)
class ExportTarget:
    """Where exports go and in which form: a file, or a folder with a template for the names in it."""

    path: Path
    is_folder: bool
    template: str = TEMPLATE
    force: bool = False  # replace existing files
    sidecar: bool = False  # write the record beside each file
    format_: str = "wav"  # of FORMATS
    loop: LoopOptions | None = None  # cut the clip into a loop
    metadata: bool = True  # write the record into each file

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with what was asked for, although it can be done."""
        if self.loop is not None and self.format_ == "mp3":
            return ("mp3 adds silence at both ends, so a loop has a gap; wav, flac and ogg have none",)
        return ()


def resolve_target(
    output: str | None,
    *,
    name: str | None = None,
    many: bool = False,
    force: bool = False,
    sidecar: bool = False,
    format_: str | None = None,
    loop: LoopOptions | None = None,
    metadata: bool = True,
) -> ExportTarget:
    """
    Check `-o FILE|DIR`, `--name` and `--format`, so that a mistake is reported before anything is generated.

    Args:
        output: A file, or a folder: one that exists, or a path that ends in a separator. None is the current folder.
        name: A template for the names in a folder.
        many: More than one file will be written.
        force: Replace existing files.
        sidecar: Write the record as JSON beside each file.
        format_: Of FORMATS; None means the format of the file's or the template's suffix, else WAV.
        loop: How to cut each clip into a loop; None leaves it whole.
        metadata: Write title, licence and record into each file.

    Raises:
        InvalidValueError: An empty path or one with NUL, an unknown format, or an unknown field in the template.
        MissingExtraError: The format needs the extra audio, or ffmpeg.
        UsageError: Several takes for one file, a template for a file, or a format that contradicts the suffix.
        TargetError: The file exists, and `force` is False.
    """
    template = name if name is not None else TEMPLATE
    _fields(template)
    text = output if output is not None else "."
    if "\0" in text or not text:
        raise InvalidValueError("the output path must not be empty or contain NUL")
    path = Path(text)
    is_folder = _is_folder(path) or text.endswith(("/", os.sep))
    format_ = check_format(format_, Path(template) if is_folder else path)
    if not is_folder and many:
        raise UsageError(f"several takes can't go into the one file {text!r}", hint="end it with / to make it a folder")
    if not is_folder and name is not None:
        raise UsageError("--name is for a folder, and -o names a file", hint="end it with / to make it a folder")
    target = ExportTarget(path, is_folder, template, force, sidecar, format_, loop, metadata)
    for file in () if is_folder else _files(target, path):
        _refuse_special(file)
        if not force and (file.is_symlink() or _is_folder(file) or file.exists()):
            raise _exists(file)
    return target


def check_format(format_: str | None, path: Path | None) -> str:
    """
    Return the format to export to.

    Args:
        format_: The requested format; None means that of the file's suffix, else WAV.
        path: The file, or a template for its name; None where neither is given.

    Raises:
        InvalidValueError: There is no such format.
        UsageError: There is no such suffix, or the two contradict each other.
        MissingExtraError: The format needs the extra audio, or ffmpeg.
    """
    if format_ is not None and format_ not in FORMATS:
        raise InvalidValueError(f"format must be one of {', '.join(FORMATS)}, got {format_[:40]!r}")
    suffix = path.suffix.lower() if path is not None else ""
    if suffix in _OTHER_FORMATS:
        raise UsageError(
            f"there is no export to {suffix!r}", hint=f"musicgen export ID -o - | ffmpeg -i - take{suffix}"
        )
    if suffix[1:] in FORMATS:
        if format_ not in {None, suffix[1:]}:
            raise UsageError(f"--format {format_} contradicts the extension {suffix!r}")
        format_ = suffix[1:]
    format_ = format_ or "wav"
    if format_ != "wav":
        from musicgen_cli.audio.encode import check_encoder

        check_encoder(format_)
    return format_


def convert(
    sound: bytes,
    artifact: Artifact,
    *,
    format_: str = "wav",
    loop: LoopOptions | None = None,
    metadata: bool,
    note: Callable[[str], None] = lambda _: None,
) -> bytes:
    """
    Convert a stored WAV to what is exported.

    Args:
        sound: The WAV of the take.
        artifact: The take.
        format_: Of FORMATS.
        loop: How to cut it into a loop; None leaves it whole.
        metadata: Add title, licence and record.
        note: Called with a line about how the loop was cut.

    Raises:
        InvalidWavError: The format can't hold this sample rate or this number of channels.
    """
    from musicgen_cli.actions.library.metadata import metadata_of, with_metadata

    if loop is not None:
        result = cut_loop(sound, artifact.prompt, loop)
        note(f"loop: {result.description}")
        sound = result.wav
    if format_ != "wav":
        from musicgen_cli.audio.encode import encode

        return encode(sound, format_, metadata_of(artifact) if metadata else {})
    return with_metadata(sound, artifact) if metadata else sound


def export(
    artifact: Artifact,
    store: Store,
    target: ExportTarget,
    written: set[Path],
    *,
    note: Callable[[str], None] = lambda _: None,
) -> Path:
    """
    Write a take's sound to a file, and its record beside it if the target has a sidecar.

    Args:
        written: The files that this command has written, to which the new ones are added; none is replaced, not even
            if the target has `force`.
        note: Called with a line about how a loop was cut.

    Returns:
        The file with the sound.

    Raises:
        DamagedError: The stored bytes are damaged.
        InvalidWavError: The format can't hold this sample rate or this number of channels.
        TargetError: The file exists or can't be written; no incomplete file is left.
    """
    sound = convert(
        store.read_blob(artifact),
        artifact,
        format_=target.format_,
        loop=target.loop,
        metadata=target.metadata,
        note=note,
    )
    record = (json.dumps(artifact.record, ensure_ascii=False, indent=2) + "\n").encode()
    try:
        folder = target.path if target.is_folder else target.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        for path in _candidates(artifact, target):
            if written.intersection(_files(target, path)):
                continue
            if _write(sound, record, path, target):
                written.update(_files(target, path))
                return path
            if not target.is_folder:
                raise _exists(path)
    except OSError as err:
        raise _cant_write(target.path, err, hint="the take is in the store; `-o` names another place") from err
    raise AssertionError("names are numbered without end")


def file_name(artifact: Artifact, template: str) -> str:
    """
    Return the name that a template gives a take's file, without its suffix.

    It has only `[a-z0-9._-]`, at most 80 bytes, no leading `.` or `-`, and is no reserved device name of Windows. An
    empty field is left out with the separator before it, or with the one after it if it comes first.

    Args:
        template: With the fields of FIELDS, each in braces.
    """
    values = {
        "prompt_slug": _slug(artifact.prompt or artifact.name or "")[:40].strip("-._"),
        "name": _slug(artifact.name or ""),
        "seed": "" if artifact.seed is None else str(artifact.seed),
        "id": artifact.id.removeprefix("artifact_"),
        "set": _slug(artifact.variation_set_id or ""),
        "index": "" if artifact.variation_index is None else str(artifact.variation_index),
        "model": _slug(str(artifact.origin.get("model") or "")),
        "creator": _slug(artifact.creator),
        "duration": f"{artifact.duration:g}s",
        "date": artifact.created[:10],
        "output": _slug(str((artifact.extra or {}).get("output", ""))),
    }
    name = ""
    for literal, field in _fields(template):
        value = values[field] if field is not None else ""
        if field is not None and not value:
            literal = literal.rstrip(_SEPARATORS)
        elif not name:
            literal = literal.lstrip(_SEPARATORS)
        name += literal + value
    for format_ in FORMATS:
        name = name.removesuffix(f".{format_}")
    name = re.sub(r"[^a-z0-9._-]+", "-", _ascii(name).lower())[:NAME_BYTES].strip("-. ")
    if not name or name.partition(".")[0] in _RESERVED:
        name = f"take-{name}".rstrip("-")
    return name


def _candidates(artifact: Artifact, target: ExportTarget) -> Iterator[Path]:
    """Yield the paths that a take may be written to, best first."""
    if not target.is_folder:
        yield target.path
        return
    name = file_name(artifact, target.template)
    yield target.path / f"{name}.{target.format_}"
    for i in range(2, 1_000_000):
        yield target.path / f"{name}-{i}.{target.format_}"


def _files(target: ExportTarget, path: Path) -> tuple[Path, ...]:
    return (path, _sidecar(path)) if target.sidecar else (path,)


def _sidecar(path: Path) -> Path:
    stem = path.stem if path.suffix[1:] in FORMATS else path.name
    return path.with_name(f"{stem}.json")


def _write(sound: bytes, record: bytes, path: Path, target: ExportTarget) -> bool:
    """Write a sound, and its record if there is a sidecar; return False without writing if a file would be replaced."""
    if not target.force and any(file.is_symlink() or file.exists() for file in _files(target, path)):
        return False
    if target.force and path.is_dir():
        raise TargetError(f"{printable(str(path))} is a folder", hint="end it with / to export into it")
    if not _write_file(sound, path, force=target.force):
        return False
    if target.sidecar and not _write_file(record, _sidecar(path), force=target.force):
        path.unlink()
        return False
    return True


def _write_file(data: bytes, path: Path, *, force: bool) -> bool:
    """Write a file; return False without writing if it exists and `force` is False."""
    try:
        atomic.write(path, data, mode=atomic.SHARED, overwrite=force)
    except FileExistsError:
        return False
    return True


def _is_folder(path: Path) -> bool:
    """
    Tell whether a path is that of a folder.

    Raises:
        TargetError: Nothing can be written there: the name is too long, or one may not enter a folder on the way.
    """
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as err:
        raise _cant_write(path, err, hint="`-o` names another place") from err


def _refuse_special(path: Path) -> None:
    """
    Refuse a device, a pipe or a socket, which not even `--force` replaces.

    Raises:
        TargetError: There is one, or one may not look.
    """
    try:
        atomic.refuse_special(path)
    except NotADirectoryError:
        pass  # writing will say so
    except OSError as err:
        raise _cant_write(path, err, hint="`-o` names another place") from err


def _cant_write(path: Path, err: OSError, *, hint: str) -> TargetError:
    return TargetError(f"can't write {printable(os.fsdecode(err.filename or path))}: {err.strerror}", hint=hint)


def _exists(path: Path) -> TargetError:
    return TargetError(f"{printable(str(path))} exists already", hint="`--force` replaces it", exists=True)


def _fields(template: str) -> list[tuple[str, str | None]]:
    """Parse a template into pairs of a literal text and the field after it, None at the end."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as err:
        raise InvalidValueError(f"the name {template[:80]!r} is not a template: {err}") from err
    for _, field, spec, conversion in parts:
        if field is not None and (field not in FIELDS or spec or conversion):
            raise InvalidValueError(
                f"unknown field {{{field[:40]}}} in --name",
                hint="the fields are " + ", ".join(f"{{{f}}}" for f in FIELDS),
            )
    return [(literal, field) for literal, field, _, _ in parts]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._]+", "-", _ascii(text).lower()).strip("-._")


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
