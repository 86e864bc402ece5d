"""
Keeps the graphs of a checkpoint, which can be made again from it at any time.

    <cache_dir>/graphs/<digest>-<precision>-v<format>/
        text.onnx  step.onnx  frames.onnx  sound.onnx, and the weights of each, text.data and so on
        scales.npy          how finely 8 bits hold keys and values, only in int8
        manifest.json       what they were made of; size and SHA-256 of each

A folder is made under another name and renamed when it is whole, so processes that make the same one don't meet. One
that isn't what its manifest says is made again. Nothing is synced to disk: what a power cut spoils, the hashes show.
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
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine.hardware import prefers_signed
from musicgen_cli.errors import EngineError
from musicgen_cli.extras import needs

GRAPH_FORMAT = 4  # raised with every change of what graphs make of a request
TEXT_ENCODER, DECODER_STEP, CODEC_LSTM, CODEC_DECODER = GRAPHS = ("text.onnx", "step.onnx", "frames.onnx", "sound.onnx")
KV_SCALES, MANIFEST = "scales.npy", "manifest.json"

_MAKING = ".making-"
_ABANDONED_S = 24 * 3600.0  # whoever has been making a folder for so long is gone
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_IN_THE_WAY = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})

Label = Mapping[str, str | int]  # what a folder was made of
Calibrate = Callable[[Path, FloatArray], FloatArray]  # graphs, and what no key or value exceeds → scales


@dataclass(frozen=True, slots=True)
class Graphs:
    """A folder of graphs that is whole."""

    directory: Path
    temporary: tempfile.TemporaryDirectory[str] | None = None  # it couldn't be kept

    def scales(self) -> FloatArray | None:
        """Return the scales of keys and values, or None if they are kept in float32."""
        path = self.directory / KV_SCALES
        return np.load(path) if path.exists() else None

    def close(self) -> None:
        """Remove the folder if it is of no use to the next run."""
        if self.temporary:
            self.temporary.cleanup()


def graphs_of(
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
    Find the graphs of a checkpoint, or make them.

    Args:
        positions: Steps of the longest clip.
        precision: "int8" or "fp32", of the language model; the sound is always made in float32.
        calibrate: Tries out the graphs, once they are made in int8.
        note: Hears that graphs are being made, and that they can't be kept.

    Raises:
        CheckpointError: The checkpoint doesn't have what the graphs need.
        EngineError: There is no room for them.
    """
    home = cache_dir / "graphs"
    kept = home / f"{checkpoint.digest}-{precision}-v{GRAPH_FORMAT}"
    label: Label = {
        "format": GRAPH_FORMAT,
        "checkpoint": checkpoint.digest,
        "precision": precision,
        "positions": positions,
    }
    if is_whole(kept, label):
        return Graphs(kept)
    note(f"preparing {checkpoint.name} for ONNX Runtime, once")
    try:
        making = _folder(home)
    except OSError as err:
        if err.errno in _FULL:
            raise _no_room(home, err) from err
        note(f"can't write to {home} ({err.strerror}): what is prepared serves this run only")
        return _for_this_run(checkpoint, shape, label, calibrate)
    try:
        _make(making, checkpoint, shape, label, calibrate)
        return Graphs(_keep(making, kept, label))
    except BaseException as err:
        shutil.rmtree(making, ignore_errors=True)
        if isinstance(err, OSError):
            raise _no_room(home, err) from err
        raise


