"""
Measure `musicgen serve` under load, compared with a plain FastAPI service that makes one clip at a time.

    python -m benchmarks.service [--model nano] [--clients 1 2 4 8 16] [--quick] [--cache FOLDER]
    python -m benchmarks.service --mixed [--model nano] [--quick]
    python -m benchmarks.service --soak [SECONDS]
    python -m benchmarks.service --hostile [SECONDS]

Throughput: clients send requests for 1 s clips in a closed loop until each has five answers. Each has an address of its
own on loopback, since the service takes an address for a client. A refused client retries as the contract says: after
Retry-After, or else after a random wait that doubles from 1 s to 30 s. A run ends after --most seconds, and the answers
up to then count, because the plain service needs minutes with 8 clients. It is FastAPI around `generate()` of
transformers in float32 (service_reference.py). Both servers run all the time and take turns. The medians of the rounds
are printed.

--mixed: the latency of 1 s clips while another client requests 30 s clips, compared with the latency while it requests
1 s clips.

--soak: twice as many clients as fit into the slots and the queue, for some minutes, with `nano`. Each answer is
compared with the bytes that this process makes of the same request, and the memory of the service is watched.

--hostile: four clients of `nano`, each with an address of its own, by themselves and beside 2,000 connections from one
other address, in turns. The connections send nothing, or half a head or body and then a byte now and then, or a
request that is refused or answered; they are opened again when the service closes them. The service may open 1,024
files. The clients' latency is compared in each of three rounds; memory and log are measured. So is the time for which
both processes compute, because they share the processors: the hostile one must take little for itself.

Without `--model nano`, the model is a random one of musicgen-small's size, which `benchmarks.engine` makes. The plain
service needs the extra torch and is left out without it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import importlib.util
import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from benchmarks.processes import Server, processor_seconds, running_server
from musicgen_cli import limits
from musicgen_cli.contract import GenerateRequest, read_answer
from musicgen_cli.engine.base import NullListener
from musicgen_cli.engine.registry import open_local
from tests.support.service_process import ServiceProcess

NANO = Path(__file__).parent.parent / "musicgen_cli" / "models" / "nano"
PROMPTS = ("calm ambient piano", "energetic techno with heavy drums", "jazz")  # the plain service needs a prompt
HONEST = 4  # clients beside hostile connections
HOSTILE_CONNECTIONS = 2_000
HOSTILE_ROUNDS = 3
MEMORY_INTERVAL_S = 1.0  # between two readings of the service's memory


@dataclass
class Tally:
    """What some clients received."""

    seconds: list[float] = field(default_factory=list)  # of each answer, with all waits
    refused: int = 0
    errors: int = 0
    elapsed_s: float = 0.0

    @property
    def throughput(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.elapsed_s

    def percentile(self, share: float) -> float:
        """Return the time within which this share of the answers came."""
        ranked = sorted(self.seconds)
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else float("nan")


class Client:
    """A client that waits and retries when it is refused."""

    def __init__(self, server: Server, number: int, tally: Tally) -> None:
        self._host = server.url.removeprefix("http://")
        self._address = f"127.0.{1 + number // 250}.{1 + number % 250}"
        self._rng = random.Random(number)
        self._tally = tally

    def generate(self, request: GenerateRequest, deadline: float = float("inf")) -> bytes | None:
        """Send a request until it is answered, and return the WAV; None after an error or at the deadline."""
        started, backoff_s = time.monotonic(), limits.BACKOFF_FIRST_S
        while time.monotonic() < deadline:
            status, retry_after, body = self._post(request.model_dump_json().encode())
            if status == 200:
                wav = read_answer(body, request).wav
                self._tally.seconds.append(time.monotonic() - started)
                return wav
            if status not in {429, 503}:
                self._tally.errors += 1
                return None
            self._tally.refused += 1
            wait_s = float(retry_after) if retry_after else backoff_s * self._rng.uniform(0.5, 1)
            backoff_s = min(2 * backoff_s, limits.BACKOFF_MOST_S)
            time.sleep(max(0.0, min(wait_s, deadline - time.monotonic())))
        return None

    def _post(self, body: bytes) -> tuple[int, str | None, bytes]:
        connection = http.client.HTTPConnection(self._host, source_address=(self._address, 0), timeout=600)
        with contextlib.closing(connection):
            try:
                connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                return answer.status, answer.getheader("Retry-After"), answer.read()
            except (OSError, http.client.HTTPException):
                return 0, None, b""


def numbered_request(seed: int, duration: float = 1.0) -> GenerateRequest:
    """Return a request whose prompt follows from its seed."""
    prompt = PROMPTS[seed % len(PROMPTS)]
    return GenerateRequest(prompt=prompt, duration=duration, seed=seed, client_job_id=f"bench-{seed}")


def load(server: Server, clients: int, answers: int, most_s: float) -> Tally:
    """Let clients send requests in a closed loop until each has its answers, or until `most_s` seconds have passed."""
    tally = Tally()
    started = time.monotonic()

    def loop(number: int) -> None:
        client = Client(server, number, tally)
        for turn in range(answers):
            if time.monotonic() > started + most_s:
                return
            client.generate(numbered_request(1000 * number + turn), started + most_s)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(loop, range(clients)))
    tally.elapsed_s = time.monotonic() - started
    return tally


def measure_throughput(
    servers: dict[str, Server], clients: list[int], answers: int, most_s: float, rounds: int
) -> None:
    """Print what each number of clients receives from each server."""
    tallies: dict[tuple[int, str], list[Tally]] = {}
    for number in range(rounds):
        for count in clients:
            for name, server in servers.items():
                tally = load(server, count, answers, most_s)
                tallies.setdefault((count, name), []).append(tally)
                result = f"{len(tally.seconds)} answers in {tally.elapsed_s:.1f} s"
                log(f"round {number + 1} of {rounds}: {count} client(s) of {name}: {result}")
    print(f"{'clients':>8} {'':<10}{'clips/s':>9}{'x plain':>9}{'p50 s':>8}{'p95 s':>8}{'refused':>9}{'errors':>8}")
    for (count, name), of_rounds in tallies.items():
        rate, plain = throughput(of_rounds), tallies.get((count, "plain"))
        ratio = f"{rate / throughput(plain):9.1f}" if plain else f"{'':>9}"
        p50, p95 = (statistics.median(tally.percentile(share) for tally in of_rounds) for share in (0.5, 0.95))
        print(
            f"{count:>8} {name:<10}{rate:9.3f}{ratio}{p50:8.2f}{p95:8.2f}"
            f"{sum(tally.refused for tally in of_rounds):9}{sum(tally.errors for tally in of_rounds):8}"
        )


def throughput(rounds: Sequence[Tally]) -> float:
    """Return the median of the rounds' answers a second."""
    return statistics.median(tally.throughput for tally in rounds)


