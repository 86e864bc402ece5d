"""Text, step and sound on ONNX Runtime; the only file that imports onnxruntime."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as runtime
from tokenizers import Tokenizer

from musicgen_cli import limits, wav
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine import machine, pcm
from musicgen_cli.engine.base import Clip, Listener, Origin
from musicgen_cli.engine.checkpoint import Checkpoint
from musicgen_cli.engine.decode import (
    SAMPLER_VERSION,
    FloatArray,
    IntArray,
    Pattern,
    Sampling,
    Step,
    Take,
    decode,
    frames_of,
    samples_of,
)
from musicgen_cli.engine.graph_cache import FRAMES, SOUND, STEP, TEXT, graphs_of
from musicgen_cli.engine.shape import DecoderShape, Shape
from musicgen_cli.engine.sound import SoundStream
from musicgen_cli.errors import AbsentError, CheckpointError, EngineError

ENGINE, DEVICE, PRECISIONS = "onnx", "cpu", ("fp32",)

# A text is padded to a multiple of this, alone as in company: another length differs in the last bit.
_TEXT_LENGTH = 64  # tokens

# ONNX Runtime's own exceptions have nothing in common but the module they are in; RuntimeError comes from its bindings.
_FAILURES: tuple[type[Exception], ...] = (
    RuntimeError,
    *(kind for kind in vars(runtime).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)


class OnnxEngine:
    """Makes one clip at a time on the CPU."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        cache_dir: Path,
        precision: str = "fp32",
        device: str = DEVICE,
        threads: int | None = None,
        note: Callable[[str], None] = lambda _: None,
        free: Callable[[], int | None] = machine.free_memory,
    ) -> None:
        """
        Load a model.

        Args:
            cache_dir: Where its graphs are kept.
            threads: For one operation; None means one for each physical core.
            note: Hears what takes long.
            free: Tells how many bytes of memory are free; where it answers None, nothing is checked.

        Raises:
            AbsentError: This version has no such precision or device.
            CheckpointError: The checkpoint is damaged, or of a kind that isn't supported.
            MemoryNeededError: The model needs more memory than is free.
            EngineError: There is no room for its graphs, or ONNX Runtime can't load them.
        """
        if precision not in PRECISIONS or device != DEVICE:
            raise AbsentError(f"ONNX Runtime has no {precision} on {device} here", hint="fp32 on cpu always works")
        self.origin = Origin("local", model=checkpoint.name, engine=ENGINE, precision=precision, device=device)
        self.license = checkpoint.license
        self._checkpoint = checkpoint
        self._shape = Shape.of(checkpoint.config)
        self._tokenizer = _tokenizer(checkpoint)
        _, longest = self._plan(limits.DURATION.high)
        needed = machine.memory_needed(self._shape, checkpoint.tensors(), steps=longest.steps)
        machine.check_memory(checkpoint.name, needed, free())
        self._graphs = graphs_of(
            checkpoint, self._shape, positions=longest.steps, cache_dir=cache_dir, precision=precision, note=note
        )
        try:
            self._model = OnnxModel(self._graphs.directory, self._shape, threads=threads or machine.cores())
        except BaseException:
            self._graphs.close()
            raise

    def generate(self, request: GenerateRequest, listener: Listener) -> Clip:
        """
        Make one clip.

        A request without a seed gets one, which the clip tells.

        Raises:
            EngineError: The model fails, or makes what is not a number.
        """
        started = time.perf_counter()
        seed = secrets.randbelow(int(limits.SEED.high) + 1) if request.seed is None else request.seed
        samples, pattern = self._plan(request.duration)
        text = self._model.read(self._ids(request.prompt)) if request.prompt else None
        take = Take(pattern, Sampling.of(request, seed), vocab=self._shape.decoder.vocab)
        rate, channels = self._shape.sound.rate, self._shape.decoder.channels
        stream, recording = self._model.sound(), pcm.Recording(samples, sample_rate=rate, channels=channels)

        def tell(sound: FloatArray) -> None:
            if chunk := recording.add(sound):
                listener.sound(chunk, rate, channels)

        def heard(done: int, total: int) -> None:
            listener.step(done, total)
            tell(stream.push(take.codes[:, stream.frames :]))

        decode(self._model.begin(take, text), take, heard)
        tell(stream.end())
        content, warnings = recording.wav()
        return Clip(
            wav=content,
            info=wav.inspect(content),
            origin=self.origin,
            elapsed_s=round(time.perf_counter() - started, 3),
            seed=seed,
            license=self.license,
            extra={"checkpoint": self._checkpoint.digest, "sampler": SAMPLER_VERSION},
            warnings=warnings,
        )

    def close(self) -> None:
        """Free the model; the engine can't be used any more."""
        del self._model
        self._graphs.close()

    def _plan(self, duration: float) -> tuple[int, Pattern]:
        """Return the samples of one channel that `duration` seconds have, and what makes them."""
        decoder, sound = self._shape.decoder, self._shape.sound
        samples = samples_of(duration, sound.rate)
        return samples, Pattern(decoder.codebooks, decoder.channels, frames_of(samples, sound.hop))

    def _ids(self, prompt: str) -> Sequence[int]:
        ids = self._tokenizer.encode(prompt).ids
        if not ids or max(ids) >= self._shape.text.vocab:
            raise CheckpointError(f"the tokenizer.json of {self._checkpoint.name} doesn't fit its model")
        return ids


