from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from musicgen_cli.checkpoint.safetensors_header import HEADER_BYTES, header_length, parse_header

SIZES = {"F32": 4}
SOUND = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


def parsed(**changes: Any) -> list[tuple[str, tuple[int, ...], int, int]]:
    entries = parse_header(json.dumps({"a": SOUND | changes}).encode(), SIZES)
    return [(entry.dtype, entry.shape, entry.first, entry.last) for entry in entries]


def test_a_sound_header_is_read() -> None:
    """Tensors of another type are listed, but their size isn't compared with their shape."""
    assert parsed() == [("F32", (2, 2), 0, 16)]
    assert parsed(dtype="I64") == [("I64", (2, 2), 0, 16)]


@pytest.mark.parametrize(
    "changes",
    [
        {"data_offsets": [0.0, 16.0]},
        {"data_offsets": [False, 16]},
        {"data_offsets": [0, 10**400]},
        {"data_offsets": [16, 0]},
        {"data_offsets": [-16, 0]},
        {"data_offsets": "ab"},
        {"data_offsets": {"0": 1}},
        {"dtype": "word", "shape": "word"},
        {"dtype": ["F32"]},
        {"dtype": None},
        {"shape": [2, 2.0]},
        {"shape": [True, 4]},
        {"shape": [10**400]},
        {"shape": [1 << 40] * 4},
        {"shape": [1] * 100_000},
        {"shape": [-2, -2]},
        {"shape": [[2, 2]]},
        {"shape": 4},
    ],
)
def test_each_number_has_a_type_and_a_range(changes: dict[str, Any]) -> None:
    """Nothing is multiplied, added or allocated before."""
    with pytest.raises(ValueError, match="tensor 'a'"):
        parsed(**changes)


@pytest.mark.parametrize(
    "header", [b"", b"[]", b"null", b"[" * 100_000, b'{"a": 1}', b'{"a": 1e999}', b"\xff", b"{" * 9]
)
def test_what_is_no_header_is_refused(header: bytes) -> None:
    """With a reason."""
    with pytest.raises(ValueError, match=r"header|tensor 'a'"):
        parse_header(header, SIZES)


@pytest.mark.parametrize("length", [HEADER_BYTES + 1, 1 << 40, (1 << 64) - 1])
def test_a_length_is_compared_with_the_file(length: int) -> None:
    """It is what would be read."""
    with pytest.raises(ValueError, match=r"truncated|has more than"):
        header_length(length.to_bytes(8, "little"), file_size=HEADER_BYTES * 2)


def test_gaps_and_overlaps_are_refused() -> None:
    """Each byte belongs to one tensor."""
    for second in ([0, 16], [8, 24], [32, 48]):
        header = {"a": SOUND, "b": SOUND | {"data_offsets": second}}
        with pytest.raises(ValueError, match="doesn't begin where the one before it ends"):
            parse_header(json.dumps(header).encode(), SIZES)


def test_a_sparse_file_costs_no_memory(tmp_path: Path) -> None:
    """One that says it has a tensor of 40 GB is mapped, not read."""
    pytest.importorskip("numpy", reason="needs the extra local")
    from musicgen_cli.checkpoint.safetensors_file import safetensors
    from musicgen_cli.checkpoint.tensors import Tensors

    header = json.dumps({"a": {"dtype": "F32", "shape": [10**10], "data_offsets": [0, 4 * 10**10]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + 4 * 10**10)

    assert Tensors(safetensors(path)).float32_bytes("a") == 4 * 10**10
