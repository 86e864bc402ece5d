"""Fixtures of checkpoints and engines for the tests of the local engines; imports happen on use."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from musicgen_cli.checkpoint.checkpoint import Checkpoint
    from musicgen_cli.engine.onnx.engine import OnnxEngine

Write = Callable[..., Path]


@pytest.fixture(scope="session")
def nano() -> Checkpoint:
    """Return the bundled checkpoint."""
    from musicgen_cli.checkpoint.checkpoint import find_checkpoint

    return find_checkpoint("nano", Path("nowhere"))


@pytest.fixture(scope="session")
def nano_tensors(nano: Checkpoint) -> Mapping[str, Any]:
    """Return the tensors of the bundled checkpoint that an engine uses, in float16 as they are stored."""
    from safetensors.numpy import load_file

    tensors = load_file(nano.directory / "model.safetensors")
    return {name: values for name, values in tensors.items() if not name.startswith("audio_encoder.encoder.")}


@pytest.fixture
def write(nano: Checkpoint, nano_tensors: Mapping[str, Any], tmp_path: Path) -> Write:
    """Return a function that writes a checkpoint folder, by default with the bundled config and tensors."""
    from safetensors.numpy import save_file

    def write_folder(
        name: str = "mine", *, tensors: Mapping[str, Any] | None = None, config: Mapping[str, Any] | None = None
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        shutil.copy(nano.directory / "tokenizer.json", folder)
        (folder / "config.json").write_text(json.dumps(config or nano.config))
        save_file(dict(tensors or nano_tensors), folder / "model.safetensors")
        return folder

    return write_folder


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache folder that the tests of this process share."""
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="session")
def engine(nano: Checkpoint, session_cache: Path) -> Iterator[OnnxEngine]:
    """Load the bundled model into the ONNX engine."""
    from musicgen_cli.engine.onnx.engine import OnnxEngine

    loaded = OnnxEngine(nano, cache_dir=session_cache, threads=1, slots=4)  # test processes share the cores
    yield loaded
    loaded.close()


@pytest.fixture
def listening(nano: Checkpoint, nano_tensors: Mapping[str, Any], write: Write, tmp_path: Path) -> Checkpoint:
    """Write nano with an audio encoder of random weights, under the name `mine`."""
    from musicgen_cli.checkpoint.checkpoint import find_checkpoint

    return find_checkpoint(str(write("mine", tensors={**nano_tensors, **random_encoder(nano)})), tmp_path)


@pytest.fixture(scope="session")
def listening_folder(
    nano: Checkpoint, nano_tensors: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Write the same model, once for all tests, and return its folder."""
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("models") / "mine"
    folder.mkdir()
    for name in ("tokenizer.json", "config.json"):
        shutil.copy(nano.directory / name, folder)
    save_file({**nano_tensors, **random_encoder(nano)}, folder / "model.safetensors")
    return folder


def random_encoder(nano: Checkpoint) -> dict[str, Any]:
    """Return random tensors of an audio encoder for the bundled model."""
    import numpy as np

    rng = np.random.default_rng(1)
    return {
        # An LSTM with large weights would make noise of rounding.
        name: (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float16)
        for name, shape in nano.tensors().shapes.items()
        if name.startswith("audio_encoder.encoder.")
    }


@pytest.fixture(scope="session")
def melody(nano: Checkpoint, nano_tensors: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Write a small random melody model, which has an audio encoder, too."""
    from tests.support.melody import write_melody_model

    return write_melody_model(tmp_path_factory.mktemp("models") / "tuneful", nano, nano_tensors)
