"""
The engine on ONNX Runtime: text encoder, decoder step and codec as ONNX graphs, on the CPU.

`GraphEngine` and `GraphModel` are what the native engine has in common with it: all but the decoder step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from musicgen_cli import limits
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine import hardware
from musicgen_cli.engine.base import Origin
from musicgen_cli.engine.decoding.audio_stream import AudioStream
from musicgen_cli.engine.decoding.delay_pattern import IntArray
from musicgen_cli.engine.decoding.prefix import first_tokens, prefixes
from musicgen_cli.engine.decoding.scheduler import Decoder, Scheduler
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.local import LocalEngine, Model
from musicgen_cli.engine.onnx.decoder import Conditioning, OnnxDecoder, translated_errors
from musicgen_cli.engine.onnx.graph_cache import (
    CODEC_DECODER,
    CODEC_LSTM,
    DECODER_STEP,
    PITCH_VECTORS,
    TEXT_ENCODER,
    WriteStep,
    prepare_graphs,
)
from musicgen_cli.engine.onnx.session import RUNTIME, open_session
from musicgen_cli.engine.onnx.sound_encoder import OnnxSoundEncoder
from musicgen_cli.engine.quantization import calibration
from musicgen_cli.engine.quantization.float_decoder import Text

_MASK_MULTIPLE = 64  # tokens; the mask of a prompt is padded to a multiple of it


AnyConditioning = TypeVar("AnyConditioning")


class DecodingModel(Model[AnyConditioning], Protocol[AnyConditioning]):
    """A model with its decoder."""

    def decoder(self, *, rows: int, steps: int) -> Decoder[AnyConditioning]:
        """Return a decoder with a KV cache of `rows` rows, each with room for a prefix and `steps` steps."""


class GraphEngine(LocalEngine[AnyConditioning]):
    """Generates clips on the CPU, with text encoder and codec as graphs; a subclass brings the decoder step."""

    name: str  # of the engine, in every record
    runtime = RUNTIME

    model: DecodingModel[AnyConditioning]
    sound_encoder: OnnxSoundEncoder

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        cache_dir: Path,
        precision: str = "int8",
        threads: int | None = None,
        slots: int | None = None,
        clips: int | None = None,
        note: Callable[[str], None] = lambda _: None,
        free: Callable[[], int | None] = hardware.free_memory,
    ) -> None:
        """
        Load a model.

        Args:
            cache_dir: Where its graphs are cached.
            precision: One of those of onnx in `registry.BACKENDS`.
            threads: Per operation; None means `hardware.default_threads`.
            slots: Clips decoded at once, while further ones wait; None means `hardware.default_slots`.
            clips: The most that will be wanted, which says what they take and keeps no more slots; None is unknown.
            note: Called with one line before a step that takes long.
            free: Returns the free memory in bytes; None, which means unknown, skips the check.

        Raises:
            CheckpointError: The checkpoint is damaged or of an unsupported kind.
            MemoryNeededError: The model needs more memory than is free.
            EngineError: There is no disk space for the graphs, or ONNX Runtime can't load them.
        """
        super().__init__(checkpoint, Origin("local", checkpoint.name, self.name, precision, "cpu"))
        _, longest = self._plan(limits.CONTEXT_S)
        peak, per_clip = hardware.estimate_memory(
            self.shape, checkpoint.tensors(), steps=longest.steps, int8=precision == "int8"
        )
        free_bytes = free()
        hardware.check_memory(checkpoint.name, peak, free_bytes)
        self.slots = _slots(slots, clips, per_clip, None if free_bytes is None else free_bytes - peak)
        if clips and (text := hardware.memory_note(self.slots, peak, per_clip)):
            note(text)
        self._threads = threads or hardware.default_threads(self.shape.decoder)
        positions = self.shape.decoder.prefix_positions + longest.steps
        self._graphs = prepare_graphs(
            checkpoint,
            self.shape,
            positions=positions,
            cache_dir=cache_dir,
            precision=precision,
            encode_prompts=self._encode_prompts,
            note=note,
            write_native_step=self._native_step(positions),
        )
        try:
            self.model = self._load(self._graphs.directory, self._graphs.scales())
            decoder = self.model.decoder(rows=2 * self.slots, steps=longest.steps)
        except BaseException:
            self._graphs.close()
            raise
        self._scheduler = Scheduler(decoder, self.slots)
        self.sound_encoder = OnnxSoundEncoder(checkpoint, self.shape, cache_dir, self._threads, note)

    def close(self) -> None:
        """Free the model; the engine can't be used any more."""
        del self.model, self._scheduler
        self.sound_encoder.close()
        self._graphs.close()

    def _encode_prompts(self, text_encoder: Path) -> list[Text]:
        """Encode the prompts of the calibration."""
        return [encode_text(text_encoder, self.tokenize(prompt), self._threads) for prompt in calibration.PROMPTS]

    def _load(self, directory: Path, scales: FloatArray | None) -> DecodingModel[AnyConditioning]:
        """Load the model from a folder of the graph cache."""
        raise NotImplementedError

    def _native_step(self, positions: int) -> WriteStep | None:  # noqa: ARG002  # the signature of subclasses
        """Return what writes the decoder step, if it is not a graph."""
        return None


class OnnxEngine(GraphEngine[Conditioning]):
    """Generates clips on the CPU; requests from several threads are decoded as one batch."""

    name = "onnx"
    model: OnnxModel

    def _load(self, directory: Path, scales: FloatArray | None) -> OnnxModel:
        return OnnxModel(directory, self.shape, threads=self._threads, scales=scales)


