"""
Measures how well checkpoints follow prompts; prints a table with a column for each checkpoint and a row a question.

A cell has the share of clips for which the answer is yes, its 95 % confidence interval, and then what chance would
give: the same question about the clips of other prompts of the same kind.

Clips are made with the package's engine and the default parameters, three for each prompt. Questions about sound apply
to any checkpoint, questions about codes only to those whose codes mean what `codes` says.
"""

from __future__ import annotations

import hashlib
from collections import abc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from musicgen_cli.checkpoint.checkpoint import find_checkpoint
from training.nano import audio_analysis, classifiers, code_analysis, listening, players, prompts
from training.nano.audio_analysis import TEMPO_TOLERANCE, AudioAnalysis, Classifiers, is_near_tempo
from training.nano.code_analysis import CodeAnalysis
from training.nano.prompts import PromptCase
from training.nano.recording import RecordingEngine

_SLOTS = 4  # clips made at once


@dataclass(frozen=True, slots=True)
class EvaluatedClip:
    """A clip and what was measured in it."""

    case: PromptCase
    audio: AudioAnalysis
    codes: CodeAnalysis | None  # None for a checkpoint with other codes


Question = Callable[[EvaluatedClip, PromptCase], bool | None]  # None: not applicable


def _of_audio(question: Callable[[AudioAnalysis, PromptCase], bool]) -> Question:
    return lambda clip, case: question(clip.audio, case)


def _of_codes(question: Callable[[CodeAnalysis, PromptCase], bool]) -> Question:
    return lambda clip, case: question(clip.codes, case) if clip.codes else None


def questions(fitted: Classifiers) -> dict[str, list[tuple[str, Question]]]:
    """Return the rows of the table, by the kind of prompt that they are about."""

    def plays(audio: AudioAnalysis, case: PromptCase) -> bool:
        return fitted.scores(audio.features)[str(case.expected)] > 0

    def drums(audio: AudioAnalysis, case: PromptCase) -> bool:
        return (fitted.scores(audio.features)["drums"] > 0) == case.expected

    def genre(audio: AudioAnalysis, case: PromptCase) -> bool:
        scores = {name: score for name, score in fitted.scores(audio.features).items() if name.startswith("genre ")}
        return max(scores, key=scores.__getitem__) == f"genre {case.expected}"

    def tempo(audio: AudioAnalysis, case: PromptCase) -> bool:
        return is_near_tempo(audio.tempo, float(case.expected))

    def exact_tempo(codes: CodeAnalysis, case: PromptCase) -> bool:
        return abs(codes.tempo / float(case.expected) - 1) <= TEMPO_TOLERANCE

    drums_of_codes = _of_codes(lambda codes, case: codes.has("drums") == case.expected)
    as_named, named = "drums or none, as named", "named instrument plays"
    unwanted, mode = "unwanted instrument is absent", "cheerful in major, gloomy in minor"
    rows = {
        "genre": [("sound: genre, of 18", _of_audio(genre))],
        "instrument": [
            (f"sound: {named}", _of_audio(plays)),
            (f"codes: {named}", _of_codes(lambda codes, case: codes.has(str(case.expected)))),
        ],
        "drums": [(f"sound: {as_named}", _of_audio(drums)), (f"codes: {as_named}", drums_of_codes)],
        "ambient, no drums": [
            ("sound: ambient has no drums", _of_audio(drums)),
            ("codes: ambient has no drums", drums_of_codes),
        ],
        "not there": [
            (f"sound: {unwanted}", _of_audio(lambda audio, case: not plays(audio, case))),
            (f"codes: {unwanted}", _of_codes(lambda codes, case: not codes.has(str(case.expected)))),
        ],
        "solo": [
            ("codes: solo instrument plays alone", _of_codes(lambda codes, case: codes.has_only(str(case.expected))))
        ],
        "tempo": [
            ("sound: tempo within 5 %, or its half or double", _of_audio(tempo)),
            ("codes: tempo within 5 %", _of_codes(exact_tempo)),
        ],
        "key": [
            ("sound: key, of 24", _of_audio(lambda audio, case: audio.key == case.expected)),
            ("codes: key, of 24", _of_codes(lambda codes, case: codes.key == case.expected)),
        ],
        "major or minor": [
            (f"sound: {mode}", _of_audio(lambda audio, case: audio.mode == case.expected)),
            (f"codes: {mode}", _of_codes(lambda codes, case: codes.key.endswith(str(case.expected)))),
        ],
    }
    for example in prompts.EXAMPLES:
        question = _only(example, _of_codes(lambda codes, case: codes.satisfies(str(case.expected))))
        rows.setdefault(example.kind, []).append((f"codes: `{example.kind}`: {example.expected}", question))
    return rows


