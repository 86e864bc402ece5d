"""What makes takes for `listening`: checkpoints with the package's engine, and the composer with two synthesisers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.engine.unknown_words import is_unheard, unknown_words
from training.nano import code_analysis, codec, codes, composer, fidelity, general_midi, plan, tokenizer, words
from training.nano.audio_analysis import FloatArray
from training.nano.composer import Codes
from training.nano.plan import Plan
from training.nano.pulse import FRAME_RATE
from training.nano.recording import RecordingEngine
from training.nano.styles import MOODS

_FIRST_SEED = 8 * 10**9  # of pieces that neither training nor the classifiers draw
_DRAWS = 60_000  # after which a combination of concepts counts as one that is never drawn
_FREE_PROMPTS = Path(__file__).with_name("free_prompts.txt")
_KINDS = ("jingle", "drone", "solo")
# Concepts that decide something beside what is asked here.
_IRRELEVANT = {"major", "minor", "electronic", "acoustic", "dance", "orchestra"}


class CheckpointPlayer:
    """Takes of a checkpoint."""

    def __init__(self, name: str, checkpoint: Checkpoint, graphs: Path) -> None:
        """Open a checkpoint; `graphs` is a folder for the graphs of the engine."""
        self.name = name
        self._engine = RecordingEngine(checkpoint, cache_dir=graphs, threads=1)
        self._tokenizer = Tokenizer.from_file(str(checkpoint.tokenizer))
        self._uses_these_codes = code_analysis.uses_these_codes(checkpoint)

    def take(self, prompt: str, seed: int, seconds: float) -> tuple[Codes | None, FloatArray]:
        """Return the codes and the samples of a take."""
        piece, samples = self._engine.record(prompt, seed, seconds)
        return piece.astype(np.int16) if self._uses_these_codes else None, samples

    def chord(self, timbre: str) -> FloatArray | None:  # noqa: ARG002
        """Return None: a checkpoint has the codec that `ComposerPlayer` has."""
        return None

    def unknown_words(self) -> str:
        """Return the shares of the words that the tokenizer doesn't know."""
        return ", ".join(f"{_unknown_share(self._tokenizer, block):.0%}" for block in _free_prompts())


class ComposerPlayer:
    """The composer's own pieces, of plans that a prompt could have described."""

    def __init__(self, name: str, render: Callable[[Codes], FloatArray]) -> None:
        """Use a synthesiser."""
        self.name = name
        self._render = render
        built = tokenizer.build()
        self._tokenizer: Tokenizer = built.backend_tokenizer
        self._drawn: dict[frozenset[str], list[int]] = {}
        self._rare: set[frozenset[str]] = set()

    def take(self, prompt: str, seed: int, seconds: float) -> tuple[Codes, FloatArray]:
        """Return the codes and the samples of a piece; each seed has another plan."""
        read = {words.CONCEPTS[number] for number in self._tokenizer.encode(prompt).ids}
        wanted = frozenset(_relevant(read))
        piece_plan, piece_seed = self._plan(wanted, seed)
        piece = composer.compose(piece_plan, piece_seed, round(seconds * FRAME_RATE))
        return piece, self._render(piece)

    def chord(self, timbre: str) -> FloatArray:
        """Return one chord."""
        piece = np.zeros((codes.STREAMS, 4 * FRAME_RATE), np.int16)
        piece[2, 0] = codes.ids()[2]["chord", timbre, 0, "major", codes.LOUD]
        return self._render(piece)

    def unknown_words(self) -> str:
        """Return the shares of the words that the recipe's tokenizer doesn't know."""
        return ", ".join(f"{_unknown_share(self._tokenizer, block):.0%}" for block in _free_prompts())

    def _plan(self, wanted: frozenset[str], number: int) -> tuple[Plan, int]:
        """
        Return a plan whose caption names these concepts and nothing else that matters, and its seed.

        If they are hardly ever named together, the mood is left out, then all but one of them; the kind of piece stays.
        """
        one = sorted(wanted, key=lambda concept: (concept not in _KINDS, concept))[:1]
        for fewer in (wanted, wanted - set(MOODS), frozenset(one)):
            if fewer in self._rare:
                continue
            seeds = self._drawn.setdefault(fewer, [])
            seed = start = seeds[-1] + 1 if seeds else _FIRST_SEED
            while len(seeds) <= number and seed < start + _DRAWS:
                if set(_relevant(plan.draw(seed)[1])) == fewer:
                    seeds.append(seed)
                    start = seed
                seed += 1
            if len(seeds) > number:
                return plan.draw(seeds[number])[0], seeds[number]
            self._rare.add(fewer)
        raise ValueError(f"no piece has {sorted(wanted)}")


def composers() -> list[ComposerPlayer]:
    """Return the composer with the codec, and with General MIDI if FluidSynth is there."""
    torch.set_num_threads(1)
    model = codec.build().half().float()
    players = [ComposerPlayer("composer", lambda piece: fidelity.decode(model, piece))]
    if general_midi.is_installed():
        players.append(ComposerPlayer("General MIDI", general_midi.render))
    return players


def recipe_digest() -> str:
    """Return a digest that changes with the music and with the sound of the recipe."""
    digest = hashlib.sha256(codes.vectors().tobytes())
    for seed in range(20):
        piece_plan, concepts = plan.draw(seed)
        digest.update(" ".join(concepts).encode() + composer.compose(piece_plan, seed, 500).tobytes())
    return digest.hexdigest()[:16]


def _relevant(concepts: set[str] | list[str]) -> set[str]:
    return {
        concept
        for concept in concepts
        if not concept.startswith(("key_", "hue")) and concept not in _IRRELEVANT and concept not in words.SPECIAL
    }


def _free_prompts() -> list[list[str]]:
    """Return the prompts that were written before the vocabulary was extended, and those written after it."""
    blocks = re.split(r"^#.*\n", _FREE_PROMPTS.read_text(), flags=re.MULTILINE)
    return [block.split("\n")[:-1] for block in blocks]


def _unknown_share(tokenizer_: Tokenizer, listed: list[str]) -> float:
    unknown = total = 0
    for prompt in listed:
        unknown += len(unknown_words(tokenizer_, prompt))
        total += sum(not is_unheard(word) for word in re.findall(r"[\w'&-]+", prompt.lower()))
    return unknown / total
