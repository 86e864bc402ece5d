"""
What the engines in this process share: request → sequences → codes → samples → clip.

A backend subclasses `LocalEngine` and brings a `Model` and a `Scheduler` over its decoder.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from musicgen_cli import limits
from musicgen_cli.audio import wav
from musicgen_cli.audio.source import read_source
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import Clip, Inputs, Origin, ProgressListener
from musicgen_cli.engine.decoding.audio_stream import AudioStream
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern, IntArray, num_frames, num_samples
from musicgen_cli.engine.decoding.sampling import SAMPLER_VERSION, Sampling
from musicgen_cli.engine.decoding.scheduler import Scheduler
from musicgen_cli.engine.decoding.sound_encoder import SoundEncoder
from musicgen_cli.engine.decoding.windows import Window
from musicgen_cli.engine.take import TakeInProgress, plan_take
from musicgen_cli.engine.tokenizer import explained, load_tokenizer
from musicgen_cli.engine.unknown_words import SHOWN, unknown_words
from musicgen_cli.errors import CheckpointError

NO_INPUTS = Inputs()

_TRAINED_TOKENS = 512  # of a text: Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 3.1.2
_CACHED_PROMPTS = 4  # a prompt is mostly repeated at once, with other seeds

Conditioning = TypeVar("Conditioning")
ConditioningOut = TypeVar("ConditioningOut", covariant=True)


class Model(Protocol[ConditioningOut]):
    """The text encoder and the codec of a model; its decoder belongs to the scheduler."""

    def encode_text(self, ids: list[int]) -> ConditioningOut:
        """Encode the prompt, given as token ids, once into cross-attention keys and values."""

    def audio_stream(self) -> AudioStream:
        """Return the codec decoder of one clip, which turns codes into samples while more codes come."""


class LocalEngine(Generic[Conditioning]):
    """Generates clips in this process; a subclass sets `slots`, `model`, `sound_encoder` and `_scheduler`."""

    slots: int
    model: Model[Conditioning]
    sound_encoder: SoundEncoder
    shape: Shape
    _scheduler: Scheduler[Conditioning]

    def __init__(self, checkpoint: Checkpoint, origin: Origin) -> None:
        """
        Read the config and the tokenizer; the weights are the subclass's to load.

        Raises:
            CheckpointError: The config or the tokenizer is missing, damaged or of an unsupported kind.
        """
        self.origin = origin
        self.license = checkpoint.license
        self._checkpoint = checkpoint
        self.shape = Shape.of(checkpoint.config)
        self._tokenizer = load_tokenizer(checkpoint.tokenizer)
        self._encoding = threading.Lock()  # guards the cache; held while encoding, so that no prompt is encoded twice
        self._prompts: OrderedDict[str, Conditioning] = OrderedDict()  # least recently used first

    def generate(self, request: GenerateRequest, listener: ProgressListener, inputs: Inputs = NO_INPUTS) -> Clip:
        """
        Generate one clip. Safe to call from any number of threads at once.

        A request without a seed gets a random one, which the clip records. The same request and inputs with the same
        seed give the same bytes, whatever else is generated meanwhile. The duration of the request, at most
        `limits.LONGEST_S`, is that of the new sound; the clip of a continuation is longer by the sound that it goes on
        from. Of `extra`, `windows` and `overlap` say that there were several windows, and `context_s` how much of that
        sound the model has read.

        Raises:
            EngineError: The model fails, or its output is NaN or infinite.
            InvalidValueError: The duration or an input is out of range or can't be used.
            UsageError: The model has no audio encoder to continue a sound with.
        """
        started = time.perf_counter()
        seed = secrets.randbelow(int(limits.SEED.high) + 1) if request.seed is None else request.seed
        rate, channels, hop = self.shape.codec.rate, self.shape.decoder.channels, self.shape.codec.hop
        source = None
        if inputs.continue_wav is not None:
            source = read_source(inputs.continue_wav, rate=rate, channels=channels)
        plan = plan_take(self.shape, request.duration, inputs.overlap, source)
        codes = self.sound_encoder.encode(plan.context_samples(hop)) if source else None
        conditioning = self._encode(request.prompt) if request.prompt else None
        take = TakeInProgress(plan, self.shape, self.model.audio_stream(), listener)
        for window in plan.windows:
            given = None if codes is None else codes[:, codes.shape[1] - window.given :]
            codes = self._decode(take, window, Sampling.of(request, seed), conditioning, given)
        content, warnings = take.end()
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
                **({"context_s": round(plan.context * hop / rate, 3)} if source else {}),
                **({"windows": len(plan.windows), "overlap": inputs.overlap} if len(plan.windows) > 1 else {}),
            },
            warnings=(*warnings, *self._length(request.prompt), *self._unknown_words(request.prompt)),
        )

    def _decode(
        self,
        take: TakeInProgress,
        window: Window,
        sampling: Sampling,
        conditioning: Conditioning | None,
        given: IntArray | None,
    ) -> IntArray:
        """Decode one window, and return its codes, those included that it begins with."""
        sequence = take.new_sequence(window, sampling, given)
        return self._scheduler.run(sequence, conditioning, lambda _done, _total: take.advance(window, sequence))

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
        if (tokens := len(self.tokenize(prompt))) > _TRAINED_TOKENS:
            yield (
                f"the prompt has {tokens} tokens, all of which are used; the text encoder was trained on at most "
                f"{_TRAINED_TOKENS}, so what comes late in the prompt may have little effect"
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

    def _encode(self, prompt: str) -> Conditioning:
        """Encode a prompt, unless it is one of the last few."""
        with self._encoding:
            if prompt in self._prompts:
                self._prompts.move_to_end(prompt)
            else:
                self._prompts[prompt] = self.model.encode_text(self.tokenize(prompt))
                if len(self._prompts) > _CACHED_PROMPTS:
                    self._prompts.popitem(last=False)
            return self._prompts[prompt]
