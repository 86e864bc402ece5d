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
    a about above across after again against all almost along already also although always am among an and another
    any anyone anything are around arrangement arrive arrives arriving as ask asking asks at audio background bar
    bars be because become becomes becoming been before begin beginning begins behind being below beneath beside
    best better between beyond big bigger bit both bottom boy bpm bridge bring bringing brings but by came can
    carries carry carrying certain chord chords close closed closes closing come comes coming could did different do
    does doing done dont down during each eight either end ending ends even ever every everyone everything feel
    feeling feels felt few fi find finding finds first five for found four from full game get gets getting girl give
    given gives giving go goes going gone good got great guy guys had half has have having he hear heard help
    helping helps her here hers hi high higher him his hold holding holds hook hooks how hundred i if in inside
    instrument instrumental instrumentation instruments into intro is it its just keep keeping keeps kept key kind
    kinds know knowing knows lady later lead leads leave leaves leaving left less let lets level levels like listen
    listening little long longer look looking looks loop looping lots low lower made make makes making man many may
    me meet meeting meets melodic melody men might mix mixed mono more most motion much music musical must my near
    need needs never new newer nine no nobody not nothing now of often old older on once one ones only onto open
    opened opening opens or other our out outside over own part parts past people per person piece place played
    playing plays please produced production professional put puts putting quality real really recorded recording
    return returned returning returns right said same sample samples say saying says second section see seen sees
    set sets seven several shall she short shorter should show showing shows since sit sits sitting six so some
    someone something song soon sort sound sounds stand standing stands start starting starts stay staying stays
    stereo still stop stopping stops studio style such take takes taking tell telling tells tempo ten than that the
    their them theme then there they thing things think thinking third this though thousand three through to told
    too took top toward towards track tune turn turning turns two type types under until up upon us use used uses
    using verse version versions very via vibe vibes want wants was watch watching way ways we well went were what
    when where whether which while who whole whom whose why will with within without woman women work working works
    would yet you your
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
