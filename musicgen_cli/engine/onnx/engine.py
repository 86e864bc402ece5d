"""Text, step and sound on ONNX Runtime: prompts in, clips out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort

from musicgen_cli import limits
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine import hardware
from musicgen_cli.engine.base import Origin
from musicgen_cli.engine.decoding.audio_stream import AudioStream
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern, IntArray
from musicgen_cli.engine.decoding.scheduler import Scheduler
from musicgen_cli.engine.decoding.sequence import Sequence, Step
from musicgen_cli.engine.local import LocalEngine
from musicgen_cli.engine.onnx import calibrate
from musicgen_cli.engine.onnx.decoder import Conditioning, OnnxDecoder, explained
from musicgen_cli.engine.onnx.graph_cache import CODEC_DECODER, CODEC_LSTM, DECODER_STEP, TEXT_ENCODER, graphs_of
from musicgen_cli.errors import AbsentError

ENGINE, DEVICE, PRECISIONS = "onnx", "cpu", ("int8", "fp32")

_TEXT_LENGTH = 64  # tokens; what looks at a text looks at a multiple of it


class OnnxEngine(LocalEngine[Conditioning]):
    """Makes clips on the CPU; those that are asked for from several threads, side by side."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        cache_dir: Path,
        precision: str = "int8",
        device: str = DEVICE,
        threads: int | None = None,
        slots: int | None = None,
        note: Callable[[str], None] = lambda _: None,
        free: Callable[[], int | None] = hardware.free_memory,
    ) -> None:
        """
        Load a model.

        Args:
            cache_dir: Where its graphs are kept.
            precision: Of PRECISIONS.
            threads: For one operation; None means as many as `hardware.threads` finds right.
            slots: Clips made side by side, more wait; None means as many as `hardware.slots` finds right.
            note: Hears what takes long.
            free: Tells how many bytes of memory are free; where it answers None, nothing is checked.

        Raises:
            AbsentError: This version has no such precision or device.
            CheckpointError: The checkpoint is damaged, or of a kind that isn't supported.
            MemoryNeededError: The model needs more memory than is free.
            EngineError: There is no room for its graphs, or ONNX Runtime can't load them.
        """
        if precision not in PRECISIONS or device != DEVICE:
            raise AbsentError(
                f"ONNX Runtime has no {precision} on {device} here", hint="int8 and fp32 on cpu always work"
            )
        super().__init__(checkpoint, Origin("local", checkpoint.name, ENGINE, precision, device))
        _, longest = self._plan(limits.CONTEXT_S)
        free_bytes = free()
        needed, each = hardware.memory_needed(
            self._shape, checkpoint.tensors(), steps=longest.steps, int8=precision == "int8"
        )
        hardware.check_memory(checkpoint.name, needed, free_bytes)
        self.slots = slots or hardware.slots(each, free_bytes and free_bytes - needed)
        self._threads = threads or hardware.threads(self._shape.decoder)
        self._graphs = graphs_of(
            checkpoint,
            self._shape,
            positions=longest.steps,
            cache_dir=cache_dir,
            precision=precision,
            calibrate=self._calibrate,
            note=note,
        )
        try:
            self._model = OnnxModel(
                self._graphs.directory, self._shape, threads=self._threads, scales=self._graphs.scales()
            )
            decoder = self._model.decoder(rows=2 * self.slots, steps=longest.steps)
        except BaseException:
            self._graphs.close()
            raise
        self._scheduler = Scheduler(decoder, self.slots)

    def close(self) -> None:
        """Free the model; the engine can't be used any more."""
        del self._model, self._scheduler
        self._graphs.close()

    def _calibrate(self, directory: Path, kv_bounds: FloatArray) -> FloatArray:
        """Find the scales of keys and values by making a few takes."""
        shape = self._shape.decoder
        pattern = DelayPattern(shape.codebooks, shape.channels, calibrate.FRAMES)
        model = OnnxModel(directory, self._shape, threads=self._threads, scales=calibrate.coarse(kv_bounds))
        texts = [model.encode_text(self._ids(prompt)) for prompt in calibrate.PROMPTS]
        decoder = model.decoder(rows=2 * len(texts), steps=pattern.steps)
        calibrate.wander(decoder, texts, pattern, vocab=shape.vocab)
        return calibrate.fine(kv_bounds, decoder.peaks(pattern.steps))


