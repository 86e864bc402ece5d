"""An engine whose requests end in the reverse order."""

from __future__ import annotations

import threading

from musicgen_cli.audio.wav import inspect
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import NO_INPUTS, Abilities, Clip, Inputs, Origin, ProgressListener
from musicgen_cli.errors import EngineError
from tests.support import fakes


class Together:
    """An engine that finishes no request before `slots` of them have started; the last one finishes first."""

    origin = Origin("local", model="nano")

    def __init__(self, slots: int, *, failing: int | None = None) -> None:
        self.slots = slots
        self.abilities = Abilities()
        self.failing = failing
        self._all = threading.Barrier(slots, timeout=20)
        self._turns: dict[int, threading.Event] = {}

    def generate(self, request: GenerateRequest, listener: ProgressListener, inputs: Inputs = NO_INPUTS) -> Clip:
        assert request.seed is not None
        mine = self._turns[request.seed] = threading.Event()
        self._all.wait()
        later = self._turns.get(request.seed + 1)
        if later is not None and request.seed % self.slots != self.slots - 1:
            assert later.wait(20)
        mine.set()
        if request.seed == self.failing:
            raise EngineError("no luck")
        wav = fakes.tone(0.5, seed=request.seed)
        return Clip(wav, inspect(wav), self.origin, 0.1, seed=request.seed)

    def close(self) -> None:
        pass
