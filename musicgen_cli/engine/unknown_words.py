"""Which words of a prompt mean nothing to a model; only one with a list of words, such as nano, can tell."""

from __future__ import annotations

import re
import unicodedata

from tokenizers import Tokenizer
from tokenizers.models import WordLevel

SHOWN = 8  # at most, of a prompt's words

_WORDS = re.compile(r"\w+")

# Words that nobody expects to be heard.
_UNHEARD = frozenset(
    """
    a about across after all an and any are around as at be before bit but by does dont down during each every first
    for from he i in into is it its just less like little lots make me more most my no not of on or other our out over
    past played playing plays please really she so some than that the their them then they this through to too two three
    under until up us very want we what when where which while who with you your
    background bar bars bpm chord chords feel game instrumental intro key loop looping melody music musical piece song
    sound sounds style tempo theme track tune version vibe vibes
    """.split()  # noqa: SIM905  # easier to read and to add to
)


def unknown_words(tokenizer: Tokenizer, prompt: str) -> list[str]:
    """Return the words of a prompt that the tokenizer of a model doesn't know, without repeats."""
    if not isinstance(tokenizer.model, WordLevel):
        return []
    unknown = tokenizer.token_to_id(tokenizer.model.unk_token)
    text = _normalized(tokenizer, prompt)
    ids = tokenizer.encode(prompt, add_special_tokens=False).ids
    words = [word.strip(".,;") for word, id_ in zip(text.split(), ids, strict=False) if id_ == unknown]
    # The tokenizer makes `gro` and `e` of `größe`; the word is named as it was typed.
    typed: dict[str, str] = {}
    for word in _WORDS.findall(prompt):
        for part in _normalized(tokenizer, word).split():
            typed.setdefault(part, word.lower())
    words = [typed.get(word, word) for word in words]
    words += filter(_is_foreign, _WORDS.findall(prompt))
    return [word for word in dict.fromkeys(words) if word and not is_unheard(word)]


def is_unheard(word: str) -> bool:
    """Return whether nobody expects to hear a word, in lower case, in the music."""
    return word in _UNHEARD or word.isdecimal()


def _normalized(tokenizer: Tokenizer, text: str) -> str:
    return text if tokenizer.normalizer is None else str(tokenizer.normalizer.normalize_str(text))


def _is_foreign(word: str) -> bool:
    """Return whether a word has no Latin letter or digit: the tokenizer of nano drops it."""
    return not re.search(r"[a-zA-Z0-9_]", unicodedata.normalize("NFKD", word))
