"""
Which tokenizer.json is loaded: one of the kinds that T5's and this program's own models have.

The file is a program of a kind: it has regular expressions, which can take for ever, replacements, which can make a
gigabyte of a word, and tables whose errors end the process. So its parts are checked against a list of what the models
need, before the tokenizers library sees them: T5's kinds as transformers writes them (SpmConverter, T5Converter), and
the rewriting of words that the bundled model begins with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from musicgen_cli import foreign
from musicgen_cli.checkpoint import character_map
from musicgen_cli.checkpoint.bounds import TOKENIZER_BYTES
from musicgen_cli.errors import CheckpointError, system_reason

_BUNDLED = Path(__file__).parents[1] / "models" / "nano" / "tokenizer.json"
_MOST_PARTS = 16  # of a sequence
_MOST_TOKENS = 10_000  # that are added to a vocabulary; T5 has 103

_PLAIN_NORMALIZERS = frozenset({"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip"})
# Of T5: runs of spaces become one, and a space is written as the sign that the vocabulary has for it.
_REPLACEMENTS = (
    ({"Regex": " {2,}"}, " "),
    ({"Regex": " {2,}"}, "▁"),
    ({"String": " "}, "▁"),
)
_PLAIN_PRE_TOKENIZERS = frozenset({"Metaspace", "Whitespace", "WhitespaceSplit"})
_MODELS = frozenset({"Unigram", "WordLevel"})


def read_tokenizer(path: Path) -> bytes:
    """
    Return the bytes of a tokenizer.json, which are safe to load.

    Raises:
        CheckpointError: It can't be read, isn't a tokenizer, or has a part of a kind that isn't on the list.
    """
    try:
        content = foreign.read(path, TOKENIZER_BYTES)
    except OSError as err:
        raise CheckpointError(f"can't read {path}: {system_reason(err)}") from err
    try:
        tokenizer = from_json(content, cache_strings="none")  # ten times as fast as json, and bounded in depth
    except ValueError as err:
        raise CheckpointError(f"{path} can't be read: it is not JSON") from err
    problem = next(_problems(tokenizer, content), None) if isinstance(tokenizer, dict) else "it is not a JSON object"
    if problem is not None:
        raise CheckpointError(
            f"{path} can't be read: {problem}", hint="models of the type musicgen have the tokenizer of T5"
        )
    return content


def _problems(tokenizer: Mapping[str, Any], content: bytes) -> Iterator[str]:
    """Yield what is not as the models have it."""
    added = tokenizer.get("added_tokens")
    if added is not None and (not isinstance(added, list) or len(added) > _MOST_TOKENS):
        yield f"more than {_MOST_TOKENS} tokens are added to its vocabulary"
    if _kind(tokenizer.get("model")) not in _MODELS:
        yield f"its model is none of {', '.join(sorted(_MODELS))}"
    normalizer = tokenizer.get("normalizer")
    if normalizer is not None and not _all_known(normalizer, "normalizers", _is_normalizer):
        if normalizer != json.loads(_BUNDLED.read_bytes())["normalizer"]:
            yield "its normalizer is of a kind that isn't supported"
    else:
        tables = [part["precompiled_charsmap"] for part in _parts(normalizer, "normalizers") if _is_table(part)]
        if len(tables) > 1 or any(table.encode() not in content for table in tables):  # the library reads no escapes
            yield "its normalizer has more than one table, or an escaped one"
    pre_tokenizer = tokenizer.get("pre_tokenizer")
    if pre_tokenizer is not None and not _all_known(
        pre_tokenizer, "pretokenizers", lambda part: _kind(part) in _PLAIN_PRE_TOKENIZERS
    ):
        yield "its pre_tokenizer is of a kind that isn't supported"
    if tokenizer.get("post_processor") is not None and not _is_template(tokenizer["post_processor"]):
        yield "its post_processor is of a kind that isn't supported"
    if tokenizer.get("decoder") is not None and _kind(tokenizer["decoder"]) != "Metaspace":
        yield "its decoder is of a kind that isn't supported"


def _all_known(part: Any, member: str, is_known: Callable[[Any], bool]) -> bool:
    """Tell whether a part, or each part of a sequence of a few, is known."""
    parts = _parts(part, member)
    return len(parts) <= _MOST_PARTS and all(map(is_known, parts))


def _parts(part: Any, member: str) -> list[Any]:
    if _kind(part) != "Sequence":
        return [part]
    parts = part.get(member)
    return parts if isinstance(parts, list) else [None]


def _kind(part: Any) -> str | None:
    kind = part.get("type") if isinstance(part, dict) else None
    return kind if isinstance(kind, str) else None


def _is_table(part: Any) -> bool:
    return _kind(part) == "Precompiled"


def _is_normalizer(part: Any) -> bool:
    if _is_table(part):
        return character_map.is_sound(part.get("precompiled_charsmap"))
    if _kind(part) == "Replace":
        return (part.get("pattern"), part.get("content")) in _REPLACEMENTS
    return _kind(part) in _PLAIN_NORMALIZERS


def _is_template(part: Any) -> bool:
    """Tell whether a post-processor adds a few tokens, as the sign for the end of a text."""
    if _kind(part) != "TemplateProcessing":
        return False
    pieces, tokens = part.get("single"), part.get("special_tokens")
    if not isinstance(pieces, list) or len(pieces) > _MOST_PARTS or not isinstance(tokens, dict):
        return False
    ids = [token.get("ids") if isinstance(token, dict) else None for token in tokens.values()]
    if len(ids) > _MOST_PARTS or not all(isinstance(each, list) and len(each) <= _MOST_PARTS for each in ids):
        return False
    return all(_is_piece(piece, tokens) for piece in pieces)


def _is_piece(piece: Any, tokens: Mapping[str, Any]) -> bool:
    """Tell whether a piece of a template is the text itself, or one of its tokens."""
    if not isinstance(piece, dict) or len(piece) != 1:
        return False
    ((kind, value),) = piece.items()
    id_ = value.get("id") if isinstance(value, dict) else None
    return (kind, id_) == ("Sequence", "A") or (kind == "SpecialToken" and isinstance(id_, str) and id_ in tokens)
