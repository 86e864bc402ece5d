"""
Time a gallery of a thousand takes: how long it is made, how large its page is, how soon a browser shows it.

    python -m benchmarks.gallery [--takes 1000] [--seconds 10] [--rounds 5]

Wanted: first paint below 1 s, from the disk with an empty cache, in Debian's Chromium. The store is made first and
isn't counted; the folder is made once from nothing and once more when every sound is there already.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path

from musicgen_cli.audio.wav import pcm16_wav
from musicgen_cli.store import ArtifactDraft, Store
from tests.support import chromium

RATE = 32_000
PAINTED = """() => new Promise(resolve => new PerformanceObserver(list => {
    for (const entry of list.getEntries()) if (entry.name === "first-contentful-paint") resolve(entry.startTime);
}).observe({ type: "paint", buffered: true }))"""
READY = "() => performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
FILTER = """() => {
    const started = performance.now();
    search.value = "rain 7";
    search.dispatchEvent(new Event("input"));
    document.body.getBoundingClientRect();
    return performance.now() - started;
}"""


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("--takes", type=int, default=1000)
    words.add_argument("--seconds", type=float, default=10.0)
    words.add_argument("--rounds", type=int, default=5)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch)
        fill(top / "store", asked.takes, asked.seconds)
        print(f"{asked.takes} takes of {asked.seconds:g} s, {os.cpu_count()} processors, {asked.rounds} rounds")
        for what in ("made", "made again"):
            print(f"{what:22}{build(top):8.1f} s")
        page = top / "gallery" / "index.html"
        print(f"{'page':22}{page.stat().st_size / 1e6:8.2f} MB")
        show(page, top / "home", asked.rounds)


def fill(folder: Path, takes: int, seconds: float) -> None:
    """Make a store: sets of four, each sound another one."""
    beat = array("h", (int(12_000 * math.exp(-i / 6000) * math.sin(i / 20)) for i in range(RATE // 2)))
    half = beat.tobytes()
    store = Store(folder)
    for i in range(takes):
        sound = array("h", half * math.ceil(2 * seconds))[: round(seconds * RATE)]
        sound[0] = i
        sound[1] = i >> 15
        params = {"duration": seconds, "temperature": 1.0, "top_k": 250, "top_p": 0.9, "guidance_scale": 3.0}
        draft = ArtifactDraft(
            tags=("type:audio", "night" if i % 3 else "day", f"mood:{i % 20}"), prompt=f"rain on a tin roof, {i // 4}",
            params={**params, "do_sample": True, "seed": i}, creator="agent_musicgen", seed=i, license="MIT",
            origin={"kind": "local", "model": "nano", "engine": "onnx", "precision": "int8", "device": "cpu"},
            variation_set_id=f"set_{i // 4}", variation_index=i % 4,
        )  # fmt: skip
        store.put(pcm16_wav(sound.tobytes(), sample_rate=RATE, channels=1), draft)


def build(top: Path) -> float:
    started = time.perf_counter()
    words = ["gallery", "-q", "--store", str(top / "store"), "-o", str(top / "gallery")]
    subprocess.run([sys.executable, "-m", "musicgen_cli", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def show(page: Path, home: Path, rounds: int) -> None:
    figures: dict[str, list[float]] = {"first paint": [], "document ready": [], "search": []}
    home.mkdir()
    with chromium.started(home) as browser:
        for _ in range(rounds):
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            opened = context.new_page()
            opened.goto(page.as_uri())
            for figure, script in zip(figures.values(), (PAINTED, READY, FILTER), strict=True):
                figure.append(opened.evaluate(script))
            context.close()
    for name, ms in figures.items():
        print(f"{name:22}{statistics.median(ms):8.0f} ms   {min(ms):.0f} to {max(ms):.0f}")


if __name__ == "__main__":
    main()
