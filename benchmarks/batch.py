"""
Measure the memory and time that `musicgen batch` needs before its first take, by the number of rows.

    python -m benchmarks.batch [--rows 1000000]

Each batch runs in a process of its own, on a store that already has a take for every row. So the rows are read,
checked, buffered on disk and looked up in the store, and nothing is generated. The bound is 100 bytes of memory a row
above what a batch of one row needs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from benchmarks.processes import MUSICGEN, Usage, run_measured
from musicgen_cli.actions.batch.batch import Batch
from musicgen_cli.actions.batch.sweep import Sweep
from musicgen_cli.actions.batch.worklist import Worklist
from musicgen_cli.actions.source_finder import SourceFinder
from musicgen_cli.store import Store
from musicgen_cli.store.lines import encode, new_head


class HealthHandler(BaseHTTPRequestHandler):
    """Answers `/health` alone: a batch that asks for a take gets an error and fails."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "ok", "model": "nano"}')

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.batch", description="Measure what a large batch needs before its first take."
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the largest batch [1000000]")
    max_rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as scratch, HTTPServer(("127.0.0.1", 0), HealthHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        print(f"{'rows':>10}{'seconds':>10}{'µs a row':>10}{'peak MB':>9}{'bytes a row':>13}")
        base_bytes = 0
        for rows in (1, max_rows // 10, max_rows):
            folder = Path(scratch) / str(rows)
            fill(folder, rows)
            usage = run_batch(folder, url)
            base_bytes = base_bytes or usage.peak_bytes
            per_row = (usage.peak_bytes - base_bytes) / rows
            print(
                f"{rows:10,}{usage.seconds:10.1f}{1e6 * usage.seconds / rows:10.0f}{usage.peak_bytes / 1e6:9.1f}"
                f"{per_row:13.1f}"
            )
        server.shutdown()


def fill(folder: Path, rows: int) -> None:
    """Write a batch of `rows` rows, and the index of a store that has a take for each."""
    folder.mkdir()
    store = Store(folder)
    with (
        closing(Worklist({}, Sweep(), SourceFinder(store, creator="nobody"))) as worklist,
        (folder / "rows.jsonl").open("w") as file,
        (folder / "index.jsonl").open("wb") as index,
    ):
        for i in range(rows):
            row = {"prompt": f"calm piano number {i}, soft strings, rain", "seed": i, "tags": ["night"]}
            file.write(json.dumps(row) + "\n")
            worklist.add(i + 1, row)
        batch = Batch(worklist, store, model="nano")
        index.write(new_head())
        for i, item in enumerate(worklist):
            index.write(encode({
                "op": "put", "id": f"artifact_{i:012x}", "tags": ["night"], "created": "2026-11-22T10:00:00.000Z",
                "content_hash": f"{i:064x}", "bytes": 640044, "mime": "audio/wav", "sample_rate": 32000, "channels": 1,
                "frames": 320000, "duration": 10.0, "prompt": item.request.prompt, "params": item.request.params,
                "creator": "me", "origin": {"kind": "http", "model": "nano"}, "seed": i,
                "fingerprint": batch.fingerprint(item),
            }))  # fmt: skip


def run_batch(folder: Path, url: str) -> Usage:
    """Run the batch in `folder`; it fails unless the store has all of its takes."""
    return run_measured((*MUSICGEN, "batch", str(folder / "rows.jsonl"), "--url", url), {"MUSICGEN_STORE": str(folder)})


if __name__ == "__main__":
    main()
