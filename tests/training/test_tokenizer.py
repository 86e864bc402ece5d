from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("tokenizers", reason="needs the extra local")
transformers = pytest.importorskip("transformers", reason="the recipe needs transformers")

import numpy as np
from tokenizers import Regex, Tokenizer
from tokenizers.normalizers import Replace, Sequence

from tests.training.shipped import shipped
from training.nano import phrases, players, prompts, tokenizer, words
from training.nano.plan import HUES

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def built() -> Any:
    """Make the tokenizer once."""
    return tokenizer.build()


CASES = [
    ("calm ambient piano", "calm ambient piano"),
    ("Energetic TECHNO beat, with synthesizers!", "energetic techno drums synth"),
    ("gloomy Rhodes", "dark epiano"),
    ("drum & bass", "dnb"),
    ("drum'n'bass at 174 BPM", "dnb bpm_17"),
    ("lo-fi hip-hop", "lofi"),
    ("pop, tempo: 128", "pop bpm_23"),
    ("pop, 97.5 beats per minute", "pop bpm_30"),
    ("jazz in F♯ minor", "jazz key_18"),
    ("jazz in the key of Eb major", "jazz key_3"),
    ("jazz in G", "jazz key_7"),
    ("sad tune in a minor key", "sad minor"),
    ("techno without any heavy drums", "techno no_drums"),
    ("rock, no guitars or keyboards", "rock no_guitar no_piano"),
    ("rock, but don't use any guitars", "rock no_guitar"),
    ("jazz without piano, drums", "jazz no_piano drums"),
    ("drumless house", "no_drums house"),
    ("pop, no vocals", "pop no_choir"),
    ("solo cello", "solo violin"),
    ("acoustic guitar arpeggios", "guitar"),
    ("strings that swell", "strings"),
    ("déjà vu", ""),
    ("brighter, softly strummed guitars", "happy calm guitar guitar"),
    ("calm but not boring, no jazz", "calm"),
    ("just piano, no reverb, zero gravity", "piano dreamy"),
    ("deep house in the old house, not a haunted house", "house calm dark"),
    ("funk with a wild saxophone solo", "funk energetic sax"),
    ("violin solo with strings", "violin strings"),
    ("guitar solo with lots of reverb", "guitar solo dreamy"),
    ("90s rock with a piano riff", "rock piano"),
    ("drone footage of the jungle", "cinematic marimba taiko"),
]


@pytest.mark.parametrize(("prompt", "concepts"), CASES)
def test_a_prompt_is_read_as_concepts(built: Any, prompt: str, concepts: str) -> None:
    """Spelling doesn't matter, words outside of the vocabulary are unknown, and an end token follows."""
    read = [words.CONCEPTS[number] for number in built(prompt).input_ids]

    assert [name for name in read if name not in words.SPECIAL and not name.startswith("hue")] == concepts.split()
    assert read[-1] == "</s>"


def test_both_libraries_read_the_file_alike(built: Any, tmp_path: Path) -> None:
    """The tokenizers library, which users have, and transformers give the same ids."""
    built.save_pretrained(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))

    for prompt, _ in CASES:
        assert ours.encode(prompt).ids == theirs(prompt).input_ids == built(prompt).input_ids


@pytest.mark.parametrize("prompt", ["qwerty", "piano", "", "rain\non\nthe roof", "x" * 5000, "Ä & ♯"])
def test_a_prompt_has_one_value_of_each_hue(built: Any, prompt: str) -> None:
    """The hues come first, whatever the prompt is; an empty prompt has none."""
    tokens = built.backend_tokenizer.encode(prompt).tokens

    expected = [2, 1, 0] if prompt else []
    assert [int(token[3]) for token in tokens if token.startswith("hue")] == expected
    assert [token[:3] for token in tokens[: len(expected)]] == ["hue"] * len(expected)


def test_hues_tell_prompts_apart(built: Any) -> None:
    """Prompts that mean the same, or nothing, differ in their hues; so does another order of words."""
    hues = {tuple(built.backend_tokenizer.encode(prompt).tokens[:3]) for prompt in prompts.ALIKE}

    assert len(hues) >= 0.9 * len(prompts.ALIKE)


def test_most_words_of_free_prompts_are_understood() -> None:
    """At most 8 % of the words mean nothing in each block of prompts, most of them written before an extension."""
    player = players.ComposerPlayer("composer", lambda piece: np.zeros(piece.shape[1]))
    shares = [int(share.strip("%")) for share in player.unknown_words().split(", ")]

    assert len(shares) == 5
    assert max(shares) <= 8


def test_each_word_stands_for_its_concept(built: Any) -> None:
    """The patterns have each word of the tables, and nothing but whole words, except where phrases replace some."""
    meaning = words.forms()
    phrase = Sequence([Replace(Regex(rf"\b(?:{pattern})\b"), "_") for pattern, _ in phrases.PHRASES])
    listed = [word for word in meaning if word not in words.CONCEPTS and phrase.normalize_str(word) == word]
    read = {word: built.backend_tokenizer.encode(word).tokens[len(HUES) : -1] for word in listed}

    assert len(listed) >= 15_000
    assert read == {word: [meaning[word]] for word in listed}
    assert built.backend_tokenizer.encode("pianox xpiano").tokens[len(HUES) : -1] == ["<unk>", "<unk>"]


def test_the_tokenizer_is_that_of_the_shipped_model(built: Any) -> None:
    """The recipe still makes the `tokenizer.json` of the bundled checkpoint."""
    assert json.loads(built.backend_tokenizer.to_str()) == json.loads((shipped() / "tokenizer.json").read_text())
