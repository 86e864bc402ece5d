"""
Makes the graphs of a checkpoint, in folders of a cache (see `graph_folders`).

    <cache_dir>/graphs/<digest>-<precision>-v<format>/
        text.onnx       the text encoder
        step.onnx       the decoder step
        frames.onnx     the codec LSTM
        sound.onnx      the codec decoder
        *.data          the weights of each: text.data and so on
        step.weights    in place of the decoder step, in a folder for the native decoder
        scales.npy      the scales of the int8 KV cache, only with the precision int8
        pitches.npy     the vectors of the pitch classes, only of a melody model
        manifest.json   what they were built from; size and SHA-256 of each file
    <cache_dir>/graphs/<digest>-encoder-v<format>/
        listen.onnx     the codec encoder
        codes.onnx      the codec quantizer
        *.data, manifest.json

The encoder's folder is only built when a sound is first to be encoded, or when the weights are about to be removed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from musicgen_cli import atomic
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.tensors import FloatArray, Tensors, WrappedTensors
from musicgen_cli.engine.decoding.prefix import pitch_vectors
from musicgen_cli.engine.hardware import has_vnni
from musicgen_cli.engine.onnx.graph_folders import (
    KV_SCALES,
    OBSTACLE,
    Files,
    Graphs,
    Label,
    entries,
    prepare_folder,
    write_manifest,
)
from musicgen_cli.engine.quantization.float_decoder import Text
from musicgen_cli.engine.quantization.observers import Matrix
from musicgen_cli.errors import NativeUnsuitedError
from musicgen_cli.extras import needs

GRAPH_FORMAT = 8  # raised with every change of what the graphs compute
TEXT_ENCODER, DECODER_STEP, CODEC_LSTM, CODEC_DECODER = GRAPHS = ("text.onnx", "step.onnx", "frames.onnx", "sound.onnx")
ENCODER_FORMAT = 1
CODEC_ENCODER, CODEC_QUANTIZER = ENCODER_GRAPHS = ("listen.onnx", "codes.onnx")
NATIVE, NATIVE_VARIANT, NATIVE_STEP = "native", "int8-native", "step.weights"
PITCH_VECTORS = "pitches.npy"

WriteStep = Callable[[Path, Tensors], tuple[int, str]]  # a new file, the tensors → its bytes and SHA-256
EncodePrompts = Callable[[Path], list[Text]]  # the text encoder's graph → the texts of `calibration.PROMPTS`

NEEDS_BLOCKS = "some of its matrices need scales for blocks of weights, which the native decoder doesn't have"


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
        positions: Of the decoder, at most.
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
    return prepare_folder(
        graph_folder(cache_dir, checkpoint.digest, variant(label)),
        _Builder(checkpoint, shape, label, encode_prompts, write_native_step),
        checkpoint,
        note,
        purpose="the native decoder" if write_native_step else "ONNX Runtime",
    )


def prepare_encoder_graphs(
    checkpoint: Checkpoint, shape: Shape, *, cache_dir: Path, note: Callable[[str], None]
) -> Graphs:
    """
    Return the graphs of EnCodec's encoder: from the cache, or built now.

    Args:
        note: As for `prepare_graphs`.

    Raises:
        CheckpointError, EngineError: As for `prepare_graphs`.
        ModelAbsentError: The weights of the model were not kept, nor these graphs.
    """
    return prepare_folder(
        cache_dir / "graphs" / f"{checkpoint.digest}-encoder-v{ENCODER_FORMAT}",
        _EncoderBuilder(checkpoint, shape),
        checkpoint,
        note,
        purpose="listening to sounds",
    )


def graph_folder(cache_dir: Path, digest: str, variant: str) -> Path:
    """Return the folder of a checkpoint's graphs, which may not exist."""
    return cache_dir / "graphs" / f"{digest}-{variant}-v{GRAPH_FORMAT}"


def variant(label: Label) -> str:
    """Return the name of what a folder is for: its precision, and its decoder unless that is ONNX Runtime."""
    return NATIVE_VARIANT if label.get("decoder") == NATIVE else str(label["precision"])


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
    if not shape.decoder.has_cross_attention:
        pitch_vectors(shape.decoder, recorded)
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
    """Builds the folder of a precision and a decoder."""

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
                write_manifest(directory, self.label, {OBSTACLE: NEEDS_BLOCKS, "files": {}})
                raise NativeUnsuitedError(
                    f"the native decoder can't compute {self.checkpoint.name}: {NEEDS_BLOCKS}",
                    hint="use `--engine onnx`",
                )
            files |= self._step(directory, calibration.tensors, calibration.in_blocks)
            files[KV_SCALES] = _write_array(directory / KV_SCALES, calibration.kv_scales)
        else:
            files |= self._step(directory, tensors)
        write_manifest(directory, self.label, {"files": entries(files)})

    @property
    def graphs(self) -> tuple[str, ...]:
        """The files of a complete folder."""
        return (
            TEXT_ENCODER,
            NATIVE_STEP if self.label.get("decoder") == NATIVE else DECODER_STEP,
            CODEC_LSTM,
            CODEC_DECODER,
            *(() if self.shape.decoder.has_cross_attention else (PITCH_VECTORS,)),
        )

    @property
    def _is_int8(self) -> bool:
        return self.label["precision"] == "int8"

    def _graphs(self, directory: Path, tensors: Tensors) -> Files:
        """Write the text encoder, the codec, and of a melody model the vectors of the pitch classes."""
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
        files = text_encoder.files | codec_lstm.files | codec_decoder.files
        if not decoder.has_cross_attention:
            files[PITCH_VECTORS] = _write_array(directory / PITCH_VECTORS, pitch_vectors(decoder, tensors))
        return files

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


@dataclass(frozen=True, slots=True)
class _EncoderBuilder:
    """Builds the folder of EnCodec's encoder."""

    checkpoint: Checkpoint
    shape: Shape
    graphs = ENCODER_GRAPHS

    @property
    def label(self) -> Label:
        """What it is built from."""
        return {"format": ENCODER_FORMAT, "checkpoint": self.checkpoint.digest, "part": "encoder"}

    def build(self, directory: Path) -> None:
        """Write both graphs and the manifest."""
        with needs("local"):
            from musicgen_cli.engine.onnx.graph_builder import Graph
        from musicgen_cli.engine.onnx.codec_encoder import write_codec_encoder, write_codec_quantizer

        tensors, codec, decoder = self.checkpoint.tensors(), self.shape.codec, self.shape.decoder
        with Graph(directory, Path(CODEC_ENCODER).stem) as encoder:
            write_codec_encoder(encoder, codec, tensors)
        with Graph(directory, Path(CODEC_QUANTIZER).stem) as quantizer:
            write_codec_quantizer(
                quantizer, codec, tensors, codebooks=decoder.codebooks // decoder.channels, codes=decoder.vocab
            )
        write_manifest(directory, self.label, {"files": entries(encoder.files | quantizer.files)})


def _write_array(path: Path, values: FloatArray) -> tuple[int, str]:
    """Write an array; return the file's size and SHA-256."""
    content = io.BytesIO()
    np.save(content, values)
    atomic.write_new(path, content.getvalue(), durable=False)
    return len(content.getvalue()), hashlib.sha256(content.getvalue()).hexdigest()
