"""
Caches the graphs of a checkpoint, which can be built from it again at any time.

    <cache_dir>/graphs/<digest>-<variant>-v<format>/
        text.onnx       the text encoder
        step.onnx       the decoder step
        frames.onnx     the codec LSTM
        sound.onnx      the codec decoder
        *.data          the weights of each: text.data and so on
        step.weights    in place of the decoder step, in a folder for the native decoder
        scales.npy      the scales of the int8 KV cache, only with the precision int8
        manifest.json   what they were built from; size and SHA-256 of each file

A folder is built under a temporary name and renamed when it is complete, so several processes can build the same one at
once. A folder that doesn't match its manifest is built again. Nothing is synced to disk: the hashes reveal what a power
cut damages.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.manifest import size_and_sha256
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.tensors import FloatArray, Tensors
from musicgen_cli.engine.decoder_tensors import kv_bounds
from musicgen_cli.engine.hardware import has_vnni
from musicgen_cli.errors import EngineError
from musicgen_cli.extras import needs

GRAPH_FORMAT = 4  # raised with every change of what the graphs compute
TEXT_ENCODER, DECODER_STEP, CODEC_LSTM, CODEC_DECODER = GRAPHS = ("text.onnx", "step.onnx", "frames.onnx", "sound.onnx")
NATIVE, NATIVE_VARIANT, NATIVE_STEP = "native", "int8-native", "step.weights"
KV_SCALES, MANIFEST = "scales.npy", "manifest.json"

_STAGING_PREFIX = ".making-"
_STALE_AFTER_S = 24 * 3600.0  # no process builds a folder for as long as this
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_TARGET_EXISTS = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})

Label = Mapping[str, str | int]  # what a folder was built from
Files = dict[str, tuple[int, str]]  # name → bytes and SHA-256
WriteStep = Callable[[Path, Tensors], tuple[int, str]]  # a new file, the tensors → its bytes and SHA-256
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
    write_native_step: WriteStep | None = None,
) -> Graphs:
    """
    Return the graphs of a checkpoint: from the cache, or built now.

    Args:
        positions: Steps of the longest clip.
        precision: "int8" or "fp32", of the language model; the codec is always float32.
        calibrate: Finds the scales of the int8 KV cache by running the new graphs.
        note: Called with a line when graphs are being built, and when they can't be cached.
        write_native_step: Writes the decoder step for the native decoder; None means that it is a graph.

    Raises:
        CheckpointError: The checkpoint lacks a tensor, or has one that can't be used.
        EngineError: There is no disk space for the graphs.
    """
    label: Label = {
        "format": GRAPH_FORMAT,
        "checkpoint": checkpoint.digest,
        "precision": precision,
        "positions": positions,
    }
    if write_native_step:
        label = {**label, "decoder": NATIVE}
    folder = graph_folder(cache_dir, checkpoint.digest, variant(label))
    home = folder.parent
    if is_intact(folder, label):
        return Graphs(folder)
    note(f"preparing {checkpoint.name} for {'the native decoder' if write_native_step else 'ONNX Runtime'}, once")
    builder = _Builder(checkpoint, shape, label, calibrate, write_native_step)
    try:
        staging = _staging_folder(home)
    except OSError as err:
        if err.errno in _DISK_FULL:
            raise _disk_error(home, err) from err
        note(f"can't write to {home} ({err.strerror}): the prepared model is for this run only")
        return _build_temporary(builder)
    try:
        builder.build(staging)
        return Graphs(_publish(staging, folder, label))
    except BaseException as err:
        shutil.rmtree(staging, ignore_errors=True)
        if isinstance(err, OSError):
            raise _disk_error(home, err) from err
        raise


def graph_folder(cache_dir: Path, digest: str, variant: str) -> Path:
    """Return the folder of a checkpoint's graphs, which may not exist."""
    return cache_dir / "graphs" / f"{digest}-{variant}-v{GRAPH_FORMAT}"


def variant(label: Label) -> str:
    """Return the name of what a folder is for: its precision, and its decoder unless that is ONNX Runtime."""
    return NATIVE_VARIANT if label.get("decoder") == NATIVE else str(label["precision"])


