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
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from musicgen_cli import atomic, foreign
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.manifest import size_and_sha256
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.tensors import FloatArray, Tensors, WrappedTensors
from musicgen_cli.engine.hardware import has_vnni
from musicgen_cli.engine.quantization.float_decoder import Text
from musicgen_cli.engine.quantization.observers import Matrix
from musicgen_cli.errors import CheckpointError, EngineError, NativeUnsuitedError
from musicgen_cli.extras import needs

GRAPH_FORMAT = 5  # raised with every change of what the graphs compute
TEXT_ENCODER, DECODER_STEP, CODEC_LSTM, CODEC_DECODER = GRAPHS = ("text.onnx", "step.onnx", "frames.onnx", "sound.onnx")
NATIVE, NATIVE_VARIANT, NATIVE_STEP = "native", "int8-native", "step.weights"
KV_SCALES, MANIFEST = "scales.npy", "manifest.json"
MANIFEST_BYTES = 1 << 16
_FILES = {KV_SCALES, NATIVE_STEP, *GRAPHS, *(f"{Path(name).stem}.data" for name in GRAPHS)}

STAGING_PREFIX = ".making-"
_STALE_AFTER_S = 24 * 3600.0  # no process builds a folder for as long as this
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_TARGET_EXISTS = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})

Label = Mapping[str, str | int]  # what a folder was built from
Files = dict[str, tuple[int, str]]  # name → bytes and SHA-256
WriteStep = Callable[[Path, Tensors], tuple[int, str]]  # a new file, the tensors → its bytes and SHA-256
EncodePrompts = Callable[[Path], list[Text]]  # the text encoder's graph → the texts of `calibration.PROMPTS`


