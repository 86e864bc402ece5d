"""A hub with a model on it, for the tests of pulling."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.hubs import Hub, running_hub
from tests.support.model_fixtures import Write
from tests.support.models_folder import SMALL


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run an empty hub."""
    with running_hub(monkeypatch) as running:
        yield running


@pytest.fixture
def small(hub: Hub, write: Write) -> Path:
    """Publish nano as small, with more files beside it than a pull needs."""
    folder = write("published")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "state_dict.bin").write_bytes(b"pickle")
    (folder / ".gitattributes").write_text("*.bin filter=lfs")
    hub.publish(SMALL, folder)
    return folder


@pytest.fixture
def sharded(small: Path, nano_tensors: Mapping[str, Any]) -> Path:
    """Publish small with its weights in two shards."""
    from safetensors.numpy import save_file

    names, places = sorted(nano_tensors), dict[str, str]()
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-{number:05}-of-00002.safetensors"
        save_file({name: nano_tensors[name] for name in part}, small / shard)
        places |= dict.fromkeys(part, shard)
    (small / "model.safetensors").unlink()
    (small / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return small
