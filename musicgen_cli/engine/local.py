"""
What the engines in this process share: request → sequences → codes → samples → clip.

A backend subclasses `LocalEngine` and brings a `Model` and a `Scheduler` over its decoder.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator
from functools import partial
from typing import Generic, Protocol, TypeVar

import numpy as np

from musicgen_cli import limits
from musicgen_cli.audio import chroma, wav
from musicgen_cli.audio.source import read_source
from musicgen_cli.checkpoint.audio_encoder import refusal
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.shape import TRAINED_TOKENS, Shape
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine import hardware
from musicgen_cli.engine.base import (
    CONTINUE,
    CONTINUE_OWN,
    LONG,
    MELODY,
    NO_INPUTS,
    RESUME,
    Abilities,
    Clip,
    Inputs,
    Origin,
    ProgressListener,
)
from musicgen_cli.engine.decoding.audio_stream import AudioStream
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern, IntArray, num_frames, num_samples
from musicgen_cli.engine.decoding.prefix import first_tokens, prefixes, tune_of_window
from musicgen_cli.engine.decoding.sampling import SAMPLER_VERSION, Sampling
from musicgen_cli.engine.decoding.scheduler import Scheduler
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.decoding.sound_encoder import SoundEncoder
from musicgen_cli.engine.decoding.windows import Window
from musicgen_cli.engine.recent import Recent
from musicgen_cli.engine.stages import SharedProgress, Stage, plan_stages
from musicgen_cli.engine.take import TakeInProgress, context_samples
from musicgen_cli.engine.tokenizer import explained, load_tokenizer
from musicgen_cli.engine.unfinished import UnfinishedClips, key_of
from musicgen_cli.engine.unknown_words import SHOWN, unknown_words
from musicgen_cli.errors import CheckpointError, UsageError

Conditioning = TypeVar("Conditioning")
ConditioningOut = TypeVar("ConditioningOut", covariant=True)


class Model(Protocol[ConditioningOut]):
    """The text encoder and the codec of a model; its decoder belongs to the scheduler."""

    pitch_vectors: FloatArray | None  # of a melody model, as `prefix.pitch_vectors` returns them

    def encode_text(self, ids: list[int]) -> ConditioningOut:
        """Encode the prompt, given as token ids, once into cross-attention keys and values."""

    def text_states(self, ids: list[int]) -> FloatArray:
        """Encode the prompt of a melody model into the vectors of its tokens, shape ``(tokens, width)``."""

    def audio_stream(self) -> AudioStream:
        """Return the codec decoder of one clip, which turns codes into samples while more codes come."""


class LocalEngine(Generic[Conditioning]):
    """Generates clips in this process; a subclass sets what is declared here."""

    slots: int
    runtime: str  # the package that computes, and its version: `onnxruntime 1.32.0`
    model: Model[Conditioning]
    sound_encoder: SoundEncoder
    shape: Shape
    unfinished: UnfinishedClips | None = None  # where codes of long clips are kept meanwhile; None: nowhere
    _scheduler: Scheduler[Conditioning]

    def __init__(self, checkpoint: Checkpoint, origin: Origin) -> None:
        """
        Read the config and the tokenizer; the weights are the subclass's to load.

        Raises:
            CheckpointError: The config or the tokenizer is missing, damaged or of an unsupported kind.
        """
        self.origin = origin
        self.license = checkpoint.license
        self.processor = hardware.processor()
        self._checkpoint = checkpoint
        self.shape = Shape.of(checkpoint.config)
        self._tokenizer = load_tokenizer(checkpoint.tokenizer)
        self._conditioning = Recent(lambda prompt: self.model.encode_text(self.tokenize(prompt)))
        self._text_states = Recent(lambda prompt: self.model.text_states(first_tokens(self.tokenize(prompt))))

    @property
    def follows_melodies(self) -> bool:
        """Whether the model can follow the tune of a sound."""
        return self.shape.decoder.melody_frames > 0

    def generate(self, request: GenerateRequest, listener: ProgressListener, inputs: Inputs = NO_INPUTS) -> Clip:
        """
        Generate one clip. Safe to call from any number of threads at once.

        A request without a seed gets a random one, which the clip records. The same request and inputs with the same
        seed give the same bytes, whatever else is generated meanwhile. The duration of the request is that of the new
        sound; the clip of a continuation is longer by the sound that it goes on from. Of `extra`, `windows` and
        `overlap` say that there were several windows, and `context_s` how much of that sound the model has read.

        Raises:
            EngineError: The model fails, or its output is NaN or infinite.
            InvalidValueError: The duration or an input is out of range or can't be used.
            NoAudioEncoderError: The model can't go on from the sound.
            UsageError: The model can't follow a melody.
        """
        if inputs.melody_wav is not None and not self.follows_melodies:
            raise UsageError(
                f"{self._checkpoint.name} can't follow a melody", hint="a melody model can: `--model melody`, for one"
            )
        started = time.perf_counter()
        seed = secrets.randbelow(int(limits.SEED.high) + 1) if request.seed is None else request.seed
        request = request.model_copy(update={"seed": seed})
        can_encode = inputs.is_continuation and self.sound_encoder.is_available
        stages = plan_stages(self._checkpoint, self.shape, request, inputs, can_encode=can_encode)
        if len(stages) > 1:
            listener.note(f"{self._checkpoint.name} makes the sound again that it goes on from")
        content, warnings = self._make(stages, listener)
        plan = stages[-1].plan
        return Clip(
            wav=content,
            info=wav.inspect(content),
            origin=self.origin,
            elapsed_s=round(time.perf_counter() - started, 3),
            seed=seed,
            license=self.license,
            extra={
                "checkpoint": self._checkpoint.digest,
                "sampler": SAMPLER_VERSION,
                "runtime": self.runtime,
                "processor": self.processor,
                **(
                    {"context_s": round(plan.context * self.shape.codec.hop / self.shape.codec.rate, 3)}
                    if plan.beginning
                    else {}
                ),
                **({"windows": len(plan.windows), "overlap": inputs.overlap} if len(plan.windows) > 1 else {}),
            },
            warnings=(*warnings, *self._length(request.prompt), *self._unknown_words(request.prompt)),
        )

    @property
    def abilities(self) -> Abilities:
        """
        What the model can do.

        Raises:
            CheckpointError, ModelAbsentError: Its weights can't be read.
        """
        own = CONTINUE if self.sound_encoder.is_available else CONTINUE_OWN
        others = {LONG}
        if self.follows_melodies:
            others.add(MELODY)
        if self.unfinished is not None:
            others.add(RESUME)
        return Abilities(frozenset({own, *others}), self.shape.codec.rate, self.shape.decoder.channels)

    def _make(self, stages: list[Stage], listener: ProgressListener) -> tuple[bytes, tuple[str, ...]]:
        """Make a clip, and before it what it goes on from if that has to be made again; return its WAV and warnings."""
        decoder, codec = self.shape.decoder, self.shape.codec
        steps = [stage.plan.steps(decoder.codebooks, decoder.channels) for stage in stages]
        codes: IntArray | None = None
        content, warnings = b"", tuple[str, ...]()
        keys = [self._key(stage) for stage in stages] if self.unfinished and _takes_turns(stages) else []
        for i, stage in enumerate(stages):
            if i:
                listener.pause()
            source = stage.source
            if source is not None:
                codes = self.sound_encoder.encode(context_samples(stage.plan, source, self.shape))
            elif i:
                if i == len(stages) - 1 and not _is_source(content, stage.inputs):
                    raise refusal(self._checkpoint, "this one came out different when it was made again")
                source = read_source(content, rate=codec.rate, channels=decoder.channels)
            take = TakeInProgress(
                *(stage.plan, source, self.shape, self.model.audio_stream()), SharedProgress(listener, steps, i)
            )
            codes = self._decode(stage, take, codes, keys[i] if keys else None)
            content, warnings = take.end()
        if self.unfinished is not None:
            for key in keys:
                self.unfinished.remove(key)
        return content, warnings

    def _decode(self, stage: Stage, take: TakeInProgress, codes: IntArray | None, key: str | None) -> IntArray:
        """
        Decode the windows of one stage.

        Args:
            codes: Those that end where the stage begins, shape ``(codebooks, frames)``; None for none.
            key: Under which its codes are kept until the clip is finished; None if they aren't.

        Returns:
            The codes of its context, then the new ones, shape ``(codebooks, frames)``.
        """
        request, known = stage.request, stage.plan.context
        assert request.seed is not None
        is_attended = self.shape.decoder.has_cross_attention and request.prompt
        conditioning = self._conditioning(request.prompt) if is_attended else None
        sampling = Sampling.of(request, request.seed, has_tune=stage.tune is not None)
        made = np.empty((self.shape.decoder.codebooks, 0), np.int64)
        if codes is not None:
            made = codes[:, codes.shape[1] - known :]
        if (kept := self._kept(stage, key)) is not None:
            made = np.concatenate([made, kept], axis=1)
            seconds = round(kept.shape[1] * self.shape.codec.hop / self.shape.codec.rate)
            take.note(f"{seconds} s of it were made before, by a try that was cut off")
        for index, window in enumerate(stage.plan.windows):
            if index:
                take.pause()
            if window.end <= made.shape[1] and kept is not None:
                take.restore(window, made[:, window.start : window.end])
                continue
            given = made[:, window.start : window.start + window.given] if window.given else None
            sequence = take.new_sequence(window, sampling, given, self._prefix(stage, window))
            new = self._scheduler.run(sequence, conditioning, partial(_advance, take, window, sequence))
            made = np.concatenate([made[:, : window.start], new], axis=1)
            if key is not None and self.unfinished is not None:
                self.unfinished.save(key, made[:, known:])
        return made

    def _key(self, stage: Stage) -> str:
        return key_of(self.origin, self._checkpoint.digest, stage.request, stage.inputs)

    def _kept(self, stage: Stage, key: str | None) -> IntArray | None:
        """Return the new codes of a stage that were made before, shape ``(codebooks, frames)``; None for none."""
        if key is None or self.unfinished is None:
            return None
        decoder, plan = self.shape.decoder, stage.plan
        ends = {window.end - plan.context for window in plan.windows}
        return self.unfinished.load(key, codebooks=decoder.codebooks, vocab=decoder.vocab, ends=ends)

    def _prefix(self, stage: Stage, window: Window) -> FloatArray | None:
        """Return what a melody model reads before the codes of a window; None for other models."""
        if self.model.pitch_vectors is None:
            return None
        frames, codec, tune = self.shape.decoder.melody_frames, self.shape.codec, None
        if stage.tune is not None:
            start = window.start * codec.hop * chroma.RATE // codec.rate
            tune = tune_of_window(stage.tune, start, frames, is_only=len(stage.plan.windows) == 1)
        text = self._text_states(stage.request.prompt) if stage.request.prompt else None
        return prefixes(self.model.pitch_vectors, frames, text, tune)

    def tokenize(self, prompt: str) -> list[int]:
        """
        Return the token ids of a prompt.

        Raises:
            CheckpointError: The tokenizer has tokens that the model doesn't know.
        """
        with explained(self._checkpoint.tokenizer):
            ids: list[int] = self._tokenizer.encode(prompt).ids
        if not ids or max(ids) >= self.shape.text.vocab:
            raise CheckpointError(f"the tokenizer.json of {self._checkpoint.name} doesn't fit its model")
        return ids

    def _length(self, prompt: str) -> Iterator[str]:
        """Yield a sentence about a prompt that is longer than what the text encoder was trained on."""
        if (tokens := len(self.tokenize(prompt))) > TRAINED_TOKENS:
            if self.follows_melodies:
                yield f"the prompt has {tokens} tokens, of which a melody model reads the first {TRAINED_TOKENS}"
                return
            yield (
                f"the prompt has {tokens} tokens, all of which are used; the text encoder was trained on at most "
                f"{TRAINED_TOKENS}, so what comes late in the prompt may have little effect"
            )

    def _unknown_words(self, prompt: str) -> Iterator[str]:
        """Yield a sentence about the words of a prompt that the model doesn't know, if there are any."""
        if words := unknown_words(self._tokenizer, prompt):
            more = ", …" if len(words) > SHOWN else ""
            yield f"{self._checkpoint.name} doesn't know: {', '.join(words[:SHOWN])}{more}"

    def _plan(self, duration: float) -> tuple[int, DelayPattern]:
        """Return the number of samples per channel of a clip of `duration` seconds, and its delay pattern."""
        decoder, codec = self.shape.decoder, self.shape.codec
        samples = num_samples(duration, codec.rate)
        return samples, DelayPattern(decoder.codebooks, decoder.channels, num_frames(samples, codec.hop))


def _takes_turns(stages: list[Stage]) -> bool:
    """Tell whether a clip is made in several sequences."""
    return len(stages) > 1 or len(stages[0].plan.windows) > 1


def _is_source(wav: bytes, inputs: Inputs) -> bool:
    """Tell whether a sound that was made again is what a clip goes on from."""
    if inputs.continue_wav is not None:
        return wav == inputs.continue_wav
    return hashlib.sha256(wav).hexdigest() == inputs.continue_sha256


def _advance(take: TakeInProgress, window: Window, sequence: Sequence, _done: int, _total: int) -> None:
    take.advance(window, sequence)
