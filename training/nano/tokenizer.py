"""
The tokenizer: from a prompt to the ids of words, as an ordinary tokenizer.json for the tokenizers library.

The normalizer first puts the hues before the prompt, a hash of its letters. Then it rewrites what takes more than one
word: keys (`F# minor` → key_18), tempi (`110 bpm` → the nearest
of the grid), negation (`without piano or drums` → no_piano no_drums) and phrases (`hip hop`). Last, each word becomes
its concept: one pattern for each concept has all its words, as a trie. So transformers and the tokenizers library read
the same file, and the model needs an embedding for each concept only, not for each word.
"""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from training.nano import phrases, trie, words
from training.nano.keys import KEYS, TONICS
from training.nano.plan import ABSENT, HUES, INSTRUMENTS, KITS, UNKNOWN, hue
from training.nano.pulse import nearest

_TEMPI = range(40, 241)  # beats a minute that are understood; each stands for the nearest tempo of the grid
_SHARP, _FLAT = "(?:#|[ -]?sharp)", "(?:b|[ -]?flat)"
_SPELLINGS = (
    *("c", f"(?:c{_SHARP}|d{_FLAT})", "d", f"(?:d{_SHARP}|e{_FLAT})", "e", "f", f"(?:f{_SHARP}|g{_FLAT})", "g"),
    *(f"(?:g{_SHARP}|a{_FLAT})", "a", f"(?:a{_SHARP}|b{_FLAT})", "b"),
)
_ANY = r"[\s\S]"
_NOR = "nor_"  # follows what was negated
# The digits of each hue: their base, the letters that are counted, and what follows each letter in a unit of the count.
_DIGITS = (
    ((2, "aelsu0-4", ""), (2, "bcdeinr5-9", ""), (3, "afgmotz", "")),
    ((2, "ehiosy ", ""), (2, "adlnpwx0-3", ""), (2, "cegkrtv", "")),
    ((2, "aeimrst", _ANY), (2, "bdlnou ", _ANY), (2, "acehknpt", _ANY)),
)


def build() -> PreTrainedTokenizerFast:
    """Make the tokenizer; ids are the places of concepts in `words.CONCEPTS`."""
    ids = {concept: number for number, concept in enumerate(words.CONCEPTS)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            *(normalizers.Replace(Regex(pattern), text) for pattern, text in (*_hues(), *_rewriting())),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    pad, end, _ = words.SPECIAL
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, words.CONCEPTS.index(end))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        eos_token=end,
        unk_token=UNKNOWN,
        model_max_length=128,
        padding_side="right",
    )


def _hues() -> Iterator[tuple[str, str]]:
    """
    Yield patterns that match the beginning of a prompt, and the hue that is put there.

    A hue is a number that is composed of digits: how often certain letters occur, modulo 2 or 3. The letters of the
    last hue count at even places only, so that the order of the words matters, too.
    """
    for number, digits in enumerate(_DIGITS):
        for value in range(HUES[number]):
            conditions, rest = "", value
            for base, letters, unit in digits:
                rest, digit = divmod(rest, base)
                end = rf"{_ANY}?\z" if unit else r"\z"
                other, counted = (f"(?:[^{letters}]{unit})", f"(?:[{letters}]{unit})")
                conditions += f"(?=(?:(?:{other}*{counted}){{{base}}})*(?:{other}*{counted}){{{digit}}}{other}*{end})"
            yield rf"\A(?!hue{number}){conditions}", f"{hue(number, value)} "


def _rewriting() -> Iterator[tuple[str, str]]:
    """Yield patterns and their replacements, in order."""
    yield "♯", "#"
    yield "♭", "b"
    yield "['’`´]", ""
    yield "&", " and "
    yield from _keys()
    yield from _tempo()
    yield rf"\b(?:{phrases.NEGATION})\b", "no"
    yield "[^a-z0-9_,;.]+", " "
    for phrase, replacement in phrases.PHRASES:
        yield rf"(?<![a-z0-9_])(?:{phrase})(?![a-z0-9_])", f" {replacement} "
    yield " +", " "
    yield from _negations()
    yield rf"\bno(?: (?:{phrases.BETWEEN}))* [a-z0-9]+\b|\b(?:no|{_NOR})\b", ""  # something without a `no_` concept
    yield "[^a-z0-9_]+", " "
    yield from _words()


def _words() -> Iterator[tuple[str, str]]:
    """Yield a pattern for each concept, which matches its words after a space: the hues come before all of them."""
    listed: dict[str, list[str]] = {}
    for word, concept in words.forms().items():
        if word != concept:
            listed.setdefault(concept, []).append(word)
    for concept, same in listed.items():
        yield f" {trie.pattern(same)}(?= |$)", f" {concept}"


def _keys() -> Iterator[tuple[str, str]]:
    for mode in ("major", "minor"):
        yield rf"\ba {mode} (?:key|scale|mode|chords?|tonality|feel|progression|harmony)", f" {mode} "
    before = r"(?:\bin )?(?:\bthe )?(?:\bkey of )?"
    modes = {"major": "(?:major|maj|dur)", "minor": "(?:minor|min|moll)"}
    # Sharps and flats come first, since `b` is also the name of a note.
    numbered = sorted(enumerate(KEYS), key=lambda item: len(TONICS[item[1].tonic]), reverse=True)
    for number, key in numbered:
        yield rf"{before}\b{_SPELLINGS[key.tonic]}[ -]{{0,2}}{modes[key.mode]}\b", f" key_{number} "
    for number, key in numbered:
        if key.mode == "major":
            yield rf"(?:\bin )?(?:\bthe )?\b(?:in|key of) {_SPELLINGS[key.tonic]}(?= *(?:[,.;]|$))", f" key_{number} "


def _tempo() -> Iterator[tuple[str, str]]:
    for name, frames in words.TEMPI.items():
        numbers = "|".join(str(number) for number in _TEMPI if nearest(number) == frames)
        unit = r"(?:[.,]\d+)?[ -]?(?:bpm|beats? (?:per|a) minute)\b"
        before = r"\b(?:bpm|tempo)(?: of| at| is)?[:=]? ?"
        yield rf"\b(?:{numbers}){unit}|{before}(?:{numbers})\b", f" {name} "


def _negations() -> Iterator[tuple[str, str]]:
    """
    Yield the patterns of negations.

    Each replacement ends with a sign that negates what follows after `or`. As the instruments are tried in one order,
    all are tried twice, for lists in another order.
    """
    meaning = words.forms()
    for _ in range(2):
        for name in ABSENT:
            same = {name, *_kinds_of(name)}
            matches = trie.pattern(word for word, concept in meaning.items() if concept in same)
            yield rf"\b(?:no|{_NOR}) (?:(?:or|nor) )?(?:(?:{phrases.BETWEEN}) )*{matches}\b", f" no_{name} {_NOR}"
        yield " +", " "


def _kinds_of(name: str) -> set[str]:
    """Return the concepts that an instrument includes: `no bass` also excludes a double bass."""
    if name == "drums":
        return set(KITS)
    if name == "guitar":
        return {"dist"}
    voices = set(INSTRUMENTS[name])
    return {other for other, parts in INSTRUMENTS.items() if set(parts) <= voices}
