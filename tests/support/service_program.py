"""
A process that serves a fake engine, for tests of how a service starts and ends.

The argument is a JSON object with the options of `serve`, and "failure": "absent", "broken" or "loading", for a model
that cannot be loaded or takes for ever. Each request is held until a line comes on stdin.
"""

# ruff: noqa: T201  # the test reads stdout

from __future__ import annotations

import json
import sys
import threading

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import NO_INPUTS, Clip, Inputs, ProgressListener
from musicgen_cli.errors import MusicgenError
from musicgen_cli.service.server import ServeOptions, serve
from tests.support.fake_engine import FakeEngine

options = json.loads(sys.argv[1])
failure = options.pop("failure", None)


class HeldEngine(FakeEngine):
    def generate(self, request: GenerateRequest, listener: ProgressListener, inputs: Inputs = NO_INPUTS) -> Clip:
        listener.step(1, 8)
        sys.stdin.readline()
        return super().generate(request, listener, inputs)

    def close(self) -> None:
        print("closed", flush=True)


def make_engine() -> HeldEngine:
    if failure == "absent":
        raise MusicgenError("no model here")
    if failure == "broken":
        raise ZeroDivisionError
    if failure == "loading":
        print("loading", flush=True)
        threading.Event().wait()  # the test ends the process
    return HeldEngine()


try:
    serve(make_engine, ServeOptions(**options), on_ready=lambda url: print(url, flush=True))
except MusicgenError as err:
    print(f"{type(err).__name__}: {err}", flush=True)
    sys.exit(err.exit_code)
print("returned", flush=True)
