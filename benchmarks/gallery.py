"""
Measure a gallery of a thousand takes: the time to make it, the size of its page, and how soon a browser shows it.

    python -m benchmarks.gallery [--takes 1000] [--seconds 10] [--rounds 5]

The gallery is made twice, first into an empty folder, then where every sound is already there. The page is opened from
the disk in Debian's Chromium, with an empty cache; the bound for the first paint is 1 s. Needs playwright.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import tempfile
import time
from array import array
from pathlib import Path

from benchmarks.processes import MUSICGEN
from musicgen_cli.audio.wav import pcm16_wav
from musicgen_cli.store import ArtifactDraft, Store
from tests.support import chromium

RATE = 32_000
FIRST_PAINT = """() => new Promise(resolve => new PerformanceObserver(list => {
    for (const entry of list.getEntries()) if (entry.name === "first-contentful-paint") resolve(entry.startTime);
}).observe({ type: "paint", buffered: true }))"""
DOCUMENT_READY = "() => performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
SEARCH = """() => {
    const started = performance.now();
    search.value = "rain 7";
    search.dispatchEvent(new Event("input"));
    document.body.getBoundingClientRect();
    return performance.now() - started;
}"""


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.gallery", description="Measure a large gallery.")
    parser.add_argument("--takes", type=int, default=1000, help="[1000]")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of each take [10]")
    parser.add_argument("--rounds", type=int, default=5, help="of opening the page [5]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch)
        fill(top / "store", options.takes, options.seconds)
        print(f"{options.takes} takes of {options.seconds:g} s, {os.cpu_count()} processors, {options.rounds} rounds")
        for label in ("made", "made again"):
            print(f"{label:22}{time_gallery(top):8.1f} s")
        page = top / "gallery" / "index.html"
        print(f"{'page':22}{page.stat().st_size / 1e6:8.2f} MB")
        measure_page(page, top / "home", options.rounds)


def fill(folder: Path, takes: int, seconds: float) -> None:
    """Make a store of takes in sets of four, each with a sound of its own."""
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


def time_gallery(top: Path) -> float:
    """Return the seconds that `musicgen gallery` takes."""
    started = time.perf_counter()
    command = (*MUSICGEN, "gallery", "-q", "--store", str(top / "store"), "-o", str(top / "gallery"))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def measure_page(page: Path, home: Path, rounds: int) -> None:
    """Print how soon Chromium shows the page and answers a search, in milliseconds."""
    figures: dict[str, list[float]] = {"first paint": [], "document ready": [], "search": []}
    home.mkdir()
    with chromium.started(home) as browser:
        for _ in range(rounds):
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            tab = context.new_page()
            tab.goto(page.as_uri())
            for values, script in zip(figures.values(), (FIRST_PAINT, DOCUMENT_READY, SEARCH), strict=True):
                values.append(tab.evaluate(script))
            context.close()
    for name, ms in figures.items():
        print(f"{name:22}{statistics.median(ms):8.0f} ms   {min(ms):.0f} to {max(ms):.0f}")


if __name__ == "__main__":
    main()
