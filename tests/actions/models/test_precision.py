"""Which precision a pull prepares, what it says about it, and in which one the model is loaded afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("safetensors", reason="writes checkpoints")

from musicgen_cli.checkpoint.checkpoint import find_checkpoint
from musicgen_cli.settings import models_dir
from tests.support.model_fixtures import Write
from tests.support.variants import int8_variant

Run = Callable[..., Any]


@pytest.fixture
def far(write: Write, nano_tensors: Mapping[str, Any]) -> Path:
    """Write a model with random output heads, whose logits are so far apart that small errors of int8 matter."""
    rng = np.random.default_rng(0)
    heads = {
        name: rng.standard_normal(values.shape).astype(np.float16)
        for name, values in nano_tensors.items()
        if "lm_heads" in name
    }
    return write("far", tensors={**nano_tensors, **heads})


def shown(musicgen: Run, name: str) -> Any:
    return json.loads(musicgen("model", "show", name, "--json").out)


def test_a_pull_says_how_near_to_float32_it_is(musicgen: Run, write: Write) -> None:
    """In a sentence, with the number that `model show` has, too."""
    done = musicgen("model", "pull", write("mine"))
    model = shown(musicgen, "mine")

    measured = model["precisions"][int8_variant()]["mean_kl"]
    assert 0 < measured < 0.001
    amount = f"{measured:.2g}" if measured >= 0.0001 else "less than 0.0001"
    said = f"int8 is very near float32: its predictions of the next code differ from float32's by {amount} nats"
    assert said in done.err
    assert model["default_precision"] == "int8"
    assert model["weights_kept"] is False


def test_int8_that_is_too_far_from_float32_is_replaced(musicgen: Run, far: Path, store_path: Path) -> None:
    """The pull says so, keeps the weights, and prepares float32, in which the model is then loaded."""
    done = musicgen("model", "pull", far)
    model = shown(musicgen, "far")

    assert done.code == 0, done.err
    assert "int8 is too far from float32" in done.err
    assert "fp32 was prepared instead, and the model is loaded in it" in done.err
    assert list(model["precisions"]) == ["fp32"]
    assert model["default_precision"] == "fp32"
    assert model["too_far_from_float32"][int8_variant()]["mean_kl"] > 0.05
    assert model["weights_kept"] is True
    take = musicgen("generate", "--local", "--model", "far", "-d", "0.5", "x", "--json")
    assert "preparing" not in take.err
    assert json.loads(take.out)["origin"]["precision"] == "fp32"


def test_int8_that_was_asked_for_is_prepared_however_far_it_is(musicgen: Run, far: Path, store_path: Path) -> None:
    """With the same words about it; it is then what the model is loaded in."""
    done = musicgen("model", "pull", far, "--precision", "int8")

    assert "int8 is too far from float32" in done.err
    assert "instead" not in done.err
    assert shown(musicgen, "far")["default_precision"] == "int8"
    take = musicgen("generate", "--local", "--model", "far", "-d", "0.5", "x", "--json")
    assert json.loads(take.out)["origin"]["precision"] == "int8"
    assert f"{int8_variant()} wrong" in musicgen("model", "check", "far").out


def test_int8_stays_where_float32_has_no_room(musicgen: Run, far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is said."""
    from musicgen_cli.actions.models.staging import Staging
    from musicgen_cli.errors import ModelsFolderError

    checks = iter((None, ModelsFolderError("there is no room", hint=None)))

    def check(self: Staging, needed: int) -> None:
        if err := next(checks):
            raise err

    monkeypatch.setattr(Staging, "check_free_space", check)
    done = musicgen("model", "pull", far)

    assert done.code == 0, done.err
    assert "int8 stays, because fp32 can't be prepared: there is no room" in done.err
    assert shown(musicgen, "far")["default_precision"] == "int8"
    assert find_checkpoint("far", models_dir()).weights == ()


def test_a_model_pulled_in_float32_is_loaded_in_it(musicgen: Run, write: Write, store_path: Path) -> None:
    """Without its weights it couldn't be loaded in another precision."""
    musicgen("model", "pull", write("mine"), "--precision", "fp32")
    take = musicgen("generate", "--local", "--model", "mine", "-d", "0.5", "x", "--json")

    assert json.loads(take.out)["origin"]["precision"] == "fp32"
