from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("huggingface_hub", reason="needs the extra local")
pytest.importorskip("safetensors", reason="writes checkpoints")

from tests.support.hubs import Hub
from tests.support.model_fixtures import Write

Run = Callable[..., Any]


def test_a_folder_is_imported_under_its_name(musicgen: Run, hub: Hub, write: Write, store_path: Path) -> None:
    """The folder stays as it is, isn't needed afterwards, and the hub isn't asked."""
    folder = write("mine")
    before = (folder / "model.safetensors").read_bytes()
    assert musicgen("model", "pull", folder).code == 0
    assert (folder / "model.safetensors").read_bytes() == before
    shutil.rmtree(folder)

    done = musicgen("generate", "--local", "--model", "mine", "-d", "0.5", "x")
    assert done.code == 0, done.err
    assert hub.requests == []


def test_a_folder_cant_take_a_name_that_is_taken(musicgen: Run, write: Write) -> None:
    """Neither that of a published model nor that of another import."""
    done = musicgen("model", "pull", write("small"))
    assert done.code == 2
    assert "can't be called 'small'" in done.err
    assert musicgen("model", "pull", write("mine")).code == 0
    assert musicgen("model", "pull", write("other/mine")).code == 2


def test_a_folder_of_symbolic_links_is_imported(musicgen: Run, write: Write, tmp_path: Path) -> None:
    """The cache of huggingface_hub consists of relative links to files elsewhere."""
    folder, linked = write("blobs"), tmp_path / "mine"
    linked.mkdir()
    for path in folder.iterdir():
        (linked / path.name).symlink_to(Path("..") / "blobs" / path.name)

    done = musicgen("model", "pull", linked)
    assert done.code == 0, done.err
    assert musicgen("model", "show", "mine", "--check").code == 0
    assert (folder / "model.safetensors").is_file()
