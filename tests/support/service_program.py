"""A process that serves a fake engine; each request is held until a line comes on stdin."""

# ruff: noqa: T201  # stdout is how it talks to the test

import json
import sys
import threading

from musicgen_cli.errors import MusicgenError
from musicgen_cli.service.server import ServeOptions, serve
from tests.support.fake_engine import FakeEngine

options = json.loads(sys.argv[1])
how = options.pop("how", None)


class Held(FakeEngine):
    def generate(self, request, listener):
        listener.step(1, 8)
        sys.stdin.readline()
        return super().generate(request, listener)

    def close(self):
        print("closed", flush=True)


def make_engine():
    if how == "absent":
        raise MusicgenError("no model here")
    if how == "broken":
        raise ZeroDivisionError
    if how == "loading":
        print("loading", flush=True)
        threading.Event().wait()
    return Held()


try:
    serve(make_engine, ServeOptions(**options), on_ready=lambda url: print(url, flush=True))
except MusicgenError as err:
    print(f"{type(err).__name__}: {err}", flush=True)
    sys.exit(err.exit_code)
print("returned", flush=True)