def measure_mixed(server: Server, clips: int, rounds: int) -> None:
    """Print the 95th percentile of the latency of 1 s clips, beside a client of 1 s clips and one of 30 s clips."""
    ratios = []
    for number in range(rounds):
        p95 = {}
        for duration in (1.0, 30.0):
            log(f"round {number + 1} of {rounds}: {clips} clips of 1 s beside clips of {duration:g} s")
            tally, stop = Tally(), threading.Event()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(generate_until, stop, Client(server, 1, Tally()), duration)
                try:
                    time.sleep(1)  # until the other client's clip is being made
                    client = Client(server, 0, tally)
                    for turn in range(clips):
                        client.generate(numbered_request(turn))
                finally:
                    stop.set()
            p95[duration] = tally.percentile(0.95)
        ratios.append(p95[30.0] / p95[1.0])
        print(f"p95 of 1 s clips: {p95[1.0]:.2f} s beside 1 s clips, {p95[30.0]:.2f} s beside 30 s clips")
    print(f"ratio (bound: 1.5): {statistics.median(ratios):.2f}")


def generate_until(stop: threading.Event, client: Client, duration: float) -> None:
    """Make one clip after the other until the event is set."""
    for seed in itertools.count(500_001):
        if stop.is_set():
            return
        client.generate(numbered_request(seed, duration))


