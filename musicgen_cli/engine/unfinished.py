"""
Codes of clips that aren't finished, in the cache.

A long clip takes minutes, and its codes are small. They are written after each of its windows, so that the same request
goes on from there after the process that made it was killed or the service restarted. As the random numbers of a clip
depend on frame numbers alone, it has the same bytes as one that was made at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from musicgen_cli import atomic, foreign
from musicgen_cli._version import __version__
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import Inputs, Origin
from musicgen_cli.engine.decoding.delay_pattern import IntArray
from musicgen_cli.engine.decoding.sampling import SAMPLER_VERSION

_MOST_FILES = 64  # the oldest go first
_KEPT_S = 7 * 24 * 3600.0
_MAGIC = b"musicgen codes 1\n"
_SHAPE = struct.Struct("<HI")  # codebooks, frames
_HEAD_BYTES = len(_MAGIC) + _SHAPE.size
_MOST_BYTES = 4 << 20  # of a file; 600 s of a stereo model with 8 codebooks have 480 KB
_SUFFIX = ".codes"


def key_of(origin: Origin, checkpoint: str, request: GenerateRequest, inputs: Inputs) -> str:
    """
    Return the name under which the codes of a clip are kept: a digest of everything that they depend on.

    Args:
        origin: Of the engine.
        checkpoint: The digest of the model.
        request: With its seed.
        inputs: What it is made from.
    """
    made_by = [__version__, SAMPLER_VERSION, checkpoint, origin.engine, origin.precision, origin.device]
    text = json.dumps([made_by, _clip(request, inputs)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class UnfinishedClips:
    """A folder with the codes of clips that aren't finished; it holds a bounded number of them, for some days."""

    def __init__(self, folder: Path) -> None:
        """
        Open a folder, which is made when it is first needed.

        Args:
            folder: Private to this user.
        """
        self._folder = folder

    def load(self, key: str, *, codebooks: int, vocab: int, ends: Collection[int]) -> IntArray | None:
        """
        Return the codes of a clip.

        Args:
            key: What `key_of` returned.
            codebooks: Of the model.
            vocab: Codes of a codebook.
            ends: The numbers of frames that there can be.

        Returns:
            Shape ``(codebooks, frames)``; None if there are none, or the file is damaged or not this user's.
        """
        path = self._path(key)
        try:
            with foreign.open_file(path, follow=False) as file:
                if foreign.who_else(os.fstat(file.fileno())) is not None:
                    return None
                data = foreign.read_all(file, _MOST_BYTES)
        except OSError:  # mostly there is none
            return None
        head, body, digest = data[:_HEAD_BYTES], data[_HEAD_BYTES:-32], data[-32:]
        if not head.startswith(_MAGIC) or len(head) < _HEAD_BYTES or digest != _digest(key, head + body):
            return None
        rows, frames = _SHAPE.unpack(head[len(_MAGIC) :])
        if rows != codebooks or frames not in ends or len(body) != 2 * rows * frames:
            return None
        codes = np.frombuffer(body, "<u2").reshape(rows, frames).astype(np.int64)
        return codes if codes.max(initial=0) < vocab else None

    def save(self, key: str, codes: IntArray) -> None:
        """
        Keep the codes of a clip, in place of those that were kept before. A failure is ignored: the clip is made still.

        Args:
            key: What `key_of` returned.
            codes: Shape ``(codebooks, frames)``.
        """
        head = _MAGIC + _SHAPE.pack(*codes.shape)
        body = codes.astype("<u2").tobytes()
        with suppress(OSError):
            atomic.make_private_folder(self._folder)
            # Not synced: what a power cut damages is recognised by its digest.
            atomic.write(self._path(key), head + body + _digest(key, head + body), durable=False)
            self._prune()

    def remove(self, key: str) -> None:
        """Forget a clip, which is finished."""
        atomic.discard(self._path(key))

    def _prune(self) -> None:
        """Remove what is old or too much, and what crashes have left."""
        oldest = time.time() - _KEPT_S
        found = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX) or entry.name.startswith(atomic.TEMPORARY):
                    with suppress(FileNotFoundError):  # another process is quicker
                        found.append((entry.stat(follow_symlinks=False).st_mtime, entry.path))
        found.sort(reverse=True)
        for number, (changed, path) in enumerate(found):
            if number >= _MOST_FILES or changed < oldest:
                atomic.discard(Path(path))

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{_SUFFIX}"


def _clip(request: GenerateRequest, inputs: Inputs) -> Mapping[str, Any]:
    """Return everything that the codes of a clip depend on beside the engine."""
    recipe = inputs.recipe
    return {
        "request": request.model_dump(exclude={"client_job_id"}),
        "overlap": inputs.overlap,
        "continue": None if inputs.continue_wav is None else hashlib.sha256(inputs.continue_wav).hexdigest(),
        "continue_sha256": inputs.continue_sha256,
        "continue_offset_s": inputs.continue_offset_s,
        "melody": None if inputs.melody_wav is None else hashlib.sha256(inputs.melody_wav).hexdigest(),
        "recipe": None if recipe is None else [recipe.checkpoint, _clip(recipe.request, recipe.inputs)],
    }


def _digest(key: str, data: bytes) -> bytes:
    """Return the digest of a file's bytes, which are another clip's under another name."""
    return hashlib.sha256(key.encode() + data).digest()
