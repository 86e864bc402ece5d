from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tokenizers", reason="needs the extra local")

from musicgen_cli.checkpoint.character_map import is_sound
from musicgen_cli.checkpoint.tokenizer_file import read_tokenizer
from musicgen_cli.engine.tokenizer import load_tokenizer
from musicgen_cli.errors import CheckpointError
from tests.support.fuzz import small_tokenizer

NANO = Path(__file__).parents[2] / "musicgen_cli" / "models" / "nano" / "tokenizer.json"
BLOCK = 256  # units
VALUE = 1 << 31


def written(folder: Path, **members: Any) -> Path:
    """Write a tokenizer like T5's with other members."""
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(small_tokenizer()) | members))
    return path


def nested(depth: int) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "Replace", "pattern": {"Regex": "a"}, "content": "b"}
    for _ in range(depth):
        part = {"type": "Sequence", "normalizers": [part]}
    return part


def replace(pattern: str, content: str = "x") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def test_a_tokenizer_like_t5_s_is_loaded(tmp_path: Path) -> None:
    """As transformers writes it."""
    assert load_tokenizer(written(tmp_path)).encode("a piano").ids[-1] == 1
    assert load_tokenizer(NANO).encode("calm piano").ids


@pytest.mark.parametrize(
    ("member", "part"),
    [
        ("normalizer", replace("(a+)+$")),
        ("normalizer", nested(1)),
        ("normalizer", nested(50)),
        ("normalizer", {"type": "Sequence", "normalizers": [replace("a", "aa")] * 1000}),
        ("normalizer", {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 1000}),
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        ("normalizer", {"type": "Sequence", "normalizers": "x"}),
        ("normalizer", []),
        ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(a|a)*b"}, "behavior": "Isolated", "invert": False}),
        ("post_processor", {"type": "ByteLevel"}),
        ("post_processor", {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}] * 10**5,
                            "special_tokens": {}}),
        ("decoder", {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}),
        ("model", {"type": "BPE", "vocab": {}, "merges": []}),
        ("model", None),
    ],
)  # fmt: skip
def test_a_part_of_another_kind_is_refused(tmp_path: Path, member: str, part: Any) -> None:
    """Before the library compiles or runs it, whatever it would do with it."""
    with pytest.raises(CheckpointError, match=r"tokenizer\.json can't be read: its"):
        load_tokenizer(written(tmp_path, **{member: part}))


@pytest.mark.parametrize("content", [b"", b"[", b"[" * 100_000, b"null", b'{"a": NaN}', b"\xff", b"[]"])
def test_what_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    """With the path of the file."""
    (tmp_path / "tokenizer.json").write_bytes(content)

    with pytest.raises(CheckpointError, match=r"tokenizer\.json can't be read"):
        read_tokenizer(tmp_path / "tokenizer.json")


def table(units: list[int], texts: bytes) -> str:
    """Make a map of characters as SentencePiece does, of one block."""
    padded = units + [0] * (BLOCK - len(units))
    blob = (4 * BLOCK).to_bytes(4, "little") + b"".join(unit.to_bytes(4, "little") for unit in padded) + texts
    return base64.b64encode(blob).decode()


def mapping(character: str, *, value: int = 0, offset: int = 1) -> list[int]:
    """Return the units that map one ASCII character to the text at `value`."""
    units = [0] * BLOCK
    byte = ord(character)
    units[byte] = byte | 1 << 8 | offset << 10  # reached by the byte from unit 0; has a value; where that is
    units[byte ^ offset] = VALUE | value
    return units


def test_a_sound_map_of_characters_is_used(tmp_path: Path) -> None:
    """It replaces what it should."""
    sound = table(mapping("q", value=4), b"xxx\0piano\0")
    assert is_sound(sound)
    tokenizer = load_tokenizer(written(tmp_path, normalizer={"type": "Precompiled", "precompiled_charsmap": sound}))

    assert tokenizer.encode("a q").tokens == ["▁a", "▁piano", "</s>"]


@pytest.mark.parametrize(
    ("units", "texts"),
    [
        (mapping("q", value=9), b"abc\0"),  # a value outside the texts
        (mapping("q", value=1), b"abc\0"),  # in the middle of one
        ([1 << 20 << 10], b"abc\0"),  # a child outside the trie
        ([0], b"x" * 5000 + b"\0"),  # a long text
        ([ord("q") | 1 << 8], b"abc\0"),  # a value that is none
        (mapping("q"), b"\xff\0"),  # no UTF-8
    ],
)
def test_a_map_that_would_end_the_process_is_refused(units: list[int], texts: bytes) -> None:
    """The library reports an index outside its bounds as a panic, and believes any length."""
    assert not is_sound(table(units, texts))


@pytest.mark.parametrize("value", [None, "", "x", 7, [], "AAAA", base64.b64encode(b"\xff" * 8).decode()])
def test_what_is_no_map_is_refused(value: object) -> None:
    """Whatever it is instead."""
    assert not is_sound(value)