def _only(case: PromptCase, question: Question) -> Question:
    """Restrict a question to the clips of one case."""
    return lambda clip, other: question(clip, other) if clip.case == other == case else None


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is evaluated."""

    seeds: int = 3  # clips of each prompt
    prompts_per_kind: int | None = None  # None for all
    pieces: int = 40  # of each label, to fit the classifiers
    seconds: float = 8.0
    long_seconds: float = 30.0
    takes: int = 8  # of each prompt, for what listeners minded; 0 to leave it out

    def duration(self, case: PromptCase) -> float:
        """Return the duration of the clips of a case."""
        return self.long_seconds if case.kind == "30 s" else self.seconds


def evaluate(checkpoints: abc.Sequence[Path], cache: Path, extent: Extent) -> None:
    """
    Print the table.

    Args:
        cache: A folder for what is measured in the clips; another run continues from there.
    """
    cache.mkdir(parents=True, exist_ok=True)
    fitted = classifiers.load(cache, extent.pieces)
    cases = [
        case for kind in _kinds() for case in [c for c in prompts.ALL if c.kind == kind][: extent.prompts_per_kind]
    ]
    columns = [_clips(path, cases, cache, extent) for path in checkpoints]
    print("| question | " + " | ".join(f"{path.name} [95 %], other prompts" for path in checkpoints) + " |")
    print("| --- |" + " --- |" * len(columns))
    for kind, rows in questions(fitted).items():
        for name, question in rows:
            cells = [_cell([clip for clip in column if clip.case.kind == kind], question) for column in columns]
            print(f"| {name} | " + " | ".join(cells) + " |")
    for name, summary in _SUMMARIES.items():
        print(f"| {name} | " + " | ".join(summary(column) for column in columns) + " |")
    if extent.takes:
        print()
        listen(checkpoints, cache, extent.takes)


def listen(checkpoints: abc.Sequence[Path], cache: Path, takes: int) -> None:
    """
    Print the table of what listeners minded, with columns for the composer, General MIDI and each checkpoint.

    Args:
        takes: Of each prompt.
    """
    opened = [(path.name, find_checkpoint(str(path), Path("nowhere"))) for path in checkpoints]
    heard: list[listening.Player] = [*players.composers()]
    heard += [players.CheckpointPlayer(name, checkpoint, cache / "graphs") for name, checkpoint in opened]
    folders = [players.recipe_digest()] * 2 + [checkpoint.digest[:16] for _, checkpoint in opened]
    listeners = [
        listening.Listener(player, cache / "listening" / folder, takes=takes)
        for player, folder in zip(heard, folders[-len(heard) :], strict=True)
    ]
    for line in listening.table(listeners):
        print(line, flush=True)


def _kinds() -> list[str]:
    return list(dict.fromkeys(case.kind for case in prompts.ALL))


def _clips(checkpoint: Path, cases: abc.Sequence[PromptCase], cache: Path, extent: Extent) -> list[EvaluatedClip]:
    """Return the clips of a checkpoint; those that aren't in the cache are made and measured."""
    opened = find_checkpoint(str(checkpoint), Path("nowhere"))
    folder = cache / opened.digest[:16]
    folder.mkdir(exist_ok=True)
    engine = RecordingEngine(opened, cache_dir=cache / "graphs", threads=1, slots=_SLOTS)

    def make(prompt: str, seed: int, seconds: float) -> None:
        path = folder / _file_name(prompt, seed, seconds)
        if path.exists():
            return
        codes, samples = engine.record(prompt, seed, seconds)
        audio = audio_analysis.analyze(samples)
        fields = {name: getattr(audio, name) for name in AudioAnalysis.__slots__}
        partial = path.with_suffix(".new.npz")
        np.savez(partial, codes=codes.astype(np.int16), **fields)
        partial.replace(path)

    work = dict.fromkeys((case.prompt, seed, extent.duration(case)) for case in cases for seed in range(extent.seeds))
    with ThreadPoolExecutor(_SLOTS) as pool:
        for done, _ in enumerate(pool.map(lambda item: make(*item), work), 1):
            if done % 50 == 0:
                print(f"{checkpoint.name}: {done} of {len(work)} clips", flush=True)
    engine.close()
    clips = []
    for case in cases:
        for seed in range(extent.seeds):
            arrays = np.load(folder / _file_name(case.prompt, seed, extent.duration(case)))
            fields = {
                name: arrays[name] if arrays[name].ndim else arrays[name].item() for name in AudioAnalysis.__slots__
            }
            codes = code_analysis.analyze(arrays["codes"]) if code_analysis.uses_these_codes(opened) else None
            clips.append(EvaluatedClip(case, AudioAnalysis(**fields), codes))
    return clips


