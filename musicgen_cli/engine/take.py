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
from musicgen_cli.audio.source import Source
from musicgen_cli.audio.source_file import SILENCE
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
class Beginning:
    """
    What a clip goes on from, as numbers.

    Codes that are computed from samples end where these do. Codes from which the samples were made may go on for a part
    of a frame, their overhang, which is then the beginning of the new sound.
    """

    samples: int  # of one channel
    frames: int  # whose codes are or will be known, the last ones of the sound
    overhang: int = 0  # samples by which the last code's sound is longer than the sound; less than a frame
    missing: int = 0  # frames of the sound before these, which aren't there


@dataclass(frozen=True, slots=True)
class TakePlan:
    """What is to be made; frames are those of the codec, and the first one is the first of the context."""

    samples: int  # new ones, per channel
    windows: list[Window]
    beginning: Beginning | None = None  # what it goes on from

    @property
    def context(self) -> int:
        """Frames at the end of the source that the model reads."""
        return self.windows[0].given

    @property
    def all_samples(self) -> int:
        """Samples of the clip, per channel."""
        return self.samples + (self.beginning.samples if self.beginning else 0)

    def steps(self, codebooks: int, channels: int) -> int:
        """Return the number of decoder steps, without those that read known codes."""
        return sum(window.pattern(codebooks, channels).steps - window.given for window in self.windows)

    def as_beginning(self, hop: int) -> Beginning:
        """Return the clip as what another one goes on from, with the codes that were known and made."""
        overhang = self.beginning.overhang if self.beginning else 0
        return Beginning(self.all_samples, self.windows[-1].end, overhang + self.new_frames * hop - self.samples)

    @property
    def new_frames(self) -> int:
        """Frames that are generated."""
        return self.windows[-1].end - self.context


def plan_take(shape: Shape, duration: float, overlap: float, beginning: Beginning | None) -> TakePlan:
    """
    Divide a clip into windows.

    Args:
        duration: Of the new sound, in seconds.
        overlap: Seconds of each window that are the end of the one before it.
        beginning: What it goes on from; None for nothing.

    Raises:
        InvalidValueError: The duration or the overlap is out of range.
    """
    if not 0 < duration <= limits.DURATION.high:
        raise InvalidValueError(f"duration must be at most {number(limits.DURATION.high)} s, got {number(duration)}")
    if overlap not in limits.OVERLAP:
        raise InvalidValueError(f"overlap must be {limits.OVERLAP}, got {number(overlap)}")
    rate, hop = shape.codec.rate, shape.codec.hop

    def frames(seconds: float) -> int:
        return num_frames(num_samples(seconds, rate), hop)

    samples, longest, overlapping = num_samples(duration, rate), frames(limits.CONTEXT_S), frames(overlap)
    if beginning is None:
        return TakePlan(samples, plan_windows(num_frames(samples, hop), longest=longest, overlap=overlapping))
    new = num_frames(samples - beginning.overhang, hop)
    context = context_of(beginning.frames, new, longest=longest, overlap=overlapping)
    return TakePlan(samples, plan_windows(new, context=context, longest=longest, overlap=overlapping), beginning)


def context_samples(plan: TakePlan, source: Source, shape: Shape) -> FloatArray:
    """
    Return the end of the source that is encoded.

    Raises:
        InvalidValueError: It is silent.
    """
    codec = shape.codec
    samples: FloatArray = source.samples[:, source.frames - plan.context * codec.hop :]
    if np.abs(samples).max() < SILENCE:
        seconds = number(round(samples.shape[1] / codec.rate, 1))
        raise InvalidValueError(f"the last {seconds} s of the sound are silent: there is nothing to go on from")
    return samples


class TakeInProgress:
    """Collects what the sequences of one clip make, in their order."""

    def __init__(
        self, plan: TakePlan, source: Source | None, shape: Shape, stream: AudioStream, listener: ProgressListener
    ) -> None:
        """
        Begin with the source, if there is one.

        Args:
            source: That of the plan's beginning.
            stream: Decodes the codes, those of the context included.
            listener: Receives the steps and the samples.
        """
        self._plan, self._shape, self._stream, self._listener = plan, shape, stream, listener
        self._rate, channels = shape.codec.rate, shape.decoder.channels
        self._done = 0  # steps
        self._total = plan.steps(shape.decoder.codebooks, channels)
        self._steps_before = 0  # those of windows before the one that is being decoded
        self._seam: Seam | None = None
        self._recording = Recording(plan.all_samples, sample_rate=self._rate, channels=channels)
        if source is not None and plan.beginning is not None:
            fade = round(FADE_S * self._rate)
            context = plan.context * shape.codec.hop - plan.beginning.overhang
            self._seam = Seam(self._recording.as_floats(source.pcm[:, -fade:]), context)
            self._listener.sound(self._recording.keep(source.pcm[:, :-fade]), self._rate, channels)

    def new_sequence(
        self, window: Window, sampling: Sampling, given: IntArray | None, prefix: FloatArray | None
    ) -> Sequence:
        """
        Return the sequence of a window.

        Args:
            given: The codes that the window begins with, shape ``(codebooks, window.given)``; None for none.
            prefix: What is read before the codes, as for `Sequence`.
        """
        before = 0
        if beginning := self._plan.beginning:
            # Counted from the start of the source, so that going on with its seed uses none of its random numbers.
            known = (beginning.samples + beginning.overhang) // self._shape.codec.hop
            before = beginning.missing + known - self._plan.context
        return Sequence(
            self._pattern(window),
            sampling,
            vocab=self._shape.decoder.vocab,
            given=given,
            first_frame=before + window.start,
            prefix=prefix,
        )

    def advance(self, window: Window, sequence: Sequence) -> None:
        """Report the steps of a sequence, and decode the codes that are new."""
        self._advance(window, max(0, sequence.position - window.given), sequence.codes, is_done=sequence.done)

    def restore(self, window: Window, codes: IntArray) -> None:
        """
        Take the codes of a window that were made before.

        Args:
            codes: All of them, shape ``(codebooks, window.frames)``.
        """
        self._advance(window, self._pattern(window).steps - window.given, codes, is_done=True)

    def note(self, text: str) -> None:
        """Pass on a line for the user."""
        self._listener.note(text)

    def pause(self) -> None:
        """Let others go first, between two windows."""
        self._listener.pause()

    def end(self) -> tuple[bytes, tuple[str, ...]]:
        """Decode the rest, and return the WAV and its warnings."""
        self._record(self._stream.end())
        return self._recording.wav()

    def _advance(self, window: Window, steps: int, codes: IntArray, *, is_done: bool) -> None:
        done = self._steps_before + steps
        if done > self._done:
            self._done = done
            self._listener.step(done, self._total)
        if is_done:
            self._steps_before = done
        self._record(self._stream.push(codes[:, self._stream.frames - window.start :]))

    def _record(self, samples: FloatArray) -> None:
        if self._seam:
            samples = self._seam.join(samples)
        if chunk := self._recording.add(samples):
            self._listener.sound(chunk, self._rate, self._shape.decoder.channels)

    def _pattern(self, window: Window) -> DelayPattern:
        return window.pattern(self._shape.decoder.codebooks, self._shape.decoder.channels)
