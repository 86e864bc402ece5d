"""
Measure what a large batch costs before its first take: peak memory and seconds, by the number of its rows.

    python benchmarks/batch.py [--rows 1000000]

Each figure is a process of its own, `musicgen batch`, which finds every row in the store: the rows are read, checked,
kept aside and compared with the store, and nothing is left to do. Wanted: at most 100 bytes of memory a row more than a
batch of one row takes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from musicgen_cli.actions.batch.batch import Batch
from musicgen_cli.actions.batch.sweep import Sweep
from musicgen_cli.actions.batch.worklist import Worklist
from musicgen_cli.store import Store
from musicgen_cli.store.lines import encode, new_head

LAUNCHER = """
import os, sys, time
started = time.perf_counter()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print(time.perf_counter() - started, usage.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "ok", "model": "nano"}')

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("--rows", type=int, default=1_000_000)
    most = words.parse_args().rows
    with tempfile.TemporaryDirectory() as scratch, HTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        print(f"{'rows':>10}{'seconds':>10}{'µs a row':>10}{'peak MB':>9}{'bytes a row':>13}")
        base = 0
        for rows in (1, most // 10, most):
            folder = Path(scratch) / str(rows)
            fill(folder, rows)
            seconds, memory = once(folder, url)
            base = base or memory
            each = f"{1e6 * seconds / rows:10.0f}{memory / 1e6:9.1f}{(memory - base) / rows:13.1f}"
            print(f"{rows:10,}{seconds:10.1f}{each}")
        server.shutdown()


def fill(folder: Path, rows: int) -> None:
    """Write a batch of so many rows, and the index of a store that has their takes."""
    folder.mkdir()
    work = Worklist({}, Sweep())
    with (folder / "rows.jsonl").open("w") as file:
        for i in range(rows):
            row = {"prompt": f"calm piano number {i}, soft strings, rain", "seed": i, "tags": ["night"]}
            file.write(json.dumps(row) + "\n")
            work.add(i + 1, row)
    batch = Batch(work, Store(folder), model="nano")
    with (folder / "index.jsonl").open("wb") as index:
        index.write(new_head())
        for i, wanted in enumerate(work):
            index.write(encode({
                "op": "put", "id": f"artifact_{i:012x}", "tags": ["night"], "created": "2026-11-22T10:00:00.000Z",
                "content_hash": f"{i:064x}", "bytes": 640044, "mime": "audio/wav", "sample_rate": 32000, "channels": 1,
                "frames": 320000, "duration": 10.0, "prompt": wanted.request.prompt, "params": wanted.request.params,
                "creator": "me", "origin": {"kind": "http", "model": "nano"}, "seed": i,
                "fingerprint": batch.fingerprint(wanted),
            }))  # fmt: skip


def once(folder: Path, url: str) -> tuple[float, int]:
    """
    Run the batch; return its seconds and its peak memory in bytes.

    A small process starts it: a child's peak is at least what its parent had when it forked.
    """
    command = [sys.executable, "-m", "musicgen_cli", "batch", str(folder / "rows.jsonl"), "--url", url]
    env = os.environ | {"MUSICGEN_STORE": str(folder)}
    launcher = [sys.executable, "-S", "-E", "-c", LAUNCHER, *command]
    done = subprocess.run(launcher, env=env, capture_output=True, text=True, check=True)
    if "nothing is left to do" not in done.stderr:
        raise SystemExit(done.stderr)
    seconds, memory = done.stderr.split()[-2:]
    return float(seconds), 1024 * int(memory)


if __name__ == "__main__":
    main()
