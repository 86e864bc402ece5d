"""
One clip of a local engine while it is made: its windows, its samples and its progress.

A clip that fits into the model's window is one sequence. A longer one is a sequence for each window, whose codes are
decoded as one stream, so that nothing is heard where a window begins. A clip that goes on from a sound begins with the
sound itself, then a short cross-fade, then what is new.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from musicgen_cli import limits
from musicgen_cli.audio.source import SILENCE, Source
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine.base import ProgressListener
from musicgen_cli.engine.decoding.audio_stream import AudioStream
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern, IntArray, num_frames, num_samples
from musicgen_cli.engine.decoding.pcm import Recording
from musicgen_cli.engine.decoding.sampling import Sampling
from musicgen_cli.engine.decoding.seam import FADE_S, Seam
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.decoding.windows import Window, context_of, plan_windows
from musicgen_cli.errors import InvalidValueError
from musicgen_cli.text import number


@dataclass(frozen=True, slots=True)
class TakePlan:
    """What is to be made; frames are those of the codec, and the first one is the first of the context."""

    samples: int  # new ones, per channel
    windows: list[Window]
    source: Source | None = None  # what it goes on from

    @property
    def context(self) -> int:
        """Frames at the end of the source that the model reads."""
        return self.windows[0].given

    def context_samples(self, hop: int) -> FloatArray:
        """Return the end of the source that is encoded."""
        assert self.source is not None
        samples: FloatArray = self.source.samples[:, self.source.frames - self.context * hop :]
        return samples


def plan_take(shape: Shape, duration: float, overlap: float, source: Source | None) -> TakePlan:
    """
    Divide a clip into windows.

    Args:
        duration: Of the new sound, in seconds.
        overlap: Seconds of each window that are the end of the one before it.
        source: What it goes on from; None for nothing.

    Raises:
        InvalidValueError: The duration or the overlap is out of range, or the end of the source is silent.
    """
    if not 0 < duration <= limits.LONGEST_S:
        raise InvalidValueError(f"duration must be at most {number(limits.LONGEST_S)} s, got {number(duration)}")
    if overlap not in limits.OVERLAP:
        raise InvalidValueError(f"overlap must be {limits.OVERLAP}, got {number(overlap)}")
    rate, hop = shape.codec.rate, shape.codec.hop

    def frames(seconds: float) -> int:
        return num_frames(num_samples(seconds, rate), hop)

    samples, longest = num_samples(duration, rate), frames(limits.CONTEXT_S)
    new, overlapping = num_frames(samples, hop), frames(overlap)
    if source is None:
        return TakePlan(samples, plan_windows(new, longest=longest, overlap=overlapping))
    context = context_of(source.frames // hop, new, longest=longest, overlap=overlapping)
    plan = TakePlan(samples, plan_windows(new, context=context, longest=longest, overlap=overlapping), source)
    if np.abs(plan.context_samples(hop)).max() < SILENCE:
        seconds = number(round(context * hop / rate, 1))
        raise InvalidValueError(f"the last {seconds} s of the sound are silent: there is nothing to go on from")
    return plan


class TakeInProgress:
    """Collects what the sequences of one clip make, in their order."""

    def __init__(self, plan: TakePlan, shape: Shape, stream: AudioStream, listener: ProgressListener) -> None:
        """
        Begin with the source, if there is one.

        Args:
            stream: Decodes the codes, those of the context included.
        """
        self._plan, self._shape, self._stream, self._listener = plan, shape, stream, listener
        self._rate, channels = shape.codec.rate, shape.decoder.channels
        self._done = 0  # steps
        self._total = sum(self._pattern(window).steps - window.given for window in plan.windows)
        self._steps_before = 0  # those of windows before the one that is being decoded
        self._seam: Seam | None = None
        kept = plan.source.pcm if plan.source else np.empty((channels, 0), np.int16)
        self._recording = Recording(kept.shape[1] + plan.samples, sample_rate=self._rate, channels=channels)
        if plan.source:
            fade = round(FADE_S * self._rate)
            self._seam = Seam(self._recording.as_floats(kept[:, -fade:]), plan.context * shape.codec.hop)
            self._listener.sound(self._recording.keep(kept[:, :-fade]), self._rate, channels)

    def new_sequence(self, window: Window, sampling: Sampling, given: IntArray | None) -> Sequence:
        """
        Return the sequence of a window.

        Args:
            given: The codes that the window begins with, shape ``(codebooks, window.given)``; None for none.
        """
        # Counted from the beginning of the source, so that going on with its seed uses none of its random numbers.
        before = self._plan.source.frames // self._shape.codec.hop - self._plan.context if self._plan.source else 0
        return Sequence(
            self._pattern(window),
            sampling,
            vocab=self._shape.decoder.vocab,
            given=given,
            first_frame=before + window.start,
        )

    def advance(self, window: Window, sequence: Sequence) -> None:
        """Report the steps of a sequence, and decode the codes that are new."""
        done = self._steps_before + max(0, sequence.position - window.given)
        if done > self._done:
            self._done = done
            self._listener.step(done, self._total)
        if sequence.done:
            self._steps_before = done
        self._record(self._stream.push(sequence.codes[:, self._stream.frames - window.start :]))

    def end(self) -> tuple[bytes, tuple[str, ...]]:
        """Decode the rest, and return the WAV and its warnings."""
        self._record(self._stream.end())
        return self._recording.wav()

    def _record(self, samples: FloatArray) -> None:
        if self._seam:
            samples = self._seam.join(samples)
        if chunk := self._recording.add(samples):
            self._listener.sound(chunk, self._rate, self._shape.decoder.channels)

    def _pattern(self, window: Window) -> DelayPattern:
        return window.pattern(self._shape.decoder.codebooks, self._shape.decoder.channels)
