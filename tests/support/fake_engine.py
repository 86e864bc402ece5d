"""An engine without a model, for tests of what surrounds one."""

import threading
import time
from array import array
from math import pi, sin

from musicgen_cli.audio import wav
from musicgen_cli.engine.base import Clip, Origin

STEPS = 8


class FakeEngine:
    """Makes a sine from the seed, in STEPS steps; can be held before its second step, slowed and made to fail."""

    slots = 1
    origin = Origin("local", model="fake", engine="sine", precision="fp32", device="cpu")

    def __init__(self, *, step_s=0.0):
        self.go = threading.Event()
        self.go.set()
        self.step_s = step_s
        self.failure = None
        self.warnings = ()
        self.requests = []
        self.stops = []
        self.closed = False

    def generate(self, request, listener):
        self.requests.append(request)
        try:
            for done in range(1, STEPS + 1):
                listener.step(done, STEPS)
                time.sleep(self.step_s)
                while not self.go.wait(0.002):
                    listener.step(done, STEPS)
        except Exception as err:
            self.stops.append(err)
            raise
        if self.failure is not None:
            raise self.failure
        sound = self.sound(request)
        return Clip(
            wav=sound,
            info=wav.inspect(sound),
            origin=self.origin,
            elapsed_s=0.25,
            seed=request.seed,
            license="CC0-1.0",
            extra={"checkpoint": "sha256:0", "sampler": 1, "seed": "not this one"},
            warnings=self.warnings,
        )

    def close(self):
        self.closed = True

    @staticmethod
    def sound(request):
        period = 20 + request.seed % 1000
        wave = array("h", (round(9000 * sin(2 * pi * at / period)) for at in range(period))).tobytes()
        size = 2 * round(request.duration * 32_000)
        return wav.pcm16_wav((wave * (size // len(wave) + 1))[:size], sample_rate=32_000, channels=1)
