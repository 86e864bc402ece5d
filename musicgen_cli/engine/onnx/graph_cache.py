"""
Caches the graphs of a checkpoint, which can be built from it again at any time.

    <cache_dir>/graphs/<digest>-<precision>-v<format>/
        text.onnx       the text encoder
        step.onnx       the decoder step
        frames.onnx     the codec LSTM
        sound.onnx      the codec decoder
        *.data          the weights of each: text.data and so on
        scales.npy      the scales of the int8 KV cache, only with the precision int8
        manifest.json   what they were built from; size and SHA-256 of each file

A folder is built under a temporary name and renamed when it is complete, so several processes can build the same one at
once. A folder that doesn't match its manifest is built again. Nothing is synced to disk: the hashes reveal what a power
cut damages. They don't tell who made the files, so a folder that another user than root could have written is not used.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from musicgen_cli import atomic, foreign
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.manifest import size_and_sha256
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine.hardware import has_vnni
from musicgen_cli.errors import CheckpointError, EngineError
from musicgen_cli.extras import needs

GRAPH_FORMAT = 4  # raised with every change of what the graphs compute
TEXT_ENCODER, DECODER_STEP, CODEC_LSTM, CODEC_DECODER = GRAPHS = ("text.onnx", "step.onnx", "frames.onnx", "sound.onnx")
KV_SCALES, MANIFEST = "scales.npy", "manifest.json"
MANIFEST_BYTES = 1 << 16
_FILES = {KV_SCALES, *GRAPHS, *(f"{Path(name).stem}.data" for name in GRAPHS)}

_STAGING_PREFIX = ".making-"
_STALE_AFTER_S = 24 * 3600.0  # no process builds a folder for as long as this
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_TARGET_EXISTS = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})

Label = Mapping[str, str | int]  # what a folder was built from
Calibrate = Callable[[Path, FloatArray], FloatArray]  # folder of the graphs, bounds of keys and values → scales


@dataclass(frozen=True, slots=True)
class Graphs:
    """A complete folder of graphs."""

    directory: Path
    temporary: tempfile.TemporaryDirectory[str] | None = None  # where the cache couldn't be written

    def scales(self) -> FloatArray | None:
        """Return the scales of the int8 KV cache, or None if the KV cache is float32."""
        path = self.directory / KV_SCALES
        return np.load(path) if path.exists() else None

    def close(self) -> None:
        """Remove the folder if it is temporary."""
        if self.temporary:
            self.temporary.cleanup()


def prepare_graphs(
    checkpoint: Checkpoint,
    shape: Shape,
    *,
    positions: int,
    cache_dir: Path,
    precision: str,
    calibrate: Calibrate,
    note: Callable[[str], None],
) -> Graphs:
    """
    Return the graphs of a checkpoint: from the cache, or built now.

    Args:
        positions: Steps of the longest clip.
        precision: "int8" or "fp32", of the language model; the codec is always float32.
        calibrate: Finds the scales of the int8 KV cache by running the new graphs.
        note: Called with a line when graphs are being built, and when they can't be cached.

    Raises:
        CheckpointError: The checkpoint lacks a tensor, or has one that can't be used; or its graphs could have been
            changed by others, and it has no weights to make them again.
        EngineError: There is no disk space for the graphs.
    """
    home = cache_dir / "graphs"
    folder = home / f"{checkpoint.digest}-{precision}-v{GRAPH_FORMAT}"
    label: Label = {
        "format": GRAPH_FORMAT,
        "checkpoint": checkpoint.digest,
        "precision": precision,
        "positions": positions,
    }
    if is_intact(folder, label):
        return Graphs(folder)
    if not checkpoint.weights and (reason := who_else(folder)) is not None:
        raise CheckpointError(
            f"the prepared {checkpoint.name} in {str(folder)!r} is not used: {reason}",
            hint="a copy of the model's folder that belongs to you alone can be used, and so can a new pull",
        )
    note(f"preparing {checkpoint.name} for ONNX Runtime, once")
    try:
        staging = _staging_folder(home)
    except OSError as err:
        if err.errno in _DISK_FULL:
            raise _disk_error(home, err) from err
        note(f"can't write to {home} ({err.strerror}): the prepared model is for this run only")
        return _build_temporary(checkpoint, shape, label, calibrate)
    try:
        _build(staging, checkpoint, shape, label, calibrate)
        return Graphs(_publish(staging, folder, label))
    except BaseException as err:
        shutil.rmtree(staging, ignore_errors=True)
        if isinstance(err, OSError):
            raise _disk_error(home, err) from err
        raise


def is_intact(directory: Path, label: Label) -> bool:
    """
    Return whether a folder was built from `label` and matches its manifest to the byte.

    Reads every file: about 0.6 s per gigabyte from the page cache on two cores, 3 s from a disk. The graphs are then in
    the page cache when they are loaded.
    """
    try:
        if who_else(directory) is not None:
            return False
        manifest = json.loads(foreign.read(directory / MANIFEST, MANIFEST_BYTES))
        files = {name: (entry["bytes"], entry["sha256"]) for name, entry in manifest.pop("files").items()}
        if manifest != label or not set(GRAPHS) <= files.keys() <= _FILES:
            return False
        if any((directory / name).stat().st_size != size for name, (size, _) in files.items()):
            return False
        with ThreadPoolExecutor(len(files)) as pool:  # hashing releases the GIL
            identities = pool.map(size_and_sha256, [directory / name for name in files])
            return list(identities) == list(files.values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def who_else(directory: Path) -> str | None:
    """
    Say who else than this user and root could have changed graphs; None if nobody can, or if there are none.

    ONNX Runtime runs them, and hashes beside them prove nothing.
    """
    try:
        for path in (directory, *directory.iterdir()):
            if (reason := foreign.who_else(path.lstat(), trusted=(foreign.ROOT,))) is not None:
                return reason
    except (FileNotFoundError, NotADirectoryError):
        pass  # there are none
    return None


def _build(directory: Path, checkpoint: Checkpoint, shape: Shape, label: Label, calibrate: Calibrate) -> None:
    """Write all graphs, the scales and the manifest into a folder."""
    with needs("local"):  # imports onnx, which nothing but building graphs needs
        from musicgen_cli.engine.onnx.graph_builder import Graph
    from musicgen_cli.engine.onnx.codec_decoder import write_codec_decoder, write_codec_lstm
    from musicgen_cli.engine.onnx.decoder_step import kv_bounds, write_decoder_step
    from musicgen_cli.engine.onnx.text_encoder import write_text_encoder

    tensors = checkpoint.tensors()
    int8 = label["precision"] == "int8"
    # Run once per prompt, the text encoder needn't be fast, and in 8 bits it alone would cause a quarter of the error.
    with Graph(directory, Path(TEXT_ENCODER).stem, weight_bits=16 if int8 else 32) as text_encoder:
        write_text_encoder(text_encoder, shape, tensors)
    with Graph(
        directory, Path(DECODER_STEP).stem, weight_bits=8 if int8 else 32, signed_weights=has_vnni()
    ) as decoder_step:
        write_decoder_step(decoder_step, shape.decoder, tensors, positions=int(label["positions"]), int8_kv=int8)
    with Graph(directory, Path(CODEC_LSTM).stem) as codec_lstm:
        write_codec_lstm(codec_lstm, shape.codec, tensors, codebooks=shape.decoder.codebooks // shape.decoder.channels)
    with Graph(directory, Path(CODEC_DECODER).stem) as codec_decoder:
        write_codec_decoder(codec_decoder, shape.codec, tensors)
    files = {
        name: {"bytes": size, "sha256": sha256}
        for graph in (text_encoder, decoder_step, codec_lstm, codec_decoder)
        for name, (size, sha256) in graph.files.items()
    }
    if int8:
        content = io.BytesIO()
        np.save(content, calibrate(directory, kv_bounds(shape.decoder, tensors)))
        atomic.write_new(directory / KV_SCALES, content.getvalue(), durable=False)
        sha256 = hashlib.sha256(content.getvalue()).hexdigest()
        files[KV_SCALES] = {"bytes": len(content.getvalue()), "sha256": sha256}
    manifest = json.dumps({**label, "files": files}, indent=1) + "\n"
    atomic.write_new(directory / MANIFEST, manifest.encode(), durable=False)


def _build_temporary(checkpoint: Checkpoint, shape: Shape, label: Label, calibrate: Calibrate) -> Graphs:
    """Build the graphs in a temporary folder, which is removed when they are closed."""
    try:
        temporary = tempfile.TemporaryDirectory(prefix="musicgen-")
        try:
            _build(Path(temporary.name), checkpoint, shape, label, calibrate)
        except BaseException:
            temporary.cleanup()
            raise
    except OSError as err:
        raise _disk_error(Path(tempfile.gettempdir()), err) from err
    return Graphs(Path(temporary.name), temporary)


def _staging_folder(home: Path) -> Path:
    """
    Create a folder to build in, and remove those that killed processes left behind.

    Raises:
        OSError: It can't be created, or others could replace what is in `home`.
    """
    atomic.make_private_folder(home)
    if (reason := foreign.who_else(home.stat(), trusted=(foreign.ROOT,))) is not None:
        raise OSError(errno.EPERM, reason, str(home))
    for leftover in home.glob(f"{_STAGING_PREFIX}*"):
        with suppress(OSError):
            if time.time() - leftover.lstat().st_mtime > _STALE_AFTER_S:
                shutil.rmtree(leftover, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=_STAGING_PREFIX, dir=home))


def _publish(staging: Path, target: Path, label: Label) -> Path:
    """Rename a complete folder to its final name, replacing a damaged one, and return where the graphs are."""
    try:
        return staging.rename(target)
    except OSError as err:
        if err.errno not in _TARGET_EXISTS:
            raise
    if is_intact(target, label):  # another process was first
        shutil.rmtree(staging, ignore_errors=True)
        return target
    aside = target.with_name(f"{_STAGING_PREFIX}{os.urandom(8).hex()}")
    with suppress(FileNotFoundError):  # another process moved it first
        target.rename(aside)  # within the same folder, which is allowed even if it is another user's
    shutil.rmtree(aside, ignore_errors=True)
    with suppress(OSError):
        aside.unlink()  # it was no folder
    return staging.rename(target)


def _disk_error(home: Path, err: OSError) -> EngineError:
    return EngineError(
        f"can't write the model's graphs to {home}: {err.strerror or err}",
        hint="they need as much disk space as the weights",
    )