class OnnxModel:
    """The graphs of one model, loaded."""

    def __init__(self, directory: Path, shape: Shape, *, threads: int, scales: FloatArray | None = None) -> None:
        """
        Load them.

        Args:
            threads: For one operation.
            scales: Of keys and values, if they are kept in 8 bits.

        Raises:
            EngineError: ONNX Runtime can't load them.
        """
        self._shape, self._scales, self._threads = shape, scales, threads
        self._text = directory / TEXT_ENCODER
        # One at a time, for each has the graph in memory; and always on one thread: what another one frees, the C
        # library keeps for that thread alone. Eight callers' prompts took 2.4 GB more so.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="text")
        self._sounding = threading.Lock()
        with explained("load the model"):
            self._step = _session(directory / DECODER_STEP, threads, keep_memory=True)
            # These two run between steps, whose threads would wait for a core: measured, nano took twice as long.
            self._frames = _session(directory / CODEC_LSTM, 1, keep_memory=True)
            self._sound = _session(directory / CODEC_DECODER, threads, keep_memory=True, spin_on=False)

    def encode_text(self, ids: list[int]) -> Conditioning:
        """
        Look at a text, given as token ids, once for all steps.

        The graph is opened for this and closed again: its weights are mapped and used as they lie in the file, so
        that opening takes some 10 ms, and the keys and values of the steps can have the memory.
        """
        mask = np.zeros((1, 1, 1, len(ids)), np.float32)
        mask = np.pad(mask, [(0, 0)] * 3 + [(0, -len(ids) % _TEXT_LENGTH)], constant_values=-np.inf)

        def run() -> Conditioning:
            session = _session(self._text, self._threads, keep_memory=False, as_it_is=True)
            names = [output.name for output in session.get_outputs()]
            values = session.run(names, {"ids": np.array([ids], np.int64)})
            return Conditioning(mask, dict(zip(names, values, strict=True)))

        with explained("read the prompt"):
            return self._reader.submit(run).result()

    def decoder(self, *, rows: int, steps: int) -> OnnxDecoder:
        """Make room for so many rows, each with keys and values for so many steps."""
        return OnnxDecoder(self._step, self._shape.decoder, rows=rows, steps=steps, scales=self._scales)

    def begin(self, take: Sequence, text: Conditioning | None) -> Step:
        """Return the step of one take, with keys and values of its own; the first of its rows looks at the text."""
        decoder = self.decoder(rows=take.rows, steps=take.pattern.steps)
        decoder.set_conditioning(0, text)
        return decoder

    def audio_stream(self) -> AudioStream:
        """Return a clip's way from codes to samples."""
        decoder = self._shape.decoder
        return AudioStream(self, self._shape.codec, codebooks=decoder.codebooks, channels=decoder.channels)

    def states(self, codes: IntArray, start: int, end: int, memory: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Go on through the recurrent layers; see `Codec`."""
        part = {"start": np.array([start]), "end": np.array([end])}
        with self._sounding, explained("turn codes into sound"):
            inputs = {"codes": np.ascontiguousarray(codes), **part, "memory": memory}
            states, memory = self._frames.run(["states", "new_memory"], inputs)
        return states, memory

    def samples(self, states: FloatArray) -> FloatArray:
        """Turn states into samples; see `Codec`."""
        with self._sounding, explained("turn codes into sound"):
            samples: FloatArray = self._sound.run(["sound"], {"states": states})[0]
        return samples


def _session(
    path: Path, threads: int, *, keep_memory: bool, spin_on: bool = True, as_it_is: bool = False
) -> ort.InferenceSession:
    """
    Load one graph.

    Args:
        keep_memory: For what runs often; otherwise memory goes back after each run.
        spin_on: Whether threads look out for the next run, a core for each, for a while after one.
        as_it_is: For what runs once: weights aren't copied into a faster order, and unpacked when their turn comes.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.enable_cpu_mem_arena = keep_memory
    options.enable_mem_pattern = keep_memory
    options.log_severity_level = 4  # what fails is raised as well
    if not hardware.prefers_signed():  # a graph that was made where this is otherwise needs its weights turned
        options.add_session_config_entry("session.x64quantprecision", "1")
    if not spin_on:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if as_it_is:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # it would unpack all of float16
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED  # the default order unpacks many weights at once
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