# Why the native decoder can't compute a model, found out while its matrices were quantized; a manifest has it then.
OBSTACLE = "obstacle"
NEEDS_BLOCKS = "some of its matrices need scales for blocks of weights, which the native decoder doesn't have"


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
    encode_prompts: EncodePrompts,
    note: Callable[[str], None],
    write_native_step: WriteStep | None = None,
) -> Graphs:
    """
    Return the graphs of a checkpoint: from the cache, or built now.

    Args:
        positions: Steps of the longest clip.
        precision: "int8" or "fp32", of the language model; the codec is always float32.
        encode_prompts: Runs the new text encoder, for the calibration of int8.
        note: Called with a line when graphs are being built, and when they can't be cached.
        write_native_step: Writes the decoder step for the native decoder; None means that it is a graph.

    Raises:
        CheckpointError: The checkpoint lacks a tensor, or has one that can't be used; or its graphs could have been
            changed by others, and it has no weights to make them again.
        EngineError: There is no disk space for the graphs.
        NativeUnsuitedError: The model is to be computed on ONNX Runtime; `is_unsuited` says so from now on.
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
    if not checkpoint.weights and (reason := who_else(folder)) is not None:
        raise CheckpointError(
            f"the prepared {checkpoint.name} in {str(folder)!r} is not used: {reason}",
            hint="a copy of the model's folder that belongs to you alone can be used, and so can a new pull",
        )
    note(f"preparing {checkpoint.name} for {'the native decoder' if write_native_step else 'ONNX Runtime'}, once")
    builder = _Builder(checkpoint, shape, label, encode_prompts, write_native_step)
    if home.is_dir() and (reason := foreign.who_else(home.stat(), trusted=(foreign.ROOT,))) is not None:
        note(f"{home} is not used: {reason}; the prepared model is for this run only")
        return _build_temporary(builder)
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
    except NativeUnsuitedError:
        _publish(staging, folder, label)
        raise
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


def is_unsuited(folder: Path) -> bool:
    """Return whether a folder for the native decoder says that the model is to be computed on ONNX Runtime."""
    try:
        return OBSTACLE in json.loads(foreign.read(folder / MANIFEST, MANIFEST_BYTES))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


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
        step = NATIVE_STEP if label.get("decoder") == NATIVE else DECODER_STEP
        needed = {TEXT_ENCODER, step, CODEC_LSTM, CODEC_DECODER}
        if manifest != label or not needed <= files.keys() <= _FILES:
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


def build_text_encoder(directory: Path, shape: Shape, tensors: Tensors) -> Path:
    """Write the graph of the text encoder in float32, alone, into a folder, and return its path."""
    with needs("local"):
        from musicgen_cli.engine.onnx.graph_builder import Graph
    from musicgen_cli.engine.onnx.text_encoder import write_text_encoder

    with Graph(directory, Path(TEXT_ENCODER).stem) as graph:
        write_text_encoder(graph, shape, tensors)
    return directory / TEXT_ENCODER


def read_every_tensor(shape: Shape, tensors: Tensors) -> int:
    """
    Read each tensor from which graphs are built, and return how many there are.

    Raises:
        CheckpointError: One is missing, has another shape, or has a value that is infinite or NaN.
    """
    with needs("local"):
        from musicgen_cli.engine.onnx.graph_builder import UnwrittenGraph
    from musicgen_cli.engine.onnx.codec_decoder import write_codec_decoder, write_codec_lstm
    from musicgen_cli.engine.onnx.decoder_step import write_decoder_step
    from musicgen_cli.engine.onnx.text_encoder import write_text_encoder

    names: set[str] = set()
    recorded = _RecordedTensors(tensors, names)
    codebooks = shape.decoder.codebooks // shape.decoder.channels
    write_text_encoder(UnwrittenGraph(), shape, recorded)
    write_decoder_step(UnwrittenGraph(), shape.decoder, recorded, positions=1)
    write_codec_lstm(UnwrittenGraph(), shape.codec, recorded, codebooks=codebooks)
    write_codec_decoder(UnwrittenGraph(), shape.codec, recorded)
    return len(names)


class _RecordedTensors(WrappedTensors):
    """Tensors that note which of them are read."""

    def __init__(self, tensors: Tensors, names: set[str]) -> None:
        super().__init__(tensors)
        self._names = names

    def read(self, name: str, *shape: int) -> FloatArray:
        self._names.add(name)
        return super().read(name, *shape)


@dataclass(frozen=True, slots=True)
class _Builder:
    """Builds a folder."""

    checkpoint: Checkpoint
    shape: Shape
    label: Label
    encode_prompts: EncodePrompts
    write_native_step: WriteStep | None

    def build(self, directory: Path) -> None:
        """Write all graphs, the scales and the manifest."""
        tensors = self.checkpoint.tensors()
        files = self._graphs(directory, tensors)
        if self._is_int8:
            from musicgen_cli.engine.quantization.calibration import calibrate

            calibration = calibrate(self.shape.decoder, tensors, self.encode_prompts(directory / TEXT_ENCODER))
            if self.write_native_step and calibration.in_blocks:
                self._write_manifest(directory, {OBSTACLE: NEEDS_BLOCKS, "files": {}})
                raise NativeUnsuitedError(
                    f"the native decoder can't compute {self.checkpoint.name}: {NEEDS_BLOCKS}",
                    hint="use `--engine onnx`",
                )
            files |= self._step(directory, calibration.tensors, calibration.in_blocks)
            files[KV_SCALES] = _write_array(directory / KV_SCALES, calibration.kv_scales)
        else:
            files |= self._step(directory, tensors)
        entries = {name: {"bytes": size, "sha256": sha256} for name, (size, sha256) in files.items()}
        self._write_manifest(directory, {"files": entries})

    def _write_manifest(self, directory: Path, members: Mapping[str, object]) -> None:
        manifest = json.dumps({**self.label, **members}, indent=1) + "\n"
        atomic.write_new(directory / MANIFEST, manifest.encode(), durable=False)

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

    def _step(self, directory: Path, tensors: Tensors, in_blocks: AbstractSet[Matrix] = frozenset()) -> Files:
        """Write the decoder step."""
        if self.write_native_step:
            return {NATIVE_STEP: self.write_native_step(directory / NATIVE_STEP, tensors)}
        from musicgen_cli.engine.onnx.decoder_step import write_decoder_step
        from musicgen_cli.engine.onnx.graph_builder import Graph

        bits, positions = 8 if self._is_int8 else 32, int(self.label["positions"])
        with Graph(directory, Path(DECODER_STEP).stem, weight_bits=bits, signed_weights=has_vnni()) as decoder_step:
            write_decoder_step(
                *(decoder_step, self.shape.decoder, tensors),
                positions=positions,
                int8_kv=self._is_int8,
                in_blocks=in_blocks,
            )
        return decoder_step.files


def _write_array(path: Path, values: FloatArray) -> tuple[int, str]:
    """Write an array; return the file's size and SHA-256."""
    content = io.BytesIO()
    np.save(content, values)
    atomic.write_new(path, content.getvalue(), durable=False)
    return len(content.getvalue()), hashlib.sha256(content.getvalue()).hexdigest()


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
    atomic.make_private_folder(home)
    for leftover in home.glob(f"{STAGING_PREFIX}*"):
        with suppress(OSError):
            if time.time() - leftover.lstat().st_mtime > _STALE_AFTER_S:
                shutil.rmtree(leftover, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=home))


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
    aside = target.with_name(f"{STAGING_PREFIX}{os.urandom(8).hex()}")
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