class GraphModel:
    """The graphs of one model but for its decoder step, loaded."""

    def __init__(self, directory: Path, shape: Shape, *, threads: int) -> None:
        """
        Load them.

        Args:
            threads: Per operation.

        Raises:
            EngineError: ONNX Runtime can't load them.
        """
        self._shape, self._threads = shape, threads
        self.pitch_vectors: FloatArray | None = None
        if not shape.decoder.has_cross_attention:
            self.pitch_vectors = np.load(directory / PITCH_VECTORS)
        self._text_encoder = directory / TEXT_ENCODER
        # Prompts are encoded one at a time, as each loads the graph, and always on the same thread, as the C library
        # keeps freed memory for the thread that freed it: with a thread for each of eight callers it was 2.4 GB more.
        self._text_executor = ThreadPoolExecutor(1, thread_name_prefix="text")
        self._codec_lock = threading.Lock()
        with translated_errors("load the model"):
            # The codec runs between decoder steps, whose threads spin. Codec threads that spin, too, made nano take
            # twice as long.
            self._codec_lstm = open_session(directory / CODEC_LSTM, 1, keep_memory=True)
            self._codec_decoder = open_session(directory / CODEC_DECODER, threads, keep_memory=True, spin=False)

    def text_values(self, ids: list[int]) -> dict[str, FloatArray]:
        """Encode the prompt, given as token ids, into what `write_text_encoder` describes."""
        return self._text_executor.submit(encode_text, self._text_encoder, ids, self._threads).result()

    def text_states(self, ids: list[int]) -> FloatArray:
        """Encode the prompt of a melody model into the vectors of its tokens, shape ``(tokens, width)``."""
        states: FloatArray = self.text_values(ids)["states"][0]
        return states

    def prefix(self, ids: list[int], tune: FloatArray | None = None) -> FloatArray | None:
        """
        Return what a melody model reads before the codes, as `prefixes` does; None for other models.

        Args:
            ids: The tokens of the prompt; empty for none.
        """
        if self.pitch_vectors is None:
            return None
        text = self.text_states(first_tokens(ids)) if ids else None
        return prefixes(self.pitch_vectors, self._shape.decoder.melody_frames, text, tune)

    def audio_stream(self) -> AudioStream:
        """Return the codec decoder of one clip, which turns codes into samples while more codes come."""
        return AudioStream.of(self, self._shape)

    def run_codec_lstm(
        self, codes: IntArray, start: int, end: int, lstm_state: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Continue through the LSTM; see `audio_stream.Codec`."""
        inputs = {
            "codes": np.ascontiguousarray(codes),
            "start": np.array([start]),
            "end": np.array([end]),
            "memory": lstm_state,
        }
        with self._codec_lock, translated_errors("decode the codes"):
            features, lstm_state = self._codec_lstm.run(["states", "new_memory"], inputs)
        return features, lstm_state

    def run_codec_decoder(self, features: FloatArray) -> FloatArray:
        """Decode features into samples; see `audio_stream.Codec`."""
        with self._codec_lock, translated_errors("decode the codes"):
            samples: FloatArray = self._codec_decoder.run(["sound"], {"states": features})[0]
        return samples


class OnnxModel(GraphModel):
    """All graphs of one model, loaded."""

    def __init__(self, directory: Path, shape: Shape, *, threads: int, scales: FloatArray | None = None) -> None:
        """
        Load them.

        Args:
            threads: Per operation.
            scales: Of an int8 KV cache; None for float32.

        Raises:
            EngineError: ONNX Runtime can't load them.
        """
        super().__init__(directory, shape, threads=threads)
        self._scales = scales
        with translated_errors("load the model"):
            self._decoder_step = open_session(directory / DECODER_STEP, threads, keep_memory=True)

    def encode_text(self, ids: list[int]) -> Conditioning:
        """Encode the prompt, given as token ids, once into cross-attention keys and values."""
        mask = np.zeros((1, 1, 1, len(ids)), np.float32)
        mask = np.pad(mask, [(0, 0)] * 3 + [(0, -len(ids) % _MASK_MULTIPLE)], constant_values=-np.inf)
        return Conditioning(mask, self.text_values(ids))

    def decoder(self, *, rows: int, steps: int) -> OnnxDecoder:
        """Return a decoder with a KV cache of `rows` rows, each with room for a prefix and `steps` steps."""
        shape = self._shape.decoder
        positions = shape.prefix_positions + steps
        return OnnxDecoder(self._decoder_step, shape, rows=rows, positions=positions, scales=self._scales)

    def decoder_for(self, sequence: Sequence, conditioning: Conditioning | None) -> OnnxDecoder:
        """Return a decoder for one sequence alone; `conditioning` is that of its first row."""
        decoder = self.decoder(rows=sequence.rows, steps=sequence.pattern.steps)
        decoder.set_conditioning(0, conditioning)
        return decoder


def encode_text(text_encoder: Path, ids: list[int], threads: int) -> dict[str, FloatArray]:
    """
    Encode a prompt, given as token ids, into what `write_text_encoder` describes.

    The graph is loaded for this and freed afterwards, so that the KV caches can use its memory. Its weights are
    memory-mapped and used in place, so that loading takes some 10 ms.
    """
    with translated_errors("encode the prompt"):
        session = open_session(text_encoder, threads, keep_memory=False, single_run=True)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, {"ids": np.array([ids], np.int64)}), strict=True))


def _slots(slots: int | None, clips: int | None, per_clip: int, left: int | None) -> int:
    """Return the number of clips decoded at once: the given one if memory allows it, and no more than are wanted."""
    if slots:
        hardware.check_slots(slots, per_clip, left)
    number = slots or hardware.default_slots(per_clip, left)
    return min(number, clips) if clips else number
