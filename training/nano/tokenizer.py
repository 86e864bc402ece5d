"""
A prompt → the ids of concepts, as an ordinary fast tokenizer.

What needs more than one word is rewritten first, by the normalizer: keys (`F# minor` → key_18), tempi (`110 bpm` → the
nearest of the grid), negation (`without piano or drums` → no_piano no_drums), phrases (`hip hop`). Then each word is
looked up. So the file is the same for transformers and for the tokenizers library, and nothing but words is in it.
"""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from training.nano import words
from training.nano.keys import KEYS, TONICS
from training.nano.plan import ABSENT, INSTRUMENTS, KITS, UNKNOWN
from training.nano.pulse import nearest

_TEMPI = range(40, 241)  # beats a minute that can be asked for; the nearest that there is answers
_SHARP, _FLAT = "(?:#|[ -]?sharp)", "(?:b|[ -]?flat)"
_SPELLINGS = (
    *("c", f"(?:c{_SHARP}|d{_FLAT})", "d", f"(?:d{_SHARP}|e{_FLAT})", "e", "f", f"(?:f{_SHARP}|g{_FLAT})", "g"),
    *(f"(?:g{_SHARP}|a{_FLAT})", "a", f"(?:a{_SHARP}|b{_FLAT})", "b"),
)


def build() -> PreTrainedTokenizerFast:
    """Make the tokenizer: ids of concepts first, in the order of `words.CONCEPTS`, then those of other words."""
    tokenizer = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            *(normalizers.Replace(Regex(pattern), text) for pattern, text in _rewriting()),
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


def vocabulary() -> dict[str, int]:
    """Return each word's id."""
    others = sorted(set(words.forms()) - set(words.CONCEPTS))
    return {word: number for number, word in enumerate((*words.CONCEPTS, *others))}


def concepts() -> list[int]:
    """Return of each id the concept it stands for: whose embedding it has."""
    meaning = words.forms()
    return [words.CONCEPTS.index(meaning[word]) for word in vocabulary()]


def _rewriting() -> Iterator[tuple[str, str]]:
    """Yield patterns and what takes their place, in order."""
    yield "♯", "#"
    yield "♭", "b"
    yield "['’`´]", ""
    yield "&", " and "
    yield from _keys()
    yield from _tempo()
    yield rf"\b(?:{words.NEGATION})\b", "no"
    yield "[^a-z0-9_,;.]+", " "
    for phrase, meant in words.PHRASES:
        yield rf"(?<![a-z0-9_])(?:{phrase})(?![a-z0-9_])", f" {meant} "
    yield " +", " "
    yield from _negations()
    yield r"\bno\b", ""  # of what can't be there anyway
    yield "[^a-z0-9_]+", " "


def _keys() -> Iterator[tuple[str, str]]:
    for mode in ("major", "minor"):
        yield rf"\ba {mode} (?:key|scale|mode|chords?|tonality|feel|progression|harmony)", f" {mode} "
    before = r"(?:\bin )?(?:\bthe )?(?:\bkey of )?"
    modes = {"major": "(?:major|maj|dur)", "minor": "(?:minor|min|moll)"}
    # Sharps and flats first: `b` is a note of its own, too.
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
    """After each `no_…` stands a `no` for what follows an `or`; hence once more for what came earlier in the list."""
    meaning = words.forms()
    for _ in range(2):
        for name in ABSENT:
            same = {name, *_kinds_of(name)}
            found = sorted((word for word, concept in meaning.items() if concept in same), key=len, reverse=True)
            yield rf"\bno (?:(?:or|nor) )?(?:(?:{words.BETWEEN}) )*(?:{'|'.join(found)})\b", f" no_{name} no"
        yield " +", " "


def _kinds_of(name: str) -> set[str]:
    """Return the concepts that are kinds of what isn't wanted: no bass is no double bass either."""
    if name == "drums":
        return set(KITS)
    if name == "guitar":
        return {"dist"}
    voices = set(INSTRUMENTS[name])
    return {other for other, parts in INSTRUMENTS.items() if set(parts) <= voices}
