"""
Time the store at a million takes, as whole processes from the shell, against `wc -l`, `jq` and SQLite on the same data.

    python benchmarks/store.py [--takes 1000000] [--edits 25000] [--rounds 5] [--keep FOLDER]

Prints seconds (median, min, max over interleaved rounds) and peak memory of each query, then what a put costs against
the bare writes and fsyncs it must make. Wanted: newest 20 within 1.2 x of the same on 100 takes; by tag at most 1.2 s
and 200 MB; by id at most 0.6 s; a put at most 3 x its bare fsyncs on 10,000 takes, and one id scan more at a million.
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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from musicgen_cli.audio.wav import pcm16_wav
from musicgen_cli.store import ArtifactDraft, Store
from musicgen_cli.store.lines import encode

MOODS = ("calm", "tense", "sad", "bright", "driving", "sparse", "warm", "cold")
THINGS = ("piano", "techno beat", "strings", "drone", "choir", "bass line", "arpeggio", "pads")
LAUNCHER = """
import os, sys, time
started = time.perf_counter()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, 1, 0)])
_, status, usage = os.wait4(pid, 0)
print(time.perf_counter() - started, usage.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""
MUSICGEN = (sys.executable, "-m", "musicgen_cli")


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("--takes", type=int, default=1_000_000)
    words.add_argument("--edits", type=int, default=25_000)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--keep", type=Path, help="where the big store is made, and left for the next run")
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        top = asked.keep or Path(scratch)
        big, middle, small = top / f"{asked.takes}", top / "10000", top / "100"
        ids = fill(big, asked.takes, asked.edits)
        fill(middle, 10_000, 250)
        fill(small, 100, 2)
        database = top / f"{asked.takes}.sqlite"
        if not database.exists():
            build(database, big / "index.jsonl")
        print(f"{asked.takes:,} takes, {asked.edits:,} edits, {(big / 'index.jsonl').stat().st_size / 1e6:.0f} MB")
        print(f"Python {sys.version.split()[0]}, {os.cpu_count()} processors, {asked.rounds} interleaved rounds\n")
        show(queries(big, small, database, ids), asked.rounds)
        puts({"10,000": middle, f"{asked.takes:,}": big}, Path(scratch) / "bare")


def records(count: int) -> Iterator[dict[str, object]]:
    """Yield put lines' members, the same for the same count."""
    chance = random.Random(7)
    for i in range(count):
        digest = hashlib.sha256(b"%d" % i).hexdigest()
        tags = ["type:audio", "format:wav", "phase:generation", "tool:musicgen_generate"]
        tags += ["many"] * (i % 24 == 0) + ["few"] * (i % 2000 == 0)
        yield {
            "op": "put", "id": f"artifact_{digest[:12]}", "tags": tags, "created": "2026-11-22T10:00:00.000Z",
            "content_hash": digest, "bytes": 640044, "mime": "audio/wav", "sample_rate": 32000, "channels": 1,
            "frames": 320000, "duration": 10.0,
            "prompt": f"{chance.choice(MOODS)} {chance.choice(THINGS)} number {i}",
            "params": {"duration": 10.0, "temperature": 1.0, "top_k": 250, "top_p": 0.9, "guidance_scale": 3.0,
                       "do_sample": True, "seed": i},
            "creator": "agent_musicgen",
            "origin": {"kind": "local", "model": "nano", "engine": "onnx", "precision": "fp32", "device": "cpu"},
            "seed": i,
        }  # fmt: skip


def fill(folder: Path, count: int, edits: int) -> list[str]:
    """Make a store's index, edits spread through it; return some ids, or read them where it was made before."""
    index = folder / "index.jsonl"
    some = folder / "some-ids.json"
    if some.exists():
        ids: list[str] = json.loads(some.read_text())
        return ids
    folder.mkdir(parents=True)
    (folder / "blobs").mkdir()
    every, ids, offset = max(1, count // max(1, edits)), [], 0
    with index.open("wb") as file:
        head = {
            "op": "head",
            "format": "musicgen-index",
            "version": 1,
            "gen": "0" * 16,
            "created": "2026-11-22T00:00:00Z",
        }
        offset += file.write(encode(head))
        for i, record in enumerate(records(count)):
            at = offset
            offset += file.write(encode(record))
            if i % every == 0:
                edit = {
                    "op": "tag",
                    "id": record["id"],
                    "at": at,
                    "t": record["created"],
                    "add": ["edited"],
                    "rm": ["many"],
                }
                offset += file.write(encode(edit))
            if i % max(1, count // 20) == 7:
                ids.append(str(record["id"]))
    some.write_text(json.dumps(ids))
    return ids


def build(database: Path, index: Path) -> None:
    """Put the same takes into SQLite, with the indexes such a tool would have."""
    with sqlite3.connect(database) as db:
        db.execute("create table takes(id text primary key, record text, prompt text)")
        db.execute("create table tags(tag text, id text)")
        for line in index.read_bytes().splitlines():
            record = json.loads(line)
            if record["op"] == "put":
                db.execute(
                    "insert or ignore into takes values(?, ?, ?)", (record["id"], line.decode(), record["prompt"])
                )
                db.executemany("insert into tags values(?, ?)", [(tag, record["id"]) for tag in record["tags"]])
        db.execute("create index by_tag on tags(tag)")


def queries(
    big: Path, small: Path, database: Path, ids: list[str]
) -> dict[str, tuple[tuple[str, ...], dict[str, str]]]:
    here, tiny = {"MUSICGEN_STORE": str(big)}, {"MUSICGEN_STORE": str(small)}
    index = str(big / "index.jsonl")

    def sql(query: str) -> tuple[str, ...]:
        return (
            sys.executable,
            "-c",
            f"import sqlite3; print(len(sqlite3.connect({str(database)!r}).execute({query!r}).fetchall()))",
        )

    every = {
        "newest 20 of 100": ((*MUSICGEN, "list", "-q"), tiny),
        "newest 20": ((*MUSICGEN, "list", "-q"), here),
        "by id": ((*MUSICGEN, "show", ids[3], "--json"), here),
        "by id, SQLite": (sql(f"select record from takes where id = '{ids[3]}'"), {}),
        "by tag, few hits": ((*MUSICGEN, "list", "--all", "-q", "--tag", "few"), here),
        "by tag, many hits": ((*MUSICGEN, "list", "--all", "-q", "--tag", "many"), here),
        "by tag, no hits": ((*MUSICGEN, "list", "--all", "-q", "--tag", "nothing"), here),
        "by tag, by edit": ((*MUSICGEN, "list", "--all", "-q", "--tag", "edited"), here),
        "by tag, many, SQLite": (
            sql("select record from takes where id in (select id from tags where tag = 'many')"), {},
        ),
        "--search": ((*MUSICGEN, "list", "--all", "-q", "--search", "choir number 77777"), here),
        "--search, SQLite": (sql("select record from takes where prompt like '%choir number 77777%'"), {}),
        "wc -l": (("wc", "-l", index), {}),
    }  # fmt: skip
    if shutil.which("jq"):
        every["by tag, many, jq"] = (("jq", "-r", 'select(.tags and (.tags | index("many"))) | .id', index), {})
    return every


def show(every: dict[str, tuple[tuple[str, ...], dict[str, str]]], rounds: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in every}
    peak = dict.fromkeys(every, 0)
    for i in range(rounds + 1):
        for name, (command, more) in every.items():
            if name.endswith("jq") and i > 1:
                continue  # it takes longer than all the others together
            took, memory = once(command, more)
            if i or name.endswith("jq"):
                seconds[name].append(took)
            peak[name] = max(peak[name], memory)
    print(f"{'':24}{'median s':>10}{'min':>8}{'max':>8}{'peak MB':>9}")
    for name, times in seconds.items():
        print(f"{name:24}{statistics.median(times):10.3f}{min(times):8.3f}{max(times):8.3f}{peak[name] / 1024:9.0f}")
    pairs = zip(seconds["newest 20"], seconds["newest 20 of 100"], strict=True)
    ratio = statistics.median(mine / base for mine, base in pairs)
    print(f"\nnewest 20: {ratio:.2f} x of the same on 100 takes (wanted 1.2)")


def once(command: tuple[str, ...], more: dict[str, str]) -> tuple[float, int]:
    """
    Run a command; return its seconds and its peak memory in KiB.

    A small process starts it: a child's peak is at least what its parent had when it forked.
    """
    launcher = (sys.executable, "-S", "-E", "-c", LAUNCHER, *command)
    done = subprocess.run(launcher, env=os.environ | more, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    took, memory = done.stderr.split()[-2:]
    return float(took), int(memory)


def puts(stores: dict[str, Path], bare_folder: Path) -> None:
    """
    Time puts against the bare writes and fsyncs they must make, turn about.

    As a batch makes them: one process opens a store once. Its first few puts search the index each; by then it is worth
    remembering what is in it, so one put takes longer, and those after it read what is new alone. The very first isn't
    counted: it imports, and it alone reads every line's kind.
    """
    chance = random.Random(time.time_ns())
    draft = ArtifactDraft(
        tags=("type:audio",), prompt="x" * 60, params={"duration": 10.0}, creator="me", origin={"kind": "local"}
    )
    bare_folder.mkdir()
    bare: list[float] = []
    kinds = {"searching": range(1, 3), "remembering": range(3, 4), "later": range(4, 12)}
    ratios: dict[tuple[str, str], list[float]] = {(name, kind): [] for name in stores for kind in kinds}
    for batch in range(5):
        opened = {name: Store(folder) for name, folder in stores.items()}
        for i in range(12):
            sound = pcm16_wav(chance.randbytes(640_000), sample_rate=32_000, channels=1)
            bare.append(timed(lambda sound=sound, i=12 * batch + i: bare_put(bare_folder, sound, i)))
            for name, store in opened.items():
                took = timed(lambda sound=sound, store=store: store.put(sound, draft))
                for kind, which in kinds.items():
                    if i in which:
                        ratios[name, kind].append(took / bare[-1])
    base = statistics.median(bare)
    print(f"\nbare writes and fsyncs of a put: {1000 * base:.1f} ms; a put, in multiples of it:")
    for (name, kind), times in ratios.items():
        middle = statistics.median(times)
        print(f"{name:>10} takes, {kind:12} {middle:7.1f} x ({1000 * base * middle:.1f} ms)")


def bare_put(folder: Path, sound: bytes, i: int) -> None:
    """Do what cannot be left out: the file, its name, its two folders, a line."""
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


def timed(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