def is_intact(directory: Path, label: Label) -> bool:
    """
    Return whether a folder was built from `label` and matches its manifest to the byte.

    Reads every file: about 0.6 s per gigabyte from the page cache on two cores, 3 s from a disk. The graphs are then in
    the page cache when they are loaded.
    """
    try:
        manifest = json.loads((directory / MANIFEST).read_bytes())
        files = {name: (entry["bytes"], entry["sha256"]) for name, entry in manifest.pop("files").items()}
        step = NATIVE_STEP if label.get("decoder") == NATIVE else DECODER_STEP
        if manifest != label or not files.keys() >= {TEXT_ENCODER, step, CODEC_LSTM, CODEC_DECODER}:
            return False
        if any((directory / name).stat().st_size != size for name, (size, _) in files.items()):
            return False
        with ThreadPoolExecutor(len(files)) as pool:  # hashing releases the GIL
            identities = pool.map(size_and_sha256, [directory / name for name in files])
            return list(identities) == list(files.values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


@dataclass(frozen=True, slots=True)
class _Builder:
    """Builds a folder."""

    checkpoint: Checkpoint
    shape: Shape
    label: Label
    calibrate: Calibrate
    write_native_step: WriteStep | None

    def build(self, directory: Path) -> None:
        """Write all graphs, the scales and the manifest."""
        tensors = self.checkpoint.tensors()
        files = self._graphs(directory, tensors) | self._step(directory, tensors)
        if self._is_int8:
            content = io.BytesIO()
            np.save(content, self.calibrate(directory, kv_bounds(self.shape.decoder, tensors)))
            (directory / KV_SCALES).write_bytes(content.getvalue())
            files[KV_SCALES] = (len(content.getvalue()), hashlib.sha256(content.getvalue()).hexdigest())
        entries = {name: {"bytes": size, "sha256": sha256} for name, (size, sha256) in files.items()}
        (directory / MANIFEST).write_text(json.dumps({**self.label, "files": entries}, indent=1) + "\n", "utf-8")

    @property
    def _is_int8(self) -> bool:
        return self.label["precision"] == "int8"

    def _graphs(self, directory: Path, tensors: Tensors) -> Files:
        """Write the text encoder and the codec."""
        with needs("local"):  # imports onnx, which nothing but building graphs needs
            from musicgen_cli.engine.onnx.graph_builder import Graph
        from musicgen_cli.engine.onnx.codec_decoder import write_codec_decoder, write_codec_lstm
        from musicgen_cli.engine.onnx.text_encoder import write_text_encoder

        codec, decoder = self.shape.codec, self.shape.decoder
        # Run once per prompt, the text encoder needn't be fast, and in 8 bits it alone would cause a quarter of the
        # error.
        with Graph(directory, Path(TEXT_ENCODER).stem, weight_bits=16 if self._is_int8 else 32) as text_encoder:
            write_text_encoder(text_encoder, self.shape, tensors)
        with Graph(directory, Path(CODEC_LSTM).stem) as codec_lstm:
            write_codec_lstm(codec_lstm, codec, tensors, codebooks=decoder.codebooks // decoder.channels)
        with Graph(directory, Path(CODEC_DECODER).stem) as codec_decoder:
            write_codec_decoder(codec_decoder, codec, tensors)
        return text_encoder.files | codec_lstm.files | codec_decoder.files

    def _step(self, directory: Path, tensors: Tensors) -> Files:
        """Write the decoder step."""
        if self.write_native_step:
            return {NATIVE_STEP: self.write_native_step(directory / NATIVE_STEP, tensors)}
        from musicgen_cli.engine.onnx.decoder_step import write_decoder_step
        from musicgen_cli.engine.onnx.graph_builder import Graph

        bits, positions = 8 if self._is_int8 else 32, int(self.label["positions"])
        with Graph(directory, Path(DECODER_STEP).stem, weight_bits=bits, signed_weights=has_vnni()) as decoder_step:
            write_decoder_step(decoder_step, self.shape.decoder, tensors, positions=positions, int8_kv=self._is_int8)
        return decoder_step.files


def _build_temporary(builder: _Builder) -> Graphs:
    """Build the graphs in a temporary folder, which is removed when they are closed."""
    try:
        temporary = tempfile.TemporaryDirectory(prefix="musicgen-")
        try:
            builder.build(Path(temporary.name))
        except BaseException:
            temporary.cleanup()
            raise
    except OSError as err:
        raise _disk_error(Path(tempfile.gettempdir()), err) from err
    return Graphs(Path(temporary.name), temporary)


def _staging_folder(home: Path) -> Path:
    """Create a folder to build in, and remove those that killed processes left behind."""
    home.mkdir(parents=True, exist_ok=True)
    for leftover in home.glob(f"{_STAGING_PREFIX}*"):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _STALE_AFTER_S:
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
    aside = Path(tempfile.mkdtemp(prefix=_STAGING_PREFIX, dir=target.parent))
    with suppress(FileNotFoundError):  # another process moved it first
        target.rename(aside / target.name)
    shutil.rmtree(aside, ignore_errors=True)
    return staging.rename(target)


def _disk_error(home: Path, err: OSError) -> EngineError:
    return EngineError(
        f"can't write the model's graphs to {home}: {err.strerror or err}",
        hint="they need as much disk space as the weights",
    )
