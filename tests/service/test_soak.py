"""
`musicgen serve` with the native decoder under 16 clients for three minutes; each answer is compared.

It is run by `pytest -m soak -s` alone, which prints the counts.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("uvicorn", reason="needs the extra serve")

from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.base import NullListener
from musicgen_cli.engine.native import library
from tests.support.service_process import ServiceProcess
from tests.support.services import sound_of

CLIENTS = 16
SECONDS = 180
REQUESTS = 60  # different ones
CANCELLED = 0.1  # share of requests that are given up on their way
GROWTH_MB = 32  # of memory, after the first third

PROMPTS = ("", "jazz", "calm ambient piano", "energetic techno with heavy drums and a fast bass line", "piano " * 40)


def different_requests() -> list[GenerateRequest]:
    """Return requests of different lengths, prompts, and parameters: with one row each and with two."""
    rng = random.Random(0)
    return [
        GenerateRequest(
            prompt=rng.choice(PROMPTS),
            duration=rng.choice((0.5, 0.7, 1.0, 1.6, 3.1, 5.0)),
            seed=seed,
            guidance_scale=rng.choice((1.0, 3.0, 5.0)),
            do_sample=rng.random() < 0.8,
            top_k=rng.choice((0, 50, 250)),
            temperature=rng.choice((0.7, 1.0, 1.5)),
        )
        for seed in range(REQUESTS)
    ]


def made_alone(nano: Checkpoint, cache: Path, requests: list[GenerateRequest]) -> list[bytes]:
    """Make one clip after the other, on one thread."""
    from musicgen_cli.engine.native.engine import NativeEngine

    engine = NativeEngine(nano, cache_dir=cache, threads=1, slots=1)
    wavs = [engine.generate(request, NullListener()).wav for request in requests]
    engine.close()
    return wavs


class Client:
    """Sends requests in a closed loop, and counts what comes back."""

    def __init__(self, service: ServiceProcess, number: int, counts: Counter[str]) -> None:
        self._http = service.client_from(f"127.0.1.{1 + number}")  # the service takes an address for a client
        self._rng = random.Random(number)
        self._counts = counts

    def run(self, requests: list[GenerateRequest], expected: list[bytes], end: float) -> None:
        while time.monotonic() < end:
            number = self._rng.randrange(len(requests))
            body = requests[number].model_dump(mode="json", exclude={"client_job_id"})
            if self._rng.random() < CANCELLED:
                self._give_up(body)
            else:
                self._compare(body, expected[number])

    def _give_up(self, body: dict[str, Any]) -> None:
        try:
            self._http.post("/predict", json=body, timeout=self._rng.uniform(0.05, 1))
            self._counts["answered before they were given up"] += 1
        except httpx.TimeoutException:
            self._counts["given up"] += 1

    def _compare(self, body: dict[str, Any], expected: bytes) -> None:
        answer = self._http.post("/predict", json=body)
        if answer.status_code == 429:
            self._counts["refused"] += 1
            time.sleep(min(float(answer.headers.get("Retry-After", 1)), 2))
        elif answer.status_code != 200:
            self._counts["errors"] += 1
        else:
            self._counts["right" if sound_of(answer) == expected else "wrong"] += 1


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 400)
def test_each_of_many_answers_is_what_it_is_alone(nano: Checkpoint, session_cache: Path, tmp_path: Path) -> None:
    """To the byte, whoever else joins, leaves or gives up meanwhile; and the service needs no more and more memory."""
    if not library.LIBRARY.exists():
        pytest.skip("the native library isn't built: `python -m native.compile`")
    requests = different_requests()
    expected = made_alone(nano, session_cache, requests)
    service = ServiceProcess(tmp_path / "log", "--engine", "native")
    counts: Counter[str] = Counter()
    memory_mb = []
    end = time.monotonic() + SECONDS
    with ThreadPoolExecutor(CLIENTS) as pool:
        loops = [pool.submit(Client(service, number, counts).run, requests, expected, end) for number in range(CLIENTS)]
        while time.monotonic() < end:
            memory_mb.append(service.memory_mb())
            time.sleep(1)
        for loop in loops:
            loop.result()
    log = service.stop()
    first, last = max(memory_mb[: len(memory_mb) // 3]), max(memory_mb[len(memory_mb) // 3 :])
    shown = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    print(f"\n{CLIENTS} clients, {SECONDS} s: {shown}; memory {first:.0f} MB, later {last:.0f} MB")  # noqa: T201

    assert (counts["wrong"], counts["errors"]) == (0, 0)
    assert counts["right"] >= CLIENTS
    assert counts["given up"]
    assert last - first <= GROWTH_MB
    assert "Traceback" not in log
