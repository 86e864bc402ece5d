"""
The interface of every engine: it turns a `GenerateRequest` into a `Clip` and reports progress to a listener.

Read this file first. Commands, jobs, batches and the HTTP service know an engine only by what is here. There are three
implementations: a model in this process (`local.LocalEngine`, on ONNX Runtime or torch), an HTTP service
(`client.RemoteEngine`) and several HTTP services (`fleet.Fleet`). `registry` opens them, and `tests/engine/suite.py`
tests what all of them must do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from musicgen_cli import limits
from musicgen_cli.audio.wav import WavInfo
from musicgen_cli.contract import GenerateRequest

# What the bytes of a clip depend on beside its request and its origin: the digest of the weights, the version of the
# sampler, the package that computed and its version, and the kind of processor.
REPRODUCIBILITY = ("checkpoint", "sampler", "runtime", "processor")


@dataclass(frozen=True, slots=True)
class Origin:
    """What generated a clip, and where; None for what is not known."""

    kind: str  # "http": a service; "local": this process
    model: str | None = None
    engine: str | None = None  # "onnx" or "torch"; a foreign service may name another
    precision: str | None = None  # such as "int8"
    device: str | None = None  # such as "cpu"
    url: str | None = None  # of the service, without user info and query


CONTINUE, CONTINUE_OWN, MELODY, LONG, RESUME = "continue", "continue-own", "melody", "long", "resume"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What an engine can do beside a clip of 30 s from text; a service reports it."""

    # CONTINUE: go on from any sound; CONTINUE_OWN: from clips that its model made, which it makes again by their
    # recipe; MELODY: follow a tune; LONG: make clips of several windows; RESUME: go on with one that was cut off.
    features: frozenset[str] = frozenset()
    sample_rate: int = limits.SAMPLE_RATE  # Hz
    channels: int = limits.CHANNELS

    @property
    def takes_sounds(self) -> bool:
        """Whether it can make something from a sound."""
        return bool(self.features & {CONTINUE, MELODY})


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a clip is made from beside its request."""

    continue_wav: bytes | None = None  # a sound file that the clip begins with, and the new sound goes on from
    continue_offset_s: int = 0  # seconds of that sound that came before the file's first sample
    continue_sha256: str | None = None  # of that sound's file, in its place where there is a recipe
    recipe: Recipe | None = None  # how that sound was made, for models that can't listen to it
    melody_wav: bytes | None = None  # a sound file whose tune the new sound follows
    overlap: float = limits.OVERLAP.default  # seconds; of a clip that takes several windows of the model

    @property
    def is_continuation(self) -> bool:
        """Whether the clip goes on from a sound."""
        return self.continue_wav is not None or self.continue_sha256 is not None

    @property
    def sound_bytes(self) -> int:
        """The size of the sounds in it."""
        return sum(len(wav) for wav in (self.continue_wav, self.melody_wav) if wav is not None)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a clip was made, so that it can be made again; the WAVs in its `inputs` that have a recipe may be missing."""

    request: GenerateRequest  # with its seed
    inputs: Inputs = Inputs()
    checkpoint: str | None = None  # the digest of the model


NO_INPUTS = Inputs()


@dataclass(frozen=True, slots=True)
class Clip:
    """A finished clip in memory: its WAV, which was checked, and what is known about how it was generated."""

    wav: bytes  # the whole file, including the header
    info: WavInfo  # what the header says, checked against the bytes
    origin: Origin
    elapsed_s: float  # from the call of `generate` to its return, including all waits
    seed: int | None = None  # None unless the engine honoured it: the same seed gives the same bytes
    license: str | None = None  # of the model's weights
    extra: Mapping[str, Any] = field(default_factory=dict)  # what its bytes depend on: REPRODUCIBILITY
    warnings: tuple[str, ...] = ()  # one line each


class ProgressListener(Protocol):
    """
    Receives the progress of one request.

    All methods are called on the thread that called `Engine.generate`. An exception from any of them cancels the
    request and comes out of `generate`.
    """

    def step(self, done: int, total: int) -> None:
        """
        Receive the number of decoder steps done, out of `total`.

        `done` never decreases and `total` never changes. A local engine ends with `done == total`; a service is only
        polled from time to time, and a foreign one may report nothing.
        """

    def note(self, text: str) -> None:
        """Receive one line for the user, such as why the request waits."""

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        """
        Receive the next samples of the clip while it is being generated. A service does not send any.

        Args:
            pcm: 16-bit little-endian, channels interleaved. All calls together give exactly the samples of the WAV.
            sample_rate: In Hz.
            channels: 1 or 2.
        """

    def pause(self) -> None:
        """
        Return when the next window of a clip may begin.

        It is called between two windows, when nothing of the clip is in the decoder: a service may let others go first.
        """


class NullListener:
    """A listener that ignores everything; a base class for those that need only some of the methods."""

    def step(self, done: int, total: int) -> None:
        """Ignore a step."""

    def note(self, text: str) -> None:
        """Ignore a note."""

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        """Ignore samples."""

    def pause(self) -> None:
        """Go on at once."""


class LogListener(NullListener):
    """A listener that passes notes on to a function, such as a logger's `info`, and ignores the rest."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log

    def note(self, text: str) -> None:
        """Pass a note on."""
        self._log(text)


class Engine(Protocol):
    """Generates clips. `generate` may be called from many threads at once."""

    origin: Origin  # what is known about it before the first clip
    slots: int  # clips that are generated at the same time; further calls wait

    @property
    def abilities(self) -> Abilities:
        """What it can do, as far as is known before it is asked to."""

    def generate(self, request: GenerateRequest, listener: ProgressListener, inputs: Inputs = NO_INPUTS) -> Clip:
        """
        Generate one clip.

        A local engine draws a seed for a request without one and records it in the clip. The same request and inputs
        with the same seed give the same bytes, whatever else is generated at the same time. The duration of the request
        is that of the new sound; the clip of a continuation is longer by the sound that it goes on from.

        Raises:
            MusicgenError: Any failure that can be explained. There is no partial result.
            Exception: Whatever the listener raised.
        """

    def close(self) -> None:
        """Free the model or connections; the engine cannot be used afterwards."""