def is_whole(directory: Path, label: Label) -> bool:
    """
    Tell whether a folder was made of `label` and is what its manifest says, to the byte.

    Reads everything: about 0.6 s a gigabyte from the page cache, on two cores, 3 s from a disk. What was read is in the
    page cache when the graphs are loaded.
    """
    try:
        manifest = json.loads((directory / MANIFEST).read_bytes())
        files = {name: (entry["bytes"], entry["sha256"]) for name, entry in manifest.pop("files").items()}
        if manifest != label or not files.keys() >= set(GRAPHS):
            return False
        if any((directory / name).stat().st_size != size for name, (size, _) in files.items()):
            return False
        with ThreadPoolExecutor(len(files)) as pool:  # hashing lets go of Python's lock
            found = pool.map(size_and_sha256, [directory / name for name in files])
            return list(found) == list(files.values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def _make(directory: Path, checkpoint: Checkpoint, shape: Shape, label: Label, calibrate: Calibrate) -> None:
    with needs("local"):  # onnx, which nothing else needs
        from musicgen_cli.engine.onnx.graph_builder import Graph
    from musicgen_cli.engine.onnx.codec_decoder import write_codec_decoder, write_codec_lstm
    from musicgen_cli.engine.onnx.decoder_step import kv_bounds, write_decoder_step
    from musicgen_cli.engine.onnx.text_encoder import write_text_encoder

    tensors = checkpoint.tensors()
    int8 = label["precision"] == "int8"
    # Read once for a prompt, the text needn't be fast, and in 8 bits it alone would make a quarter of the error.
    with Graph(directory, Path(TEXT_ENCODER).stem, bits=16 if int8 else 32) as text:
        write_text_encoder(text, shape, tensors)
    with Graph(directory, Path(DECODER_STEP).stem, bits=8 if int8 else 32, signed=prefers_signed()) as step:
        write_decoder_step(step, shape.decoder, tensors, positions=int(label["positions"]), int8_kv=int8)
    with Graph(directory, Path(CODEC_LSTM).stem) as frames:
        write_codec_lstm(frames, shape.codec, tensors, codebooks=shape.decoder.codebooks // shape.decoder.channels)
    with Graph(directory, Path(CODEC_DECODER).stem) as sound:
        write_codec_decoder(sound, shape.codec, tensors)
    files = {
        name: {"bytes": size, "sha256": sha256}
        for graph in (text, step, frames, sound)
        for name, (size, sha256) in graph.files.items()
    }
    if int8:
        content = io.BytesIO()
        np.save(content, calibrate(directory, kv_bounds(shape.decoder, tensors)))
        (directory / KV_SCALES).write_bytes(content.getvalue())
        sha256 = hashlib.sha256(content.getvalue()).hexdigest()
        files[KV_SCALES] = {"bytes": len(content.getvalue()), "sha256": sha256}
    (directory / MANIFEST).write_text(json.dumps({**label, "files": files}, indent=1) + "\n", "utf-8")


def _for_this_run(checkpoint: Checkpoint, shape: Shape, label: Label, calibrate: Calibrate) -> Graphs:
    """Make the graphs in a folder that goes with the process."""
    try:
        temporary = tempfile.TemporaryDirectory(prefix="musicgen-")
        try:
            _make(Path(temporary.name), checkpoint, shape, label, calibrate)
        except BaseException:
            temporary.cleanup()
            raise
    except OSError as err:
        raise _no_room(Path(tempfile.gettempdir()), err) from err
    return Graphs(Path(temporary.name), temporary)


def _folder(home: Path) -> Path:
    """Make a folder to fill, and remove those that were left half made long ago."""
    home.mkdir(parents=True, exist_ok=True)
    for left in home.glob(f"{_MAKING}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=_MAKING, dir=home))


def _keep(making: Path, kept: Path, label: Label) -> Path:
    """Give a whole folder its name; what lies there and isn't whole goes."""
    try:
        return making.rename(kept)
    except OSError as err:
        if err.errno not in _IN_THE_WAY:
            raise
    if is_whole(kept, label):  # another process was first
        shutil.rmtree(making, ignore_errors=True)
        return kept
    aside = Path(tempfile.mkdtemp(prefix=_MAKING, dir=kept.parent))
    with suppress(FileNotFoundError):  # another process moved it first
        kept.rename(aside / kept.name)
    shutil.rmtree(aside, ignore_errors=True)
    return making.rename(kept)


def _no_room(home: Path, err: OSError) -> EngineError:
    return EngineError(
        f"can't keep the model's graphs in {home}: {err.strerror or err}", hint="they need as much room as the weights"
    )
