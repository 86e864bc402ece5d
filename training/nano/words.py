"""
The vocabulary: which words and phrases of a prompt stand for which concepts. The model knows concepts alone.

All words of a concept are the same to it: `gloomy` and `dark`, for example. The tables are in `nouns`, `adjectives` and
`verbs`; here the other forms of their words are derived. Phrases are replaced before words are; see `phrases`. Other
words mean nothing, but all letters of a prompt enter its hues. Names of artists are left out on purpose, except for
composers who are long dead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from training.nano.adjectives import ADJECTIVES
from training.nano.keys import KEYS
from training.nano.nouns import NOUNS
from training.nano.plan import ABSENT, HUES, INSTRUMENTS, KITS, UNKNOWN, hue
from training.nano.pulse import BEAT_FRAMES
from training.nano.styles import GENRES, MOODS
from training.nano.verbs import VERBS

SPECIAL = ("<pad>", "</s>", UNKNOWN)
TEMPI = {f"bpm_{frames}": frames for frames in BEAT_FRAMES}
CONCEPTS: tuple[str, ...] = (
    *SPECIAL,
    *GENRES,
    *MOODS,
    *INSTRUMENTS,
    *KITS,
    *("drums", "solo", "slow", "medium", "fast", "major", "minor", "electronic", "acoustic", "dance", "orchestra"),
    *("jingle", "drone"),
    *(f"no_{name}" for name in ABSENT),
    *TEMPI,
    *(f"key_{number}" for number in range(len(KEYS))),
    *(hue(number, value) for number, count in enumerate(HUES) for value in range(count)),
)

# Derived forms whose meaning is another one.
_MISLEADING = frozenset(
    """
    easily evocatively freely hardly heavily inspired inspires lately loosely massively nicely normally number purely
    roughly simply strongly technically ultimately widely years
    """.split()  # noqa: SIM905  # easier to read and to add to
)
_DOUBLES = re.compile(r"[^aeiou]*[aeiou][bdgklmnprt]|(?:pro|com)pel|re(?:bel|gret)|handclap")  # as in `hum`: humming


def forms() -> dict[str, str]:
    """Return the concept of each word: the names of the concepts, the words of the tables, then their other forms."""
    meaning = {concept: concept for concept in CONCEPTS}
    tables = ((ADJECTIVES, _of_adjective), (NOUNS, _of_noun), (VERBS, _of_verb))
    for table, _ in tables:
        for concept, words in table.items():
            for word in words.split():
                meaning.setdefault(word, concept)
    for table, derived in tables:
        for concept, words in table.items():
            for word in words.split():
                for form in derived(word):
                    if form not in _MISLEADING:
                        meaning.setdefault(form, concept)
    return meaning


def _of_noun(noun: str) -> Iterator[str]:
    """Yield the plural; of a noun in `-o` both of those that may be right."""
    if noun.endswith("o"):
        yield f"{noun}es"
    if noun.endswith(("s", "x", "ch", "sh", "z")):
        yield f"{noun}es"
    elif noun.endswith("y") and noun[-2] not in "aeiou":
        yield f"{noun[:-1]}ies"
    else:
        yield f"{noun}s"


def _of_verb(verb: str) -> Iterator[str]:
    """Yield the third person, the past and the participles; there are no irregular ones."""
    yield from _of_noun(verb)
    if verb.endswith("e"):
        yield from (f"{verb}d", f"{verb.removesuffix('e')}ing")
    elif verb.endswith("y") and verb[-2] not in "aeiou":
        yield from (f"{verb[:-1]}ied", f"{verb}ing")
    else:
        stem = f"{verb}{verb[-1]}" if _DOUBLES.fullmatch(verb) else verb
        yield from (f"{stem}ed", f"{stem}ing")


def _of_adjective(word: str) -> Iterator[str]:
    """Yield the adverb; of a short adjective also the comparative, the superlative and the noun in `-ness`."""
    if word.endswith("ly") or not word.isalpha():
        return
    stem = f"{word[:-1]}i" if word.endswith("y") else word
    if word.endswith("ic"):
        yield f"{word}ally"
    elif word.endswith("le"):
        yield f"{word[:-1]}y"
    else:
        yield f"{stem}y" if word.endswith("ll") else f"{stem}ly"
    if word.endswith(("ed", "ing", "er", "est")):
        return
    yield f"{stem}ness"
    if word.endswith("y") or re.fullmatch(r"[^aeiou]*[aeiou]{1,2}[^aeiou]*e?", word):
        yield from (f"{stem.removesuffix('e')}{ending}" for ending in ("er", "est"))
