"""What every engine in this process does alike: a request becomes a take, its codes sound, the sound a clip."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from tokenizers import Tokenizer

from musicgen_cli import limits
from musicgen_cli.audio import wav
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import Clip, Listener, Origin
from musicgen_cli.engine.decoding import pcm
from musicgen_cli.engine.decoding.audio_stream import SoundStream
from musicgen_cli.engine.decoding.scheduler import Slots
from musicgen_cli.engine.decoding.sequence import (
    SAMPLER_VERSION,
    FloatArray,
    Pattern,
    Sampling,
    Take,
    frames_of,
    samples_of,
)
from musicgen_cli.errors import CheckpointError, line

_TEXTS = 4  # kept at most: the same prompt mostly comes again at once, with other seeds

Text = TypeVar("Text")
Read = TypeVar("Read", covariant=True)


class Model(Protocol[Read]):
    """What computes, beside the decoder that `Slots` has."""

    def read(self, ids: Sequence[int]) -> Read:
        """Look at a text, given as token ids, once for all steps."""

    def sound(self) -> SoundStream:
        """Return a clip's way from codes to samples."""


class LocalEngine(Generic[Text]):
    """Makes clips of takes; whoever inherits brings what computes them."""

    slots: int
    _model: Model[Text]
    _slots: Slots[Text]

    def __init__(self, checkpoint: Checkpoint, origin: Origin) -> None:
        """
        Begin with what needs no weights.

        Raises:
            CheckpointError: The config or the tokenizer is absent, damaged or of a kind that isn't supported.
        """
        self.origin = origin
        self.license = checkpoint.license
        self._checkpoint = checkpoint
        self._shape = Shape.of(checkpoint.config)
        self._tokenizer = _tokenizer(checkpoint)
        self._reading = threading.Lock()  # guards what follows; of callers with one prompt, the first reads it
        self._texts: OrderedDict[str, Text] = OrderedDict()  # by prompt, the one used last at the end

    def generate(self, request: GenerateRequest, listener: Listener) -> Clip:
        """
        Make one clip; from any number of threads at once.

        A request without a seed gets one, which the clip tells. The same request with the same seed becomes the same
        bytes, whatever else is made meanwhile.

        Raises:
            EngineError: The model fails, or makes what is not a number.
        """
        started = time.perf_counter()
        seed = secrets.randbelow(int(limits.SEED.high) + 1) if request.seed is None else request.seed
        samples, pattern = self._plan(request.duration)
        text = self._read(request.prompt) if request.prompt else None
        take = Take(pattern, Sampling.of(request, seed), vocab=self._shape.decoder.vocab)
        rate, channels = self._shape.sound.rate, self._shape.decoder.channels
        stream, recording = self._model.sound(), pcm.Recording(samples, sample_rate=rate, channels=channels)

        def tell(sound: FloatArray) -> None:
            if chunk := recording.add(sound):
                listener.sound(chunk, rate, channels)

        def heard(done: int, total: int) -> None:
            listener.step(done, total)
            tell(stream.push(take.codes[:, stream.frames :]))

        self._slots.run(take, text, heard)
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

    def _plan(self, duration: float) -> tuple[int, Pattern]:
        """Return the samples of one channel that `duration` seconds have, and what makes them."""
        decoder, sound = self._shape.decoder, self._shape.sound
        samples = samples_of(duration, sound.rate)
        return samples, Pattern(decoder.codebooks, decoder.channels, frames_of(samples, sound.hop))

    def _read(self, prompt: str) -> Text:
        """Look at a prompt, unless it is one of the last few."""
        with self._reading:
            if prompt in self._texts:
                self._texts.move_to_end(prompt)
            else:
                self._texts[prompt] = self._model.read(self._ids(prompt))
                if len(self._texts) > _TEXTS:
                    self._texts.popitem(last=False)
            return self._texts[prompt]

    def _ids(self, prompt: str) -> Sequence[int]:
        ids = self._tokenizer.encode(prompt).ids
        if not ids or max(ids) >= self._shape.text.vocab:
            raise CheckpointError(f"the tokenizer.json of {self._checkpoint.name} doesn't fit its model")
        return ids


def _tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(checkpoint.tokenizer))
    except CheckpointError:
        raise
    except Exception as err:  # tokenizers raises nothing narrower
        raise CheckpointError(f"{checkpoint.tokenizer} can't be read: {line(err)}") from err
    # As transformers sets them for each call that doesn't ask for more.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
