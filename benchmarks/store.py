"""
Measure the store with a million takes, compared with SQLite, `jq` and `wc -l` on the same data.

    python -m benchmarks.store [--takes 1000000] [--edits 25000] [--rounds 5] [--keep FOLDER]

Queries run as whole processes, as from the shell. Printed are their seconds (median, least and largest of interleaved
rounds) and their peak memory, then the time of a put in multiples of the writes and fsyncs that it must make. The
bounds are: the newest 20 takes in 1.2 x of the time on 100 takes; by tag 1.2 s and 200 MB; by id 0.6 s; a put on 10,000
takes 3 x its bare writes, on a million one search for ids more.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.processes import MUSICGEN, run_measured
from musicgen_cli.audio.wav import pcm16_wav
from musicgen_cli.store import ArtifactDraft, Store
from musicgen_cli.store.lines import encode

MOODS = ("calm", "tense", "sad", "bright", "driving", "sparse", "warm", "cold")
THINGS = ("piano", "techno beat", "strings", "drone", "choir", "bass line", "arpeggio", "pads")
HEAD = {"op": "head", "format": "musicgen-index", "version": 1, "gen": "0" * 16, "created": "2026-11-22T00:00:00Z"}
# The puts of a process, by number: the first few each search the index; the fourth reads all ids into memory; later
# ones read only what is new. The first isn't counted, as it also imports modules and reads the kind of each line.
PUTS = {"searching": range(1, 3), "caching ids": range(3, 4), "later": range(4, 12)}


@dataclass(frozen=True, slots=True)
class Query:
    """A command that is measured."""

    command: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.store", description="Measure the store with many takes.")
    parser.add_argument("--takes", type=int, default=1_000_000, help="of the large store [1000000]")
    parser.add_argument("--edits", type=int, default=25_000, help="of tags, in the large store [25000]")
    parser.add_argument("--rounds", type=int, default=5, help="of queries [5]")
    parser.add_argument("--keep", type=Path, help="folder for the stores, which the next run uses again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        top = options.keep or Path(scratch)
        large, middle, small = top / f"{options.takes}", top / "10000", top / "100"
        ids = fill(large, options.takes, options.edits)
        fill(middle, 10_000, 250)
        fill(small, 100, 2)
        database = top / f"{options.takes}.sqlite"
        if not database.exists():
            fill_database(database, large / "index.jsonl")
        size_mb = (large / "index.jsonl").stat().st_size / 1e6
        print(f"{options.takes:,} takes, {options.edits:,} edits, {size_mb:.0f} MB")
        print(f"Python {sys.version.split()[0]}, {os.cpu_count()} processors, {options.rounds} interleaved rounds\n")
        measure_queries(queries(large, small, database, ids), options.rounds)
        measure_puts({"10,000": middle, f"{options.takes:,}": large}, Path(scratch) / "bare")


def records(count: int) -> Iterator[dict[str, object]]:
    """Yield the members of put lines; the same count gives the same lines."""
    rng = random.Random(7)
    for i in range(count):
        digest = hashlib.sha256(b"%d" % i).hexdigest()
        tags = ["type:audio", "format:wav", "phase:generation", "tool:musicgen_generate"]
        tags += ["many"] * (i % 24 == 0) + ["few"] * (i % 2000 == 0)
        yield {
            "op": "put", "id": f"artifact_{digest[:12]}", "tags": tags, "created": "2026-11-22T10:00:00.000Z",
            "content_hash": digest, "bytes": 640044, "mime": "audio/wav", "sample_rate": 32000, "channels": 1,
            "frames": 320000, "duration": 10.0,
            "prompt": f"{rng.choice(MOODS)} {rng.choice(THINGS)} number {i}",
            "params": {"duration": 10.0, "temperature": 1.0, "top_k": 250, "top_p": 0.9, "guidance_scale": 3.0,
                       "do_sample": True, "seed": i},
            "creator": "agent_musicgen",
            "origin": {"kind": "local", "model": "nano", "engine": "onnx", "precision": "fp32", "device": "cpu"},
            "seed": i,
        }  # fmt: skip


def fill(folder: Path, count: int, edits: int) -> list[str]:
    """Make the index of a store, with edits of tags spread through it, unless there is one; return some ids."""
    sample_path = folder / "some-ids.json"
    if sample_path.exists():
        sample: list[str] = json.loads(sample_path.read_text())
        return sample
    folder.mkdir(parents=True)
    (folder / "blobs").mkdir()
    every, sample = max(1, count // max(1, edits)), []
    with (folder / "index.jsonl").open("wb") as file:
        file.write(encode(HEAD))
        for i, record in enumerate(records(count)):
            offset = file.tell()
            file.write(encode(record))
            if i % every == 0:
                edit = {"op": "tag", "id": record["id"], "at": offset, "t": record["created"]}
                file.write(encode({**edit, "add": ["edited"], "rm": ["many"]}))
            if i % max(1, count // 20) == 7:
                sample.append(str(record["id"]))
    sample_path.write_text(json.dumps(sample))
    return sample


def fill_database(database: Path, index: Path) -> None:
    """Put the same takes into SQLite, with an index for ids and one for tags."""
    with sqlite3.connect(database) as db:
        db.execute("create table takes(id text primary key, record text, prompt text)")
        db.execute("create table tags(tag text, id text)")
        for line in index.read_bytes().splitlines():
            record = json.loads(line)
            if record["op"] == "put":
                row = (record["id"], line.decode(), record["prompt"])
                db.execute("insert or ignore into takes values(?, ?, ?)", row)
                db.executemany("insert into tags values(?, ?)", [(tag, record["id"]) for tag in record["tags"]])
        db.execute("create index by_tag on tags(tag)")


def queries(large: Path, small: Path, database: Path, ids: list[str]) -> dict[str, Query]:
    """Return the queries by the name that is printed."""
    index = str(large / "index.jsonl")

    def musicgen(*arguments: str, store: Path = large) -> Query:
        return Query((*MUSICGEN, *arguments), {"MUSICGEN_STORE": str(store)})

    def sql(query: str) -> Query:
        program = f"import sqlite3; print(len(sqlite3.connect({str(database)!r}).execute({query!r}).fetchall()))"
        return Query((sys.executable, "-c", program))

    every = {
        "newest 20 of 100": musicgen("list", "-q", store=small),
        "newest 20": musicgen("list", "-q"),
        "by id": musicgen("show", ids[3], "--json"),
        "by id, SQLite": sql(f"select record from takes where id = '{ids[3]}'"),
        "by tag, few hits": musicgen("list", "--all", "-q", "--tag", "few"),
        "by tag, many hits": musicgen("list", "--all", "-q", "--tag", "many"),
        "by tag, no hits": musicgen("list", "--all", "-q", "--tag", "nothing"),
        "by tag, added later": musicgen("list", "--all", "-q", "--tag", "edited"),
        "by tag, many, SQLite": sql("select record from takes where id in (select id from tags where tag = 'many')"),
        "--search": musicgen("list", "--all", "-q", "--search", "choir number 77777"),
        "--search, SQLite": sql("select record from takes where prompt like '%choir number 77777%'"),
        "wc -l": Query(("wc", "-l", index)),
    }
    if shutil.which("jq"):
        every["by tag, many, jq"] = Query(("jq", "-r", 'select(.tags and (.tags | index("many"))) | .id', index))
    return every


def measure_queries(every: dict[str, Query], rounds: int) -> None:
    """Run each query in each round, after a first round that isn't counted, and print the table."""
    seconds: dict[str, list[float]] = {name: [] for name in every}
    peak = dict.fromkeys(every, 0)
    for i in range(rounds + 1):
        for name, query in every.items():
            once = name.endswith("jq")  # it takes longer than all others together
            if once and i > 1:
                continue
            usage = run_measured(query.command, query.env)
            if i or once:
                seconds[name].append(usage.seconds)
            peak[name] = max(peak[name], usage.peak_bytes)
    print(f"{'':24}{'median s':>10}{'min':>8}{'max':>8}{'peak MB':>9}")
    for name, times in seconds.items():
        print(f"{name:24}{statistics.median(times):10.3f}{min(times):8.3f}{max(times):8.3f}{peak[name] / 2**20:9.0f}")
    pairs = zip(seconds["newest 20"], seconds["newest 20 of 100"], strict=True)
    ratio = statistics.median(large / small for large, small in pairs)
    print(f"\nnewest 20: {ratio:.2f} x of the same on 100 takes (bound: 1.2)")


