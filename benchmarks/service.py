"""
Measure `musicgen serve` under load, beside the usual service that makes one clip at a time.

    python benchmarks/service.py [--model nano] [--clients 1 2 4 8 16] [--quick] [--cache FOLDER]
    python benchmarks/service.py --company [--model nano]
    python benchmarks/service.py --soak [SECONDS]

Clients ask for 1 s clips in a closed loop, each from an address of its own on loopback, until each has five answers.
They retry as the contract says: after Retry-After, else after a jittered wait from 1 s, doubled up to 30 s. A load ends
after --most seconds; what was answered by then counts, for the usual service takes minutes with 8 clients. The usual
service is FastAPI over `generate()` of transformers in float32, with a busy lock (service_reference.py); both servers
run all the while and take turns, within a round by the number of clients. Of rounds the medians are printed.

--company: how long 1 s clips take beside one of 30 s, against beside another client's 1 s clips. --soak: twice as many
clients as fit into nano's slots and queue, for so many seconds; each answer is compared with the bytes that its request
becomes in this process, and memory is watched. Without --model it is a random one of musicgen-small's size, which
`engine.py` makes. The usual service needs the extra torch; without it, it is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import importlib.util
import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from musicgen_cli import limits
from musicgen_cli.contract import GenerateRequest, read_answer
from musicgen_cli.engine.base import NullListener
from musicgen_cli.engine.registry import open_local

HERE = Path(__file__).parent
PROMPTS = ("calm ambient piano", "energetic techno with heavy drums", "jazz", "")
LOOK_S = 1.0  # between two looks at the memory


@dataclass
class Server:
    """A server in a process of its own."""

    url: str
    pid: int

    def resident(self) -> int:
        """Return its memory in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text("ascii")
        return 1024 * int(status.split("VmRSS:")[1].split()[0])


@contextlib.contextmanager
def running(*command: str) -> Iterator[Server]:
    """Run a server, which says its address on stderr."""
    process = subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        for line in process.stderr:
            if found := re.search(r"serving on (http://\S+)", line):
                break
        else:
            raise SystemExit(f"{command[0]} didn't start")
        threading.Thread(target=process.stderr.read, daemon=True).start()  # its log would fill the pipe
        yield Server(found[1], process.pid)
    finally:
        process.terminate()
        process.wait()


@dataclass
class Tally:
    """What clients got."""

    seconds: list[float] = field(default_factory=list)  # that each answer took, with all waits
    refused: int = 0
    errors: int = 0
    elapsed_s: float = 0.0

    @property
    def throughput(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.elapsed_s

    def percentile(self, share: float) -> float:
        """Return the least time that this share of the answers kept to."""
        ranked = sorted(self.seconds)
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else float("nan")


class Client:
    """One that waits when told to."""

    def __init__(self, server: Server, number: int, tally: Tally) -> None:
        self._host = server.url.removeprefix("http://")
        self._address = f"127.0.{1 + number // 250}.{1 + number % 250}"
        self._chance = random.Random(number)
        self._tally = tally

    def ask(self, request: GenerateRequest, end: float = float("inf")) -> bytes | None:
        """Ask until there is an answer or it is `end`; return its sound."""
        began, backoff_s = time.monotonic(), limits.BACKOFF_FIRST_S
        while time.monotonic() < end:
            status, retry_after, body = self._post(request.model_dump_json().encode())
            if status == 200:
                sound = read_answer(body, request).wav
                self._tally.seconds.append(time.monotonic() - began)
                return sound
            if status not in {429, 503}:
                self._tally.errors += 1
                return None
            self._tally.refused += 1
            wait_s = float(retry_after) if retry_after else backoff_s * self._chance.uniform(0.5, 1)
            backoff_s = min(2 * backoff_s, limits.BACKOFF_MOST_S)
            time.sleep(max(0.0, min(wait_s, end - time.monotonic())))
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


def wanted(seed: int, duration: float = 1.0) -> GenerateRequest:
    """Return a request; the prompt goes with the seed."""
    prompt = PROMPTS[seed % 3]  # the usual service can't do without
    return GenerateRequest(prompt=prompt, duration=duration, seed=seed, client_job_id=f"bench-{seed}")


def load(server: Server, clients: int, answers: int, most_s: float) -> Tally:
    """Let clients ask in a closed loop until each has so many answers, or for so many seconds."""
    tally = Tally()
    began = time.monotonic()

    def loop(number: int) -> None:
        client = Client(server, number, tally)
        for turn in range(answers):
            client.ask(wanted(1000 * number + turn), began + most_s)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(loop, range(clients)))
    tally.elapsed_s = time.monotonic() - began
    return tally


def compare(servers: dict[str, Server], clients: list[int], answers: int, most_s: float, rounds: int) -> None:
    """Print what each number of clients gets of each server."""
    tallies: dict[tuple[int, str], list[Tally]] = {}
    for number in range(rounds):
        for count in clients:
            for name, server in servers.items():
                tally = load(server, count, answers, most_s)
                tallies.setdefault((count, name), []).append(tally)
                made = f"{len(tally.seconds)} answers in {tally.elapsed_s:.1f} s"
                say(f"round {number + 1} of {rounds}: {count} client(s) of {name}: {made}")
    print(f"{'clients':>8} {'':<10}{'clips/s':>9}{'x usual':>9}{'p50 s':>8}{'p95 s':>8}{'refused':>9}{'errors':>8}")
    for (count, name), rounds_of in tallies.items():
        speed = median(tally.throughput for tally in rounds_of)
        usual = tallies.get((count, "usual"))
        times = f"{speed / median(tally.throughput for tally in usual):9.1f}" if usual else f"{'':>9}"
        print(
            f"{count:>8} {name:<10}{speed:9.3f}{times}{median(tally.percentile(0.5) for tally in rounds_of):8.2f}"
            f"{median(tally.percentile(0.95) for tally in rounds_of):8.2f}"
            f"{sum(tally.refused for tally in rounds_of):9}{sum(tally.errors for tally in rounds_of):8}"
        )


