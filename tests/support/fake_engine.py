"""An engine without a model, for tests of what surrounds an engine."""

from __future__ import annotations

import random
import threading
import time
from array import array
from math import ceil, pi, sin

from musicgen_cli.audio import wav
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import LONG, NO_INPUTS, Abilities, Clip, Inputs, Origin, ProgressListener

STEPS = 8
_HOLD_S = 120.0  # a test that forgot to release the engine fails after this


def windows_of(request: GenerateRequest) -> int:
    """Return the number of windows of 30 s, of which all but the first have 18 s of new sound."""
    return 1 + ceil(max(0.0, request.duration - 30) / 18)


def joined(first: bytes, second: bytes) -> bytes:
    """Return the samples of two WAVs of the same form as one."""
    info = wav.inspect(first)
    samples = first[info.data_start :][: info.data_bytes] + second[44:]
    return wav.pcm16_wav(samples, sample_rate=info.sample_rate, channels=info.channels)


class FakeEngine:
    """
    Generates a sine whose pitch is the request's seed, in STEPS steps; the first four samples hold the whole seed.

    A clip that is longer than a model's context takes as many steps for each of its windows. A sound that a clip goes
    on from comes before the sine.

    A test can hold it after a step, slow it down with `step_s`, and make it fail with `failure`.
    """

    origin = Origin("local", model="fake", engine="sine", precision="fp32", device="cpu")

    def __init__(self, *, slots: int = 1, step_s: float = 0.0) -> None:
        self.slots = slots
        self.step_s = step_s  # the time that each step takes
        self.failure: Exception | None = None  # raised instead of returning a clip
        self.warnings: tuple[str, ...] = ()  # of the clips
        self.abilities = Abilities(frozenset({LONG}))
        self.requests: list[GenerateRequest] = []  # all that were begun
        self.inputs: list[Inputs] = []  # of these
        self.cancelled_by: list[Exception] = []  # what listeners raised
        self.closed = False
        self._released = threading.Event()
        self._released.set()

    def hold(self) -> None:
        """Let requests make no more steps; each repeats its last step to its listener meanwhile."""
        self._released.clear()

    def release(self) -> None:
        """Let requests go on."""
        self._released.set()

    def generate(self, request: GenerateRequest, listener: ProgressListener, inputs: Inputs = NO_INPUTS) -> Clip:
        self.requests.append(request)
        self.inputs.append(inputs)
        if request.seed is None:
            request = request.model_copy(update={"seed": random.randrange(2**53)})
        try:
            for window in range(windows := windows_of(request)):
                if window:
                    listener.pause()
                self._step(listener, window * STEPS, windows * STEPS)
        except Exception as err:
            self.cancelled_by.append(err)
            raise
        if self.failure is not None:
            raise self.failure
        sound = self.sound(request)
        extra: dict[str, object] = {"windows": windows} if windows > 1 else {}
        if inputs.continue_wav is not None:
            sound = joined(inputs.continue_wav, sound)
            extra["context_s"] = 1.5
        return Clip(
            wav=sound,
            info=wav.inspect(sound),
            origin=self.origin,
            elapsed_s=0.25,
            seed=request.seed,
            license="CC0-1.0",
            extra={
                "checkpoint": "sha256:0",
                "sampler": 1,
                "runtime": "fake 1",
                "processor": "fake",
                "seed": "not this one",
                **extra,
            },
            warnings=self.warnings,
        )

    def close(self) -> None:
        self.closed = True

    @staticmethod
    def sound(request: GenerateRequest) -> bytes:
        """Return the WAV that a request with a seed becomes."""
        assert request.seed is not None
        period = 20 + request.seed % 1000
        wave = array("h", (round(9000 * sin(2 * pi * at / period)) for at in range(period))).tobytes()
        digits = array("h", (request.seed >> shift & 0x3FFF for shift in (0, 14, 28, 42))).tobytes()
        size = 2 * round(request.duration * 32_000)
        samples = digits + wave * (size // len(wave) + 1)
        return wav.pcm16_wav(samples[:size], sample_rate=32_000, channels=1)

    def _step(self, listener: ProgressListener, before: int, total: int) -> None:
        for done in range(before + 1, before + STEPS + 1):
            listener.step(done, total)
            time.sleep(self.step_s)
            end = time.monotonic() + _HOLD_S
            while not self._released.wait(0.002):
                listener.step(done, total)
                assert time.monotonic() < end, "the engine was never released"