def measure_puts(stores: dict[str, Path], bare_folder: Path) -> None:
    """
    Print the time of puts, in multiples of the bare writes and fsyncs that they must make; all take turns.

    A store is opened once and used for several puts, as in a batch; see PUTS.
    """
    rng = random.Random(time.time_ns())
    draft = ArtifactDraft(
        tags=("type:audio",), prompt="x" * 60, params={"duration": 10.0}, creator="me", origin={"kind": "local"}
    )
    bare_folder.mkdir()
    bare: list[float] = []
    ratios: dict[tuple[str, str], list[float]] = {(name, kind): [] for name in stores for kind in PUTS}
    for process in range(5):
        opened = {name: Store(folder) for name, folder in stores.items()}
        for i in range(12):
            sound = pcm16_wav(rng.randbytes(640_000), sample_rate=32_000, channels=1)
            bare.append(timed(partial(bare_put, bare_folder, sound, 12 * process + i)))
            for name, store in opened.items():
                seconds = timed(partial(store.put, sound, draft))
                for kind, numbers in PUTS.items():
                    if i in numbers:
                        ratios[name, kind].append(seconds / bare[-1])
    base = statistics.median(bare)
    print(f"\nbare writes and fsyncs of a put: {1000 * base:.1f} ms; a put, in multiples of it:")
    for (name, kind), values in ratios.items():
        ratio = statistics.median(values)
        print(f"{name:>10} takes, {kind:12} {ratio:7.1f} x ({1000 * base * ratio:.1f} ms)")


def bare_put(folder: Path, sound: bytes, i: int) -> None:
    """Make the writes and fsyncs that a put can't do without: the file, its name, its two folders, a line."""
    place = folder / f"{i:02x}"
    place.mkdir()
    temporary = place / "tmp"
    for path, data, flags in (
        (temporary, sound, os.O_CREAT | os.O_WRONLY),
        (folder / "index", b"x" * 600, os.O_CREAT | os.O_WRONLY | os.O_APPEND),
    ):
        fd = os.open(path, flags, 0o600)
        os.write(fd, data)
        os.fsync(fd)
        os.close(fd)
        if path == temporary:
            temporary.replace(place / "blob")
            for directory in (place, folder):
                fd = os.open(directory, os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)


def timed(function: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
