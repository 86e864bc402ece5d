"""
Does it follow the prompt? One table: each checkpoint a column, each question a row.

Each question is asked twice: of the prompt's own clips, and of clips of the other prompts of the same kind, which is
what chance would give.

Clips are made with the package's engine, as users get them, three seeds a prompt. What is read from sound holds for any
checkpoint, what is read from codes for those of this sound world alone.
"""

from __future__ import annotations

import hashlib
from collections import abc
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicgen_cli.checkpoint.checkpoint import find_checkpoint
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.decoding.sampling import Sampling
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.onnx.engine import OnnxEngine
from training.nano import classifiers, code_analysis, prompts
from training.nano.audio_analysis import TEMPO_TOLERANCE, Ear, Heard, listen, near_tempo
from training.nano.code_analysis import Read
from training.nano.prompts import Asked

_TOGETHER = 4  # clips made side by side


@dataclass(frozen=True, slots=True)
class Made:
    """One clip, as it is heard and, in this sound world, as it is read."""

    asked: Asked
    heard: Heard
    read: Read | None


class Recorder(OnnxEngine):
    """The package's engine, which also shows the codes that it makes."""

    def record(self, prompt: str, seed: int, seconds: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return codes and sound of one clip, with the parameters users have if they set none."""
        request = GenerateRequest(prompt=prompt, duration=seconds, seed=seed)
        samples, pattern = self._plan(seconds)
        take = Sequence(pattern, Sampling.of(request, seed), vocab=self.shape.decoder.vocab)
        codes = self._scheduler.run(take, self.model.encode_text(self.tokenize(prompt)), lambda *_: None)
        stream = self.model.audio_stream()
        sound = np.concatenate([stream.push(codes), stream.end()], axis=1)[0, :samples]
        return codes, sound.astype(np.float64)


Question = Callable[[Made, Asked], bool | None]  # None: it can't be told


def _heard(ask: Callable[[Heard, Asked], bool]) -> Question:
    return lambda made, asked: ask(made.heard, asked)


def _read(ask: Callable[[Read, Asked], bool]) -> Question:
    return lambda made, asked: ask(made.read, asked) if made.read else None


def questions(hearing: Ear) -> dict[str, list[tuple[str, Question]]]:
    """Return for each kind of prompts the rows of the table."""

    def there(heard: Heard, asked: Asked) -> bool:
        return hearing.scores(heard.features)[str(asked.wanted)] > 0

    def drums(heard: Heard, asked: Asked) -> bool:
        return (hearing.scores(heard.features)["drums"] > 0) == asked.wanted

    def genre(heard: Heard, asked: Asked) -> bool:
        scores = {name: score for name, score in hearing.scores(heard.features).items() if name.startswith("genre ")}
        return max(scores, key=scores.__getitem__) == f"genre {asked.wanted}"

    def tempo(heard: Heard, asked: Asked) -> bool:
        return near_tempo(heard.tempo, float(asked.wanted))

    def exact_tempo(read: Read, asked: Asked) -> bool:
        return abs(read.tempo / float(asked.wanted) - 1) <= TEMPO_TOLERANCE

    as_said, named = "drums or none, as said", "named instrument there"
    unwanted, mode = "what is unwanted isn't there", "cheerful major, gloomy minor"
    rows = {
        "genre": [("sound: genre, of 18", _heard(genre))],
        "instrument": [
            (f"sound: {named}", _heard(there)),
            (f"codes: {named}", _read(lambda read, asked: read.has(str(asked.wanted)))),
        ],
        "drums": [
            (f"sound: {as_said}", _heard(drums)),
            (f"codes: {as_said}", _read(lambda read, asked: read.has("drums") == asked.wanted)),
        ],
        "ambient, no drums": [
            ("sound: ambient has no drums", _heard(drums)),
            ("codes: ambient has no drums", _read(lambda read, asked: read.has("drums") == asked.wanted)),
        ],
        "not there": [
            (f"sound: {unwanted}", _heard(lambda heard, asked: not there(heard, asked))),
            (f"codes: {unwanted}", _read(lambda read, asked: not read.has(str(asked.wanted)))),
        ],
        "solo": [
            ("codes: solo: it, and nothing else", _read(lambda read, asked: read.alone(str(asked.wanted)))),
        ],
        "tempo": [
            ("sound: tempo within 5 %, or its half or double", _heard(tempo)),
            ("codes: tempo within 5 %", _read(exact_tempo)),
        ],
        "key": [
            ("sound: key, of 24", _heard(lambda heard, asked: heard.key == asked.wanted)),
            ("codes: key, of 24", _read(lambda read, asked: read.key == asked.wanted)),
        ],
        "major or minor": [
            (f"sound: {mode}", _heard(lambda heard, asked: heard.mode == asked.wanted)),
            (f"codes: {mode}", _read(lambda read, asked: read.key.endswith(str(asked.wanted)))),
        ],
    }
    for wish in prompts.SEEDS:
        answers = _only(wish, _read(lambda read, asked: read.answers(str(asked.wanted))))
        rows.setdefault(wish.kind, []).append((f"codes: `{wish.kind}`: {wish.wanted}", answers))
    return rows


def _only(row: Asked, question: Question) -> Question:
    """Ask of one row's clips alone."""
    return lambda made, asked: question(made, asked) if made.asked == asked == row else None


@dataclass(frozen=True, slots=True)
class Extent:
    """How thoroughly."""

    seeds: int = 3
    most: int | None = None  # prompts of each kind
    pieces: int = 40  # from which the classifiers learn each label
    seconds: float = 8.0
    long_seconds: float = 30.0


def evaluate(checkpoints: abc.Sequence[Path], cache: Path, extent: Extent) -> None:
    """
    Print the table.

    Args:
        cache: Where clips' features are kept, so that a second run goes on.
    """
    cache.mkdir(parents=True, exist_ok=True)
    hearing = classifiers.load(cache, extent.pieces)
    chosen = [asked for kind in _kinds() for asked in [a for a in prompts.ALL if a.kind == kind][: extent.most]]
    columns = [_clips(path, chosen, cache, extent) for path in checkpoints]
    print("| question | " + " | ".join(f"{path.name} [95 %], others' prompts" for path in checkpoints) + " |")
    print("| --- |" + " --- |" * len(columns))
    for kind, rows in questions(hearing).items():
        for name, question in rows:
            cells = [_cell([made for made in column if made.asked.kind == kind], question) for column in columns]
            print(f"| {name} | " + " | ".join(cells) + " |")
    for name, summary in _SUMMARIES.items():
        print(f"| {name} | " + " | ".join(summary(column) for column in columns) + " |")


def _kinds() -> list[str]:
    return list(dict.fromkeys(asked.kind for asked in prompts.ALL))


def _clips(checkpoint: Path, chosen: abc.Sequence[Asked], cache: Path, extent: Extent) -> list[Made]:
    """Make all clips of a checkpoint, but for those that are there."""
    opened = find_checkpoint(str(checkpoint), Path("nowhere"))
    folder = cache / opened.digest[:16]
    folder.mkdir(exist_ok=True)
    engine = Recorder(opened, cache_dir=cache / "graphs", threads=1, slots=_TOGETHER)
    of_this_world = code_analysis.knows(opened)

    def make(work: tuple[str, int, float]) -> None:
        prompt, seed, seconds = work
        path = folder / _name(prompt, seed, seconds)
        if path.exists():
            return
        codes, sound = engine.record(prompt, seed, seconds)
        heard = listen(sound)
        partial = path.with_suffix(".new.npz")
        np.savez(partial, codes=codes.astype(np.int16), **{name: getattr(heard, name) for name in Heard.__slots__})
        partial.replace(path)

    def seconds_of(asked: Asked) -> float:
        return extent.long_seconds if asked.kind == "30 s" else extent.seconds

    works = [(asked.prompt, seed, seconds_of(asked)) for asked in chosen for seed in range(extent.seeds)]
    with ThreadPoolExecutor(_TOGETHER) as pool:
        for done, _ in enumerate(pool.map(make, dict.fromkeys(works)), 1):
            if done % 50 == 0:
                print(f"{checkpoint.name}: {done} of {len(set(works))} clips", flush=True)
    engine.close()
    made = []
    for asked in chosen:
        for seed in range(extent.seeds):
            kept = np.load(folder / _name(asked.prompt, seed, seconds_of(asked)))
            fields = {name: kept[name] if kept[name].ndim else kept[name].item() for name in Heard.__slots__}
            made.append(Made(asked, Heard(**fields), code_analysis.read(kept["codes"]) if of_this_world else None))
    return made


def _name(prompt: str, seed: int, seconds: float) -> str:
    return hashlib.sha256(f"{prompt}\0{seed}\0{seconds}".encode()).hexdigest()[:24] + ".npz"


def _cell(clips: abc.Sequence[Made], question: Question) -> str:
    """Return the share of clips of which it is true, its interval, and the same with the prompts exchanged."""
    own = [answer for made in clips if (answer := question(made, made.asked)) is not None]
    if not own:
        return "–"
    others = [
        answer
        for made in clips
        for other in dict.fromkeys(clip.asked for clip in clips)
        if other.wanted != made.asked.wanted and (answer := question(made, other)) is not None
    ]
    low, high = interval(sum(own), len(own))
    chance = f", {np.mean(others):.0%}" if others else ""
    return f"{np.mean(own):.0%} [{low:.0%}, {high:.0%}]{chance}"


def interval(successes: int, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share; clips of one prompt are taken as independent."""
    z = 1.96
    share = successes / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return float(max(0, middle - half)), float(min(1, middle + half))


def _pace(column: abc.Sequence[Made], tempo: Callable[[Made], float | None]) -> str:
    """Return how often `fast X` is faster than `slow X`, of the same seed."""
    clips = [made for made in column if made.asked.kind == "slow or fast"]
    seeds = max(1, len(clips) // max(1, len({made.asked for made in clips})))
    slow = [made for made in clips if made.asked.wanted == "slow"]
    fast = [made for made in clips if made.asked.wanted == "fast"]
    pairs = [(tempo(a), tempo(b)) for a, b in zip(slow, fast, strict=False)]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not known or not seeds:
        return "–"
    right = sum(b > a for a, b in known)
    low, high = interval(right, len(known))
    means = np.mean(known, axis=0)
    return f"{right / len(known):.0%} [{low:.0%}, {high:.0%}]; {means[0]:.0f} and {means[1]:.0f}"


def _clock(column: abc.Sequence[Made], kinds: Iterable[str] | None = None) -> str:
    right = [m.read.clock for m in column if m.read and (kinds is None or m.asked.kind in kinds)]
    return f"{np.mean(right):.2%}, least {np.min(right):.1%}" if right else "–"


def _levels(column: abc.Sequence[Made]) -> str:
    levels = np.array([made.heard.level_db for made in column])
    by_genre = [
        np.mean([made.heard.level_db for made in column if made.asked.kind == "genre" and made.asked.wanted == name])
        for name in dict.fromkeys(made.asked.wanted for made in column if made.asked.kind == "genre")
    ]
    spread = f"; genres {min(by_genre):.1f} to {max(by_genre):.1f}" if by_genre else ""
    return f"{levels.mean():.1f} ± {levels.std():.1f}{spread}"


_SUMMARIES: dict[str, Callable[[abc.Sequence[Made]], str]] = {
    "sound: fast X faster than slow X; mean tempi": lambda column: _pace(column, lambda made: made.heard.tempo),
    "sound: fast X has more onsets than slow X; a second": lambda column: _pace(column, lambda made: made.heard.onsets),
    "codes: fast X faster than slow X; mean tempi": lambda column: _pace(
        column, lambda made: made.read.tempo if made.read else None
    ),
    "codes: the clock goes right, 8 s": lambda column: _clock(column, {made.asked.kind for made in column} - {"30 s"}),
    "codes: the clock goes right, 30 s": lambda column: _clock(column, {"30 s"}),
    "sound: level, dB": _levels,
    "sound: clips beyond full scale": lambda column: f"{np.mean([made.heard.peak > 1 for made in column]):.1%}",
}
