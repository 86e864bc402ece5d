"""
Takes → a folder that a browser can show: `index.html`, and copies of the sounds in `audio` beside it.

The sounds come first, each under its SHA-256, then the page in one step: a build that is cut off leaves the old page
whole. Nothing is ever deleted: a sound that the page no longer has may be the last copy.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from musicgen_cli import atomic
from musicgen_cli.actions.gallery.page import BARS, MARK, Sound, page
from musicgen_cli.audio.waveform import peaks
from musicgen_cli.errors import DamagedError, InvalidWavError, TargetError, UsageError
from musicgen_cli.limits import EMBED_BYTES
from musicgen_cli.store import Artifact, Store
from musicgen_cli.store.digest import Digest, is_sha256
from musicgen_cli.text import printable, size

PAGE = "index.html"
AUDIO = "audio"
_MARK_WITHIN = 4096  # bytes from the start of a page of ours


@dataclass(frozen=True, slots=True)
class Gallery:
    """What was made."""

    page: Path
    takes: int  # on the page
    damaged: int  # takes that were left out
    unused: int  # sounds that lie in its folder and aren't on the page


def check(folder: Path, takes: Sequence[Artifact], *, embed: bool, force: bool) -> None:
    """
    Look whether the gallery may be made, before anything is.

    Raises:
        UsageError: There is too much sound to embed.
        TargetError: The folder is a file, or has a page that no gallery made and `force` wasn't given.
    """
    total = sum(take.bytes for take in takes)
    if embed and total > EMBED_BYTES:
        raise UsageError(
            f"the sounds take {size(total)}, and a page can hold at most {size(EMBED_BYTES)} of them",
            hint="choose fewer with -n or a filter; without --embed they lie beside the page",
        )
    target = folder / PAGE
    try:
        if folder.exists() and not folder.is_dir():
            raise TargetError(f"{printable(str(folder))} is not a folder", hint="`-o DIR` names another")
        if target.is_dir():
            raise TargetError(f"{printable(str(target))} is a folder", hint="`-o DIR` names another place")
        if (target.exists() or target.is_symlink()) and not force and not _is_ours(target):
            raise TargetError(
                f"{printable(str(target))} is no gallery's page",
                hint="`-o DIR` names another folder; `--force` replaces the page",
            )
    except OSError as err:
        raise _unreadable("read", folder, err) from err


def build(
    folder: Path,
    takes: Sequence[Artifact],
    store: Store,
    *,
    embed: bool,
    left_out: Callable[[Artifact, DamagedError], None],
    done: Callable[[int, int], None],
) -> Gallery:
    """
    Make the gallery, or bring it up to date; `check` comes first.

    Args:
        takes: The newest first.
        embed: Put the sounds into the page.
        left_out: Hears of each take whose sound is damaged.
        done: Hears how many bytes of sound of how many have been copied.

    Raises:
        TargetError: Something can't be written; the page is as it was.
    """
    total, copied = sum(take.bytes for take in takes), 0
    sounds = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for take in takes:
            try:
                wav = store.read_blob(take)
                drawn = [max(-low, high) for low, high in peaks(wav, BARS)]
            except DamagedError as err:
                left_out(take, err)
            except InvalidWavError as err:
                left_out(take, DamagedError(str(err)))
            else:
                href = _data_url(wav) if embed else _copy(wav, take.digest, folder)
                sounds.append(Sound(take, href, drawn))
            copied += take.bytes
            done(copied, total)
        atomic.write(folder / PAGE, page(sounds, embedded=embed), mode=atomic.SHARED)
        unused = _unused(folder, {sound.take.content_hash for sound in sounds} if not embed else set())
    except OSError as err:
        raise _unreadable("write", folder, err) from err
    return Gallery(folder / PAGE, len(sounds), len(takes) - len(sounds), unused)


def _is_ours(page: Path) -> bool:
    if page.is_symlink() or not page.is_file():
        return False
    with page.open("rb") as file:
        return MARK.encode() in file.read(_MARK_WITHIN)


def _data_url(wav: bytes) -> str:
    return f"data:audio/wav;base64,{base64.b64encode(wav).decode()}"


def _copy(wav: bytes, digest: Digest, folder: Path) -> str:
    """Copy a sound, unless the right bytes are there, and return its address as seen from the page."""
    path = folder / AUDIO / f"{digest.hex}.wav"
    path.parent.mkdir(exist_ok=True)
    if not _holds(path, digest):
        # Not durable, since `_holds` checks it when the gallery is next made.
        atomic.write(path, wav, mode=atomic.SHARED, durable=False)
    return f"{AUDIO}/{path.name}"


def _holds(path: Path, digest: Digest) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return Digest.of_file(file) == digest


def _unused(folder: Path, used: set[str]) -> int:
    audio = folder / AUDIO
    names = {path.stem for path in audio.glob("*.wav") if is_sha256(path.stem)} if audio.is_dir() else set()
    return len(names - used)


def _unreadable(doing: str, folder: Path, err: OSError) -> TargetError:
    path = printable(os.fsdecode(err.filename or folder))
    return TargetError(f"can't {doing} {path}: {err.strerror}", hint="`-o DIR` names another folder")
