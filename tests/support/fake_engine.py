"""An engine without a model, for tests of what surrounds an engine."""

from __future__ import annotations

import random
import threading
import time
from array import array
from math import pi, sin

from musicgen_cli.audio import wav
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import NO_INPUTS, Clip, Inputs, Origin, ProgressListener

STEPS = 8
_HOLD_S = 120.0  # a test that forgot to release the engine fails after this


class FakeEngine:
    """
    Generates a sine whose pitch is the request's seed, in STEPS steps; the first four samples hold the whole seed.

    What goes on from a sound begins with that, which has to be 16-bit mono at 32 kHz. A test can hold it after a step,
    slow it down with `step_s`, and make it fail with `failure`.
    """

    origin = Origin("local", model="fake", engine="sine", precision="fp32", device="cpu")

    def __init__(self, *, slots: int = 1, step_s: float = 0.0) -> None:
        self.slots = slots
        self.step_s = step_s  # the time that each step takes
        self.failure: Exception | None = None  # raised instead of returning a clip
        self.warnings: tuple[str, ...] = ()  # of the clips
        self.requests: list[GenerateRequest] = []  # all that were begun
        self.inputs: list[Inputs] = []  # theirs
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
            self._step(listener)
        except Exception as err:
            self.cancelled_by.append(err)
            raise
        if self.failure is not None:
            raise self.failure
        sound = self.sound(request)
        if inputs.continue_wav is not None:
            before, new = (each[wav.inspect(each).data_start :] for each in (inputs.continue_wav, sound))
            sound = wav.pcm16_wav(before + new, sample_rate=32_000, channels=1)
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

    def _step(self, listener: ProgressListener) -> None:
        for done in range(1, STEPS + 1):
            listener.step(done, STEPS)
            time.sleep(self.step_s)
            end = time.monotonic() + _HOLD_S
            while not self._released.wait(0.002):
                listener.step(done, STEPS)
                assert time.monotonic() < end, "the engine was never released"