def _file_name(prompt: str, seed: int, seconds: float) -> str:
    return hashlib.sha256(f"{prompt}\0{seed}\0{seconds}".encode()).hexdigest()[:24] + ".npz"


def _cell(clips: abc.Sequence[EvaluatedClip], question: Question) -> str:
    """Return the share of clips with the answer yes, its interval, and the share for the clips of other prompts."""
    own = [answer for clip in clips if (answer := question(clip, clip.case)) is not None]
    if not own:
        return "–"
    others = [
        answer
        for clip in clips
        for case in dict.fromkeys(other.case for other in clips)
        if case.expected != clip.case.expected and (answer := question(clip, case)) is not None
    ]
    low, high = interval(sum(own), len(own))
    chance = f", {np.mean(others):.0%}" if others else ""
    return f"{np.mean(own):.0%} [{low:.0%}, {high:.0%}]{chance}"


def interval(successes: int, count: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share, as if clips of the same prompt were independent."""
    z = 1.96
    share = successes / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return float(max(0, middle - half)), float(min(1, middle + half))


def _pace(column: abc.Sequence[EvaluatedClip], measure: Callable[[EvaluatedClip], float | None]) -> str:
    """Return how often a measure is higher for `fast X` than for `slow X` with the same seed, and both means."""
    clips = [clip for clip in column if clip.case.kind == "slow or fast"]
    slow = [measure(clip) for clip in clips if clip.case.expected == "slow"]
    fast = [measure(clip) for clip in clips if clip.case.expected == "fast"]
    pairs = [(a, b) for a, b in zip(slow, fast, strict=False) if a is not None and b is not None]
    if not pairs:
        return "–"
    correct = sum(b > a for a, b in pairs)
    low, high = interval(correct, len(pairs))
    means = np.mean(pairs, axis=0)
    return f"{correct / len(pairs):.0%} [{low:.0%}, {high:.0%}]; {means[0]:.0f} and {means[1]:.0f}"


def _clock(column: abc.Sequence[EvaluatedClip], *, long: bool) -> str:
    shares = [clip.codes.clock for clip in column if clip.codes and (clip.case.kind == "30 s") == long]
    return f"{np.mean(shares):.2%}, least {np.min(shares):.1%}" if shares else "–"


def _levels(column: abc.Sequence[EvaluatedClip]) -> str:
    levels = np.array([clip.audio.level_db for clip in column])
    of_genre = [clip for clip in column if clip.case.kind == "genre"]
    means = [
        np.mean([clip.audio.level_db for clip in of_genre if clip.case.expected == name])
        for name in dict.fromkeys(clip.case.expected for clip in of_genre)
    ]
    spread = f"; genres {min(means):.1f} to {max(means):.1f}" if means else ""
    return f"{levels.mean():.1f} ± {levels.std():.1f}{spread}"


_SUMMARIES: dict[str, Callable[[abc.Sequence[EvaluatedClip]], str]] = {
    "sound: fast X faster than slow X; mean tempi": lambda column: _pace(column, lambda clip: clip.audio.tempo),
    "sound: fast X has more onsets than slow X; a second": lambda column: _pace(column, lambda clip: clip.audio.onsets),
    "codes: fast X faster than slow X; mean tempi": lambda column: _pace(
        column, lambda clip: clip.codes.tempo if clip.codes else None
    ),
    "codes: clock is right, 8 s": lambda column: _clock(column, long=False),
    "codes: clock is right, 30 s": lambda column: _clock(column, long=True),
    "sound: level, dB": _levels,
    "sound: clips beyond full scale": lambda column: f"{np.mean([clip.audio.peak > 1 for clip in column]):.1%}",
}
