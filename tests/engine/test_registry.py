from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from musicgen_cli import settings
from musicgen_cli.engine import registry
from musicgen_cli.errors import AbsentError, InvalidValueError, MissingExtraError
from musicgen_cli.extras import install_command


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"engine": "jax"}, "engine must be one of onnx, native, torch, got 'jax'"),
        ({"device": "tpu"}, "device must be one of auto, cpu, cuda, mps, got 'tpu'"),
        ({"precision": "int4"}, "precision must be one of int8, fp32, bf16, got 'int4'"),
    ],
)
def test_unknown_names_are_wrong_usage(values: Mapping[str, Any], message: str) -> None:
    """One sentence; exit code 2."""
    with pytest.raises(InvalidValueError, match=message) as caught:
        registry.open_local("nano", note=lambda _: None, **values)

    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({"device": "cuda"}, "the engine onnx has no device 'cuda'", "--engine torch --device cuda"),
        ({"precision": "bf16"}, "the engine onnx has no precision 'bf16'", "--precision int8"),
        (
            {"engine": "torch", "precision": "int8"},
            "the engine torch has no precision 'int8'",
            "--engine onnx --precision int8",
        ),
    ],
)
def test_what_isnt_there_is_refused_before_anything_is_imported(
    monkeypatch: pytest.MonkeyPatch, values: Mapping[str, Any], message: str, hint: str
) -> None:
    """One sentence, and what to do instead; exit code 8."""
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(AbsentError, match=message) as caught:
        registry.open_local("nano", note=lambda _: None, **values)

    assert caught.value.exit_code == 8
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_the_engine_torch_names_its_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Whichever of its packages isn't installed."""
    pytest.importorskip("tokenizers", reason="needs the extra local")
    if package == "transformers":
        pytest.importorskip("torch", reason="else torch is missed first")
    monkeypatch.delitem(sys.modules, "musicgen_cli.engine.torch.engine", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=f"the extra 'torch' \\({package} is not installed\\)") as caught:
        registry.open_local("nano", engine="torch", note=lambda _: None)

    assert caught.value.hint == f"`{install_command('torch')}` installs it"


ADVICE = "model: nano, the small one that comes with musicgen; for full quality: musicgen model pull small"


def resolved(model: str = "auto") -> list[str]:
    """Return the notes of finding a model."""
    pytest.importorskip("tokenizers", reason="needs the extra local")
    notes: list[str] = []
    registry.resolve_model(model, notes.append)
    return notes


def test_the_advice_to_pull_a_model_comes_once_a_day() -> None:
    """Which model was chosen is said each time; somebody who named nano needs no advice."""
    assert resolved("nano") == []
    assert resolved() == [ADVICE]
    assert [resolved(), resolved()] == [["model: nano"]] * 2

    (stamp,) = settings.state_dir().iterdir()
    yesterday = time.time() - 25 * 60 * 60
    os.utime(stamp, (yesterday, yesterday))
    assert [resolved(), resolved()] == [[ADVICE], ["model: nano"]]

    os.utime(stamp, (time.time() + 10**6,) * 2)  # by a clock that was wrong
    assert [resolved(), resolved()] == [[ADVICE], ["model: nano"]]


def test_the_advice_comes_each_time_where_nothing_can_be_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only or absent home is no reason to fail."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))

    assert [resolved(), resolved()] == [[ADVICE]] * 2
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
