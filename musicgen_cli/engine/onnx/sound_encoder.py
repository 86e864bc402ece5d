"""EnCodec's encoder on ONNX Runtime, which is only prepared and loaded when a sound is to be encoded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from musicgen_cli.checkpoint.audio_encoder import has_audio_encoder
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine.decoding.delay_pattern import IntArray
from musicgen_cli.engine.decoding.sound_encoder import encode_sound
from musicgen_cli.engine.onnx.decoder import translated_errors
from musicgen_cli.engine.onnx.graph_cache import CODEC_ENCODER, CODEC_QUANTIZER, prepare_encoder_graphs
from musicgen_cli.engine.onnx.graph_folders import Graphs
from musicgen_cli.engine.onnx.session import open_session


class OnnxSoundEncoder:
    """A `decoding.sound_encoder.SoundEncoder` that encodes one at a time; between two, its graphs are on disk alone."""

    def __init__(
        self, checkpoint: Checkpoint, shape: Shape, cache_dir: Path, threads: int, note: Callable[[str], None]
    ) -> None:
        """
        Load nothing yet.

        Args:
            cache_dir: Where the graphs are cached.
            threads: Per operation.
            note: Called with one line when the graphs are being built.
        """
        self._checkpoint, self._shape, self._cache_dir = checkpoint, shape, cache_dir
        self._threads, self._note = threads, note
        self._lock = threading.Lock()
        self._graphs: Graphs | None = None

    @property
    def is_available(self) -> bool:
        """Whether the model has an audio encoder; taken to be so where its weights weren't kept."""
        return not self._checkpoint.weights or has_audio_encoder(self._checkpoint)

    def encode(self, samples: FloatArray) -> IntArray:
        """
        Encode a sound; see `decoding.sound_encoder.encode_sound`.

        Raises:
            CheckpointError, EngineError, ModelAbsentError: As for `prepare_encoder_graphs`.
        """
        with self._lock:
            if self._graphs is None:
                self._graphs = prepare_encoder_graphs(
                    self._checkpoint, self._shape, cache_dir=self._cache_dir, note=self._note
                )
            with translated_errors("encode the sound"):
                return encode_sound(_Loaded(self._graphs.directory, self._threads), self._shape.codec, samples)

    def close(self) -> None:
        """Remove the graphs if they couldn't be cached."""
        if self._graphs is not None:
            self._graphs.close()


class _Loaded:
    """The two graphs in memory: a `decoding.sound_encoder.CodecEncoder`."""

    def __init__(self, directory: Path, threads: int) -> None:
        self._encoder = open_session(directory / CODEC_ENCODER, threads, keep_memory=True, spin=False)
        self._quantizer = open_session(directory / CODEC_QUANTIZER, 1, keep_memory=False)

    def run_codec_encoder(self, samples: FloatArray) -> FloatArray:
        features: FloatArray = self._encoder.run(["features"], {"sound": samples})[0]
        return features

    def run_codec_quantizer(self, features: FloatArray) -> IntArray:
        codes: IntArray = self._quantizer.run(["codes"], {"features": features})[0]
        return codes