def soak(server: Server, seconds: float, clients: int) -> None:
    """
    Overload the service, compare each answer and watch the memory.

    Raises:
        SystemExit: An answer was wrong, there was an error, or the memory grew by more than 5 %.
    """
    requests = [numbered_request(seed, random.Random(seed).choice((0.5, 0.7, 1.0, 1.6))) for seed in range(120)]
    expected = expected_digests(requests)
    tally, mismatches = Tally(), []
    end = time.monotonic() + seconds

    def loop(number: int) -> None:
        rng, client = random.Random(number), Client(server, number, tally)
        while time.monotonic() < end:
            index = rng.randrange(len(requests))
            wav = client.generate(requests[index], end)
            if wav is not None and hashlib.sha256(wav).digest() != expected[index]:
                mismatches.append(index)

    memory = []
    log(f"{clients} clients for {seconds:g} s")
    with ThreadPoolExecutor(clients) as pool:
        loops = [pool.submit(loop, number) for number in range(clients)]
        while time.monotonic() < end:
            time.sleep(MEMORY_INTERVAL_S)
            memory.append(server.resident_bytes())
        for future in loops:
            future.result()
    third = len(memory) // 3
    thirds = [statistics.median(part) for part in (memory[:third], memory[third : 2 * third], memory[2 * third :])]
    print(
        f"{len(tally.seconds)} answers, {len(mismatches)} wrong, {tally.refused} refused, {tally.errors} errors; "
        f"memory {', '.join(f'{size / 1e6:.0f}' for size in thirds)} MB (medians of thirds), "
        f"most {max(memory) / 1e6:.0f} MB; p95 {tally.percentile(0.95):.1f} s"
    )
    if mismatches or tally.errors or thirds[2] > 1.05 * thirds[1]:
        raise SystemExit("MISSED")


def measure_hostile(seconds: float) -> None:
    """
    Compare the latency of honest clients by themselves with that beside hostile connections, in turns.

    Raises:
        SystemExit: The median of the ratios of the 95th percentiles is above 1.5, an honest request failed, the memory
            grew by more than 64 MB, or the log has 1 MB beside the lines about answers.
    """
    ratios, memory, errors = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        service = ServiceProcess(Path(folder) / "log", files=1024)
        server = Server(f"http://127.0.0.1:{service.port}", service.process.pid)
        load(server, HONEST, answers=5, most_s=60)
        print(
            f"{'':<11}{'answers':>8}{'p50 s':>8}{'p95 s':>8}{'errors':>8}{'MB':>6}   "
            "processors used by the service, the hostile process"
        )
        for number in range(HOSTILE_ROUNDS):
            p95 = []
            for connections in (0, HOSTILE_CONNECTIONS):
                log(f"round {number + 1} of {HOSTILE_ROUNDS}: {HONEST} clients beside {connections} connections")
                tally, used = load_beside(server, connections, seconds / HOSTILE_ROUNDS)
                p95.append(tally.percentile(0.95))
                memory.append(server.resident_bytes() / 1e6)
                errors += tally.errors
                print(
                    f"{f'beside {connections}' if connections else 'alone':<11}{len(tally.seconds):>8}"
                    f"{tally.percentile(0.5):8.3f}{p95[-1]:8.3f}{tally.errors:>8}{memory[-1]:6.0f}"
                    f"   {', '.join(f'{processors:.2f}' for processors in used)}"
                )
            ratios.append(p95[1] / p95[0])
        # Lines about answers are as many as the honest clients want.
        log_bytes = sum(len(line) + 1 for line in service.stop().splitlines() if "status=200" not in line)
    ratio, growth = statistics.median(ratios), max(memory[1:]) - memory[0]
    print(
        f"p95 beside hostile connections, times that alone (bound: 1.5): {ratio:.2f}, of "
        f"{', '.join(f'{each:.2f}' for each in ratios)}; "
        f"memory grew by {growth:.0f} MB (64), log {log_bytes} bytes without the lines about answers (1 MB)"
    )
    if ratio > 1.5 or errors or growth > 64 or log_bytes > 1_000_000:
        raise SystemExit("MISSED")