@dataclass(frozen=True, slots=True)
class Text:
    """What the decoder's cross-attention looks at, by the names of the step graph's inputs."""

    values: dict[str, ort.OrtValue]


class OnnxModel:
    """The graphs of one model, loaded."""

    def __init__(self, directory: Path, shape: Shape, *, threads: int) -> None:
        """
        Load them.

        Args:
            threads: For one operation.

        Raises:
            EngineError: ONNX Runtime can't load them.
        """
        self._shape = shape
        with _explained("load the model"):
            self._text = _session(directory / TEXT, threads, keep_memory=False)
            self._step = _session(directory / STEP, threads, keep_memory=True)
            # These two run between steps, whose threads would wait for a core: measured, nano took twice as long.
            self._frames = _session(directory / FRAMES, 1, keep_memory=True)
            self._sound = _session(directory / SOUND, threads, keep_memory=True, spin_on=False)

    def read(self, ids: Sequence[int]) -> Text:
        """Look at a text, given as token ids, once for all steps."""
        length = -(-len(ids) // _TEXT_LENGTH) * _TEXT_LENGTH
        padded = np.zeros((1, length), np.int64)
        padded[0, : len(ids)] = ids
        mask = np.full((1, 1, 1, length), -np.inf, np.float32)
        mask[..., : len(ids)] = 0
        names = [output.name for output in self._text.get_outputs()]
        with _explained("read the prompt"):
            values = self._text.run_with_ort_values(names, {"ids": _shared(padded), "mask": _shared(mask)})
        return Text({"text_mask": _shared(mask), **dict(zip(names, values, strict=True))})

    def begin(self, take: Take, text: Text | None) -> Step:
        """Return the step of one take, with keys and values of its own; the first of its rows looks at the text."""
        decoder = self._shape.decoder
        if text is None:
            heads, width = decoder.heads, decoder.head_width
            empty = {"text_mask": (0, 1, 1, 1)}
            for i in range(decoder.layers):
                empty |= {f"cross_key.{i}": (0, heads, width, 1), f"cross_value.{i}": (0, heads, 1, width)}
            text = Text({name: _shared(np.zeros(size, np.float32)) for name, size in empty.items()})
            text_rows: list[int] = []
        else:
            text_rows = [0]
        return _Rows(self._step, decoder, take.rows, take.pattern.steps, text_rows, text)

    def sound(self) -> SoundStream:
        """Return a clip's way from codes to samples."""
        decoder = self._shape.decoder
        return SoundStream(self, self._shape.sound, codebooks=decoder.codebooks, channels=decoder.channels)

    def states(self, codes: IntArray, start: int, end: int, memory: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Go on through the recurrent layers; see `Codec`."""
        part = {"start": np.array([start]), "end": np.array([end])}
        with _explained("turn codes into sound"):
            inputs = {"codes": np.ascontiguousarray(codes), **part, "memory": memory}
            states, memory = self._frames.run(["states", "new_memory"], inputs)
        return states, memory

    def samples(self, states: FloatArray) -> FloatArray:
        """Turn states into samples; see `Codec`."""
        with _explained("turn codes into sound"):
            samples: FloatArray = self._sound.run(["sound"], {"states": states})[0]
        return samples


class _Rows:
    """Rows of the decoder with their keys and values: a Step that copies nothing but codes."""

    def __init__(
        self,
        session: ort.InferenceSession,
        shape: DecoderShape,
        rows: int,
        steps: int,
        text_rows: list[int],
        text: Text,
    ) -> None:
        self._session = session
        self._tokens = np.zeros((rows, shape.codebooks), np.int64)
        self._positions = np.zeros(rows, np.int64)
        self._lengths = np.zeros(rows, np.int32)
        self._longest = np.zeros(1, np.int32)
        self._logits = np.zeros((rows, shape.codebooks, shape.vocab), np.float32)
        self._binding = binding = session.io_binding()
        # Lent memory is only safe as long as its OrtValue is here: not every version of a binding keeps it.
        self._lent = lent = {
            "tokens": _shared(self._tokens),
            "positions": _shared(self._positions),
            "lengths": _shared(self._lengths),
            "longest": _shared(self._longest),
            "text_rows": _shared(np.array(text_rows, np.int64)),
            **text.values,
        }
        buffers = [f"{part}.{i}" for i in range(shape.layers) for part in ("key", "value")]
        for name in buffers:
            lent[name] = _shared(np.zeros((rows, shape.heads, steps, shape.head_width), np.float32))
        for name, value in lent.items():
            binding.bind_ortvalue_input(name, value)
        lent["logits"] = _shared(self._logits)
        binding.bind_ortvalue_output("logits", lent["logits"])
        for name in buffers:
            binding.bind_ortvalue_output(f"new_{name}", lent[name])

    def __call__(self, tokens: IntArray, positions: IntArray) -> FloatArray:
        """Take each row one position further; the logits are good until the next call."""
        self._tokens[:] = tokens
        self._positions[:] = positions
        self._lengths[:] = positions
        self._longest[0] = positions.max() + 1
        with _explained("make a step"):
            self._session.run_with_iobinding(self._binding)
        return self._logits


def _session(path: Path, threads: int, *, keep_memory: bool, spin_on: bool = True) -> ort.InferenceSession:
    """
    Load one graph.

    Args:
        keep_memory: For what runs often; otherwise memory goes back after each run.
        spin_on: Whether threads look out for the next run, a core for each, for a while after one.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.enable_cpu_mem_arena = keep_memory
    options.enable_mem_pattern = keep_memory
    options.log_severity_level = 4  # what fails is raised as well
    if not spin_on:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _shared(values: np.ndarray) -> ort.OrtValue:
    """Lend an array to ONNX Runtime, which reads and writes it in place while the OrtValue is kept."""
    return ort.OrtValue.ortvalue_from_numpy(values)


def _tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(checkpoint.tokenizer))
    except CheckpointError:
        raise
    except Exception as err:  # tokenizers raises nothing narrower
        raise CheckpointError(f"{checkpoint.tokenizer} can't be read: {_line(err)}") from err
    # As transformers sets them for each call that doesn't ask for more.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@contextmanager
def _explained(task: str) -> Iterator[None]:
    try:
        yield
    except MemoryError as err:
        raise EngineError(f"there was not enough memory to {task}", hint="a smaller model needs less") from err
    except _FAILURES as err:
        raise EngineError(f"ONNX Runtime couldn't {task}: {_line(err)}") from err


def _line(err: Exception) -> str:
    return " ".join(str(err).split())[:200]
