"""
Builds a gallery: a folder with a page of takes, `index.html`, and copies of their sounds in `audio`.

The sounds are written first, each under its SHA-256, and then the page, atomically: an interrupted build leaves the old
page and its sounds. Nothing is deleted: a sound that is no longer on the page may be the last copy.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from musicgen_cli import atomic, foreign
from musicgen_cli.actions.gallery.page import BARS, MARK, GalleryTake, render
from musicgen_cli.audio.waveform import peaks
from musicgen_cli.errors import DamagedError, InvalidWavError, TargetError, UsageError
from musicgen_cli.limits import EMBED_BYTES
from musicgen_cli.store import Artifact, Store
from musicgen_cli.store.digest import Digest, is_sha256
from musicgen_cli.text import printable, size

PAGE = "index.html"
AUDIO = "audio"
_MARK_WITHIN = 4096  # bytes from the start of a gallery's page


@dataclass(frozen=True, slots=True)
class Gallery:
    """A gallery that was built."""

    page: Path
    takes: int  # on the page
    damaged: int  # takes that are not on the page because their sound is damaged
    unused: int  # sounds in its folder that are not on the page


def check(folder: Path, takes: Sequence[Artifact], *, embed: bool, force: bool) -> None:
    """
    Check that a gallery can be built, before anything is written.

    Args:
        embed: Put the sounds into the page.
        force: Replace a page that is not a gallery's.

    Raises:
        UsageError: The sounds are too large to embed.
        TargetError: The folder is a file, or has a page that is not a gallery's and `force` is False.
    """
    total = sum(take.bytes for take in takes)
    if embed and total > EMBED_BYTES:
        raise UsageError(
            f"the sounds take {size(total)}, and a page can hold at most {size(EMBED_BYTES)} of them",
            hint="choose fewer takes with -n or a filter; without --embed the sounds lie beside the page",
        )
    target = folder / PAGE
    try:
        if folder.exists() and not folder.is_dir():
            raise TargetError(f"{printable(str(folder))} is not a folder", hint="`-o DIR` names another")
        if target.is_dir():
            raise TargetError(f"{printable(str(target))} is a folder", hint="`-o DIR` names another place")
        atomic.refuse_special(target)
        if (target.exists() or target.is_symlink()) and not force and not _is_gallery(target):
            raise TargetError(
                f"{printable(str(target))} is not a gallery's page",
                hint="`-o DIR` names another folder; `--force` replaces the page",
            )
    except OSError as err:
        raise _target_error("read", folder, err) from err


def build(
    folder: Path,
    takes: Sequence[Artifact],
    store: Store,
    *,
    embed: bool,
    on_damaged: Callable[[Artifact, DamagedError], None],
    on_progress: Callable[[int, int], None],
) -> Gallery:
    """
    Build a gallery, or bring an existing one up to date. Call `check` first.

    Args:
        takes: The newest first.
        embed: Put the sounds into the page.
        on_damaged: Called with each take that is not on the page because its sound is damaged.
        on_progress: Called with the number of bytes of sound that are done, and their total.

    Raises:
        TargetError: A file can't be written; the page is as it was.
    """
    total, done = sum(take.bytes for take in takes), 0
    shown = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for take in takes:
            try:
                wav = store.read_blob(take)
                bars = [max(-low, high) for low, high in peaks(wav, BARS)]
            except DamagedError as err:
                on_damaged(take, err)
            except InvalidWavError as err:
                on_damaged(take, DamagedError(str(err)))
            else:
                href = _data_url(wav) if embed else _copy(wav, take.digest, folder)
                shown.append(GalleryTake(take, href, bars))
            done += take.bytes
            on_progress(done, total)
        atomic.write(folder / PAGE, render(shown, embedded=embed), mode=atomic.SHARED)
        unused = _unused(folder, {take.artifact.content_hash for take in shown} if not embed else set())
    except OSError as err:
        raise _target_error("write", folder, err) from err
    return Gallery(folder / PAGE, len(shown), len(takes) - len(shown), unused)


def show(page: Path) -> bool:
    """Show a page in the user's browser, the one that BROWSER names if that is set; False if none can be started."""
    import webbrowser

    return webbrowser.open(page.resolve().as_uri())


def _is_gallery(page: Path) -> bool:
    """Tell whether a page was written by `build`; a link to one doesn't count."""
    if page.is_symlink() or not page.is_file():
        return False
    with foreign.open_file(page) as file:
        return MARK.encode() in file.read(_MARK_WITHIN)


def _data_url(wav: bytes) -> str:
    return f"data:audio/wav;base64,{base64.b64encode(wav).decode()}"


def _copy(wav: bytes, digest: Digest, folder: Path) -> str:
    """Copy a sound unless the copy is there and intact; return its URL, relative to the page."""
    path = folder / AUDIO / f"{digest.hex}.wav"
    path.parent.mkdir(exist_ok=True)
    if not _holds(path, digest):
        # Not durable: the next build checks its bytes.
        atomic.write(path, wav, mode=atomic.SHARED, durable=False)
    return f"{AUDIO}/{path.name}"


def _holds(path: Path, digest: Digest) -> bool:
    """Tell whether a path is a file with these bytes, and no link to one."""
    if path.is_symlink() or not path.is_file():
        return False
    with foreign.open_file(path) as file:
        return Digest.of_file(file) == digest


def _unused(folder: Path, used: set[str]) -> int:
    """Count the copies of sounds whose digest is not in `used`."""
    audio = folder / AUDIO
    names = {path.stem for path in audio.glob("*.wav") if is_sha256(path.stem)} if audio.is_dir() else set()
    return len(names - used)


def _target_error(action: str, folder: Path, err: OSError) -> TargetError:
    path = printable(os.fsdecode(err.filename or folder))
    return TargetError(f"can't {action} {path}: {err.strerror}", hint="`-o DIR` names another folder")
