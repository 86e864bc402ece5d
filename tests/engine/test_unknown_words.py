"""Words that a model doesn't know are named: nano has a list of words, and everything else means nothing to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("tokenizers", reason="needs the extra local")

from tokenizers import Tokenizer
from tokenizers.models import Unigram

from musicgen_cli.checkpoint.checkpoint import find_checkpoint
from musicgen_cli.engine.unknown_words import unknown_words


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    checkpoint = find_checkpoint("nano", tmp_path_factory.mktemp("models"))
    return Tokenizer.from_file(str(checkpoint.tokenizer))


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("calm ambient piano", []),
        ("Xyzzy and a Kazoo; the xyzzy, please.", ["xyzzy", "kazoo"]),
        ("energetic techno beat with synthesizers, 120 bpm in C# minor", []),
        ("lo-fi hip hop, no drums, without kazoo", []),
        ("énergique, 音楽 piano 🎸", ["énergique", "音楽"]),
        ("Größe, über der Straße", ["größe", "über", "der", "straße"]),
        ("4 bars of music", []),
        ("Featuring the pieces that she included: a, b", []),
        (" , . ; ", []),
        ("", []),
    ],
)
def test_only_words_that_mean_nothing_to_nano_are_named(nano: Tokenizer, prompt: str, words: list[str]) -> None:
    """Not synonyms, phrases, keys and tempi, which its tokenizer rewrites, nor words that nobody expects to hear."""
    assert unknown_words(nano, prompt) == words


def test_a_tokenizer_of_pieces_of_words_knows_every_word() -> None:
    """Such as that of the published models."""
    assert (
        unknown_words(Tokenizer(Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0, byte_fallback=False)), "xyzzy") == []
    )


@pytest.mark.usefixtures("store_path")
def test_they_are_said_once_for_all_variations(musicgen: Callable[..., Any]) -> None:
    """Beside the takes, which are made all the same."""
    done = musicgen("generate", "--local", "--model", "nano", "xyzzy piano", "-d", "0.5", "-n", "3", "-q")

    assert (done.code, len(done.out.split())) == (0, 3)
    assert done.err.count("nano doesn't know: xyzzy") == 1
    assert "piano" not in done.err


@pytest.mark.usefixtures("store_path")
def test_a_long_list_of_them_is_cut(musicgen: Callable[..., Any]) -> None:
    """A prompt has up to 2,000 characters."""
    prompt = " ".join(f"qq{letter}" for letter in "abcdefghijkl")

    done = musicgen("generate", "--local", "--model", "nano", prompt, "-d", "0.5", "-q")

    assert "nano doesn't know: qqa, qqb, qqc, qqd, qqe, qqf, qqg, qqh, …\n" in done.err
