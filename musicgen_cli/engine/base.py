"""The seam between a command and what makes the sound: an Engine turns a request into a Clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from musicgen_cli.audio.wav import WavInfo
from musicgen_cli.contract import GenerateRequest


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a clip came from, as far as it is known."""

    kind: str  # "http" or "local"
    model: str | None = None
    engine: str | None = None
    precision: str | None = None
    device: str | None = None
    url: str | None = None  # without user info and query


@dataclass(frozen=True, slots=True)
class Clip:
    """A sound that was made and checked: a WAV, and everything that is known of its making."""

    wav: bytes
    info: WavInfo
    origin: Origin
    elapsed_s: float
    seed: int | None = None  # only where it was honoured: the same seed gives the same bytes
    license: str | None = None  # of the model's weights
    extra: Mapping[str, Any] = field(default_factory=dict)  # what else a remake needs: checkpoint, sampler version
    warnings: tuple[str, ...] = ()


class ProgressListener(Protocol):
    """Hears how a request is getting on. Whatever a method raises stops the request."""

    def step(self, done: int, total: int) -> None:
        """Hear that `done` of `total` decoder steps are made; called between two steps."""

    def note(self, text: str) -> None:
        """Hear one line worth telling, such as a wait."""

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        """
        Hear the next samples of the clip while it is being made, which not every engine tells.

        Args:
            pcm: 16-bit little-endian, channels interleaved; all that are told, in order, are the samples of the WAV.
            sample_rate: In Hz.
        """


class NullListener:
    """A listener that doesn't care."""

    def step(self, done: int, total: int) -> None:
        """Ignore a step."""

    def note(self, text: str) -> None:
        """Ignore a note."""

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        """Ignore samples."""


class LogListener(NullListener):
    """Passes the notes on to a function."""

    def __init__(self, log: Callable[[str], None]) -> None:
        """Choose the function, which is called with each line."""
        self._log = log

    def note(self, text: str) -> None:
        """Pass a note on."""
        self._log(text)


class Engine(Protocol):
    """Turns requests into clips; `generate` may be called from many threads at once."""

    origin: Origin  # what is known before the first clip
    slots: int  # clips that are made side by side; further calls wait

    def generate(self, request: GenerateRequest, listener: ProgressListener) -> Clip:
        """
        Make one clip.

        Raises:
            MusicgenError: Any failure that can be explained; nothing half-made is returned.
        """

    def close(self) -> None:
        """Free what the engine holds."""