def company(server: Server, clips: int, rounds: int) -> None:
    """Print the p95 of 1 s clips beside a client of 1 s clips, and beside one 30 s clip after the other."""
    ratios = []
    for number in range(rounds):
        p95 = {}
        for duration in (1.0, 30.0):
            say(f"round {number + 1} of {rounds}: {clips} clips of 1 s beside clips of {duration:g} s")
            tally, stop = Tally(), threading.Event()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(keep_asking, Client(server, 1, Tally()), duration, stop)
                try:
                    time.sleep(1)  # so that it is under way
                    client = Client(server, 0, tally)
                    for turn in range(clips):
                        client.ask(wanted(turn))
                finally:
                    stop.set()
            p95[duration] = tally.percentile(0.95)
        ratios.append(p95[30.0] / p95[1.0])
        print(f"p95 of 1 s clips: {p95[1.0]:.2f} s beside 1 s clips, {p95[30.0]:.2f} s beside 30 s clips")
    print(f"ratio (asked: at most 1.5): {median(ratios):.2f}")


def keep_asking(client: Client, duration: float, stop: threading.Event) -> None:
    seed = 500_000
    while not stop.is_set():
        seed += 1
        client.ask(wanted(seed, duration))


def soak(server: Server, seconds: float, clients: int) -> None:
    """Ask for more than there is, compare each answer, watch the memory."""
    say("what the answers must be")
    engine = open_local("nano", note=say)
    requests = [wanted(seed, random.Random(seed).choice((0.5, 0.7, 1.0, 1.6))) for seed in range(120)]
    with ThreadPoolExecutor(engine.slots) as pool:
        clips = pool.map(lambda request: engine.generate(request, NullListener()), requests)
        expected = [hashlib.sha256(clip.wav).digest() for clip in clips]
    engine.close()
    tally, wrong = Tally(), []
    end = time.monotonic() + seconds

    def loop(number: int) -> None:
        chance, client = random.Random(number), Client(server, number, tally)
        while time.monotonic() < end:
            which = chance.randrange(len(requests))
            sound = client.ask(requests[which], end)
            if sound is not None and hashlib.sha256(sound).digest() != expected[which]:
                wrong.append(which)

    memory = []
    say(f"{clients} clients for {seconds:g} s")
    with ThreadPoolExecutor(clients) as pool:
        loops = [pool.submit(loop, number) for number in range(clients)]
        while time.monotonic() < end:
            time.sleep(LOOK_S)
            memory.append(server.resident())
        for each in loops:
            each.result()
    third = len(memory) // 3
    first, last = median(memory[third : 2 * third]), median(memory[2 * third :])
    print(
        f"{len(tally.seconds)} answers, {len(wrong)} wrong, {tally.refused} refused, {tally.errors} errors; memory "
        f"{median(memory[:third]) / 1e6:.0f}, {first / 1e6:.0f}, {last / 1e6:.0f} MB (medians of thirds), "
        f"most {max(memory) / 1e6:.0f} MB; p95 {tally.percentile(0.95):.1f} s"
    )
    if wrong or tally.errors or last > 1.05 * first:
        raise SystemExit("MISS")


def median(values: Iterator[float] | list[float]) -> float:
    return statistics.median(values)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    words = argparse.ArgumentParser(description="Measure `musicgen serve` under load.")
    words.add_argument("--model", choices=("small", "nano"), default="small", help="the size (default: small)")
    words.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    words.add_argument("--slots", type=int, help="of ours")
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--most", type=float, default=600, help="seconds of one load")
    words.add_argument("--quick", action="store_true", help="one round of 1 and 8 clients, 60 s at most of each")
    words.add_argument("--no-usual", action="store_true", help="ours alone")
    words.add_argument("--company", action="store_true", help="1 s clips beside 30 s clips")
    words.add_argument("--soak", type=float, nargs="?", const=180.0, metavar="SECONDS")
    words.add_argument(
        "--cache", type=Path, default=Path(platformdirs.user_cache_dir("musicgen", appauthor=False)) / "benchmark"
    )
    asked = words.parse_args()
    os.environ["XDG_CACHE_HOME"] = str(asked.cache.absolute())
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    nano = asked.model == "nano" or asked.soak
    model = "nano" if nano else str(asked.cache.absolute() / "random-small")
    if not nano and not Path(model).exists():
        raise SystemExit("there is no random model yet: python benchmarks/engine.py --quick makes it")
    slots = ["--slots", str(asked.slots)] if asked.slots else []
    ours = ["-m", "musicgen_cli", "serve", "--port", "0", "--model", model, *slots]
    with contextlib.ExitStack() as stack:
        servers = {"ours": stack.enter_context(running(*ours))}
        load(servers["ours"], 2, 1, 600)
        if asked.soak:
            soak(servers["ours"], asked.soak, clients=48)
            return
        if asked.company:
            company(servers["ours"], clips=10 if asked.quick else 20, rounds=1 if asked.quick else 3)
            return
        torch = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
        if torch and not asked.no_usual:
            folder = str(HERE.parent / "musicgen_cli" / "models" / "nano") if nano else model
            servers = {"usual": stack.enter_context(running(str(HERE / "service_reference.py"), folder)), **servers}
            load(servers["usual"], 1, 1, 600)
        rounds, most_s = (1, 60.0) if asked.quick else (asked.rounds, asked.most)
        compare(servers, [1, 8] if asked.quick else asked.clients, 5, most_s, rounds)


if __name__ == "__main__":
    main()