def load_beside(server: Server, connections: int, seconds: float) -> tuple[Tally, list[float]]:
    """
    Let the honest clients send requests for some seconds beside hostile connections, if there are any.

    Returns:
        What they received, and how many processors the service and the process of the connections used.
    """
    with flooding(server, connections) if connections else contextlib.nullcontext() as hostile:
        pids = [server.pid] if hostile is None else [server.pid, hostile]
        before = [processor_seconds(pid) for pid in pids]
        tally = load(server, HONEST, answers=sys.maxsize, most_s=seconds)
        return tally, [(processor_seconds(pid) - at) / tally.elapsed_s for pid, at in zip(pids, before, strict=True)]


@contextlib.contextmanager
def flooding(server: Server, connections: int) -> Iterator[int]:
    """Hold hostile connections from a process of its own, whose id this yields."""
    port = server.url.rpartition(":")[2]
    command = [sys.executable, "-m", "tests.support.flood", port, str(connections)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    with process:
        process.stdout.readline()
        yield process.pid
        process.stdin.close()


def expected_digests(requests: list[GenerateRequest]) -> list[bytes]:
    """Make the clips of some requests in this process; return the SHA-256 of each WAV."""
    log("making the expected answers")
    engine = open_local("nano", note=log)
    with ThreadPoolExecutor(engine.slots) as pool:
        clips = pool.map(lambda request: engine.generate(request, NullListener()), requests)
        digests = [hashlib.sha256(clip.wav).digest() for clip in clips]
    engine.close()
    return digests


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.service", description="Measure `musicgen serve` under load.")
    parser.add_argument("--model", choices=("small", "nano"), default="small", help="the size [small]")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="numbers to try [1 2 4 8 16]")
    parser.add_argument("--slots", type=int, help="of `musicgen serve`")
    parser.add_argument("--rounds", type=int, default=3, help="[3]")
    parser.add_argument("--most", type=float, default=600, help="seconds after which a run ends [600]")
    parser.add_argument("--quick", action="store_true", help="one round of 1 and 8 clients, of at most 60 s each")
    parser.add_argument("--no-plain", action="store_true", help="don't compare with the plain service")
    parser.add_argument("--mixed", action="store_true", help="measure 1 s clips beside 30 s clips")
    parser.add_argument("--soak", type=float, nargs="?", const=180.0, metavar="SECONDS", help="overload `nano` [180]")
    parser.add_argument(
        "--hostile",
        type=float,
        nargs="?",
        const=60.0,
        metavar="SECONDS",
        help="2,000 connections [60]",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(platformdirs.user_cache_dir("musicgen", appauthor=False)) / "benchmark",
        help="folder of the random model and its graphs",
    )
    options = parser.parse_args()
    os.environ["XDG_CACHE_HOME"] = str(options.cache.absolute())
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its bytecode
    if options.hostile is not None:
        measure_hostile(options.hostile)
        return
    nano = options.model == "nano" or options.soak is not None
    folder = NANO if nano else options.cache.absolute() / "random-small"
    if not folder.exists():
        raise SystemExit("there is no random model yet: `python -m benchmarks.engine --quick` makes it")
    slots = ["--slots", str(options.slots)] if options.slots else []
    serve = ["-m", "musicgen_cli", "serve", "--port", "0", "--model", "nano" if nano else str(folder), *slots]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running_server(*serve))
        load(server, clients=2, answers=1, most_s=600)
        if options.soak is not None:
            soak(server, options.soak, clients=48)
        elif options.mixed:
            measure_mixed(server, clips=10 if options.quick else 20, rounds=1 if options.quick else 3)
        else:
            servers = {"musicgen": server}
            if not options.no_plain and all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
                plain = stack.enter_context(running_server("-m", "benchmarks.service_reference", str(folder)))
                load(plain, clients=1, answers=1, most_s=600)
                servers = {"plain": plain, **servers}
            rounds, most_s = (1, 60.0) if options.quick else (options.rounds, options.most)
            measure_throughput(servers, [1, 8] if options.quick else options.clients, 5, most_s, rounds)


if __name__ == "__main__":
    main()
