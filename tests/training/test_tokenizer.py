from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tokenizers", reason="needs the extra local")
transformers = pytest.importorskip("transformers", reason="the recipe needs transformers")

from tokenizers import Tokenizer

from training.nano import tokenizer, words

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def built() -> object:
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
]


@pytest.mark.parametrize(("prompt", "meant"), CASES)
def test_a_prompt_means_its_concepts(built: object, prompt: str, meant: str) -> None:
    """Whatever the spelling; words without a meaning are unknown."""
    concepts = tokenizer.concepts()
    found = [words.CONCEPTS[concepts[number]] for number in built(prompt).input_ids]

    assert [concept for concept in found if concept not in words.SPECIAL] == meant.split()
    assert found[-1] == "</s>"


def test_both_libraries_read_the_file_alike(built: object, tmp_path: Path) -> None:
    """The one that users have and the one of transformers."""
    built.save_pretrained(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))

    for prompt, _ in CASES:
        assert ours.encode(prompt).ids == theirs(prompt).input_ids == built(prompt).input_ids


def test_there_are_two_thousand_words() -> None:
    """Each with a concept, and every concept has one."""
    vocabulary = tokenizer.vocabulary()

    assert len(vocabulary) >= 2000
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert set(tokenizer.concepts()) == set(range(len(words.CONCEPTS)))
