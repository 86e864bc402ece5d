"""
The engine whose decoder step is one native call; text encoder and codec are graphs on ONNX Runtime.

It is the default where it can be used: `registry.native_obstacle` tells why it can't.
"""

from __future__ import annotations

from pathlib import Path

from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.tensors import FloatArray, Tensors
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.native import library
from musicgen_cli.engine.native.decoder import NativeDecoder, Pool, Text, Weights
from musicgen_cli.engine.native.weights import write_weights
from musicgen_cli.engine.onnx.engine import GraphEngine, GraphModel
from musicgen_cli.engine.onnx.graph_cache import NATIVE_STEP, WriteStep


class NativeEngine(GraphEngine[Text]):
    """Generates clips on the CPU in int8; requests from several threads are decoded as one batch."""

    name = "native"
    model: NativeModel

    def _load(self, directory: Path, scales: FloatArray | None) -> NativeModel:
        assert scales is not None  # int8 always has them
        return NativeModel(directory, self.shape, threads=self._threads, scales=scales)

    def _native_step(self, positions: int) -> WriteStep:
        def write(path: Path, tensors: Tensors) -> tuple[int, str]:
            return write_weights(path, self.shape.decoder, tensors, positions=positions)

        return write


class NativeModel(GraphModel):
    """The graphs of one model, and the packed weights of its decoder."""

    def __init__(self, directory: Path, shape: Shape, *, threads: int, scales: FloatArray) -> None:
        """
        Load them.

        Args:
            threads: Of the decoder, and of each operation of a graph.
            scales: Of the KV cache.

        Raises:
            UnavailableError: The library can't be used here.
            EngineError: A file is damaged, or there is not enough memory.
        """
        super().__init__(directory, shape, threads=threads)
        self._scales, self._isa = scales, library.instruction_set()
        self._weights = Weights(directory / NATIVE_STEP, shape.decoder)
        self._pool = Pool(threads)

    def encode_text(self, ids: list[int]) -> Text:
        """Encode the prompt, given as token ids, once into cross-attention keys and values."""
        return Text.of(self._shape.decoder, self.text_values(ids))

    def decoder(self, *, rows: int, steps: int) -> NativeDecoder:
        """Return a decoder with a KV cache of `rows` rows, each with room for a prefix and `steps` steps."""
        positions = self._shape.decoder.prefix_positions + steps
        return NativeDecoder(self._weights, self._pool, self._isa, rows=rows, positions=positions, scales=self._scales)

    def decoder_for(self, sequence: Sequence, conditioning: Text | None) -> NativeDecoder:
        """Return a decoder for one sequence alone; `conditioning` is that of its first row."""
        decoder = self.decoder(rows=sequence.rows, steps=sequence.pattern.steps)
        decoder.set_conditioning(0, conditioning)
        return decoder
