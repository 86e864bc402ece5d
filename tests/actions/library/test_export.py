from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicgen_cli.actions.library.export import NAME_BYTES, export, file_name, resolve_target
from musicgen_cli.errors import InvalidValueError, TargetError
from musicgen_cli.store import Artifact, ArtifactDraft, Store
from tests.support import fakes


def take(store: Store, prompt: str = "x", **more: Any) -> Artifact:
    origin = {"kind": "http", "model": "nano"}
    draft = ArtifactDraft(tags=(), prompt=prompt, params={}, creator="me", origin=origin, **more)
    return store.put(fakes.tone(0.5), draft)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.mark.parametrize(
    ("prompt", "slug"),
    [
        ("Calm, ambient piano!", "calm-ambient-piano"),
        ("../../etc/passwd", "etc-passwd"),
        ("-rf", "rf"),
        (".hidden", "hidden"),
        ("élan vital", "elan-vital"),
        ("x" * 500, "x" * 40),
        ("a\tb\nc", "a-b-c"),
    ],
)
def test_a_prompt_becomes_plain_words_in_a_name(store: Store, prompt: str, slug: str) -> None:
    """Accents, separators, control characters and leading dots go; a long prompt is cut."""
    assert file_name(take(store, prompt, seed=7), "{prompt_slug}-{seed}") == f"{slug}-7"


def test_an_empty_field_is_left_out_with_its_separator(store: Store) -> None:
    """So it is at the start, in the middle and at the end."""
    artifact = take(store, "")
    short = artifact.id.removeprefix("artifact_")

    assert file_name(artifact, "{prompt_slug}-{seed}-{id}") == short
    assert file_name(artifact, "{id}_{seed}") == short
    assert file_name(artifact, "a-{seed}-b") == "a-b"
    assert file_name(artifact, "{model}-{set}-{index}") == "nano"
    assert file_name(artifact, "{seed}") == "take"


@pytest.mark.parametrize("prompt", ["con", "NUL", "com1.wav", "lpt9"])
def test_reserved_device_names_are_avoided(store: Store, prompt: str) -> None:
    """So a folder of takes can be copied to Windows."""
    assert file_name(take(store, prompt), "{prompt_slug}").startswith("take-")


@given(prompt=st.text(st.characters(codec="utf-8"), max_size=60), literal=st.text(max_size=30))
def test_no_prompt_and_no_template_leaves_the_folder(prompt: str, literal: str) -> None:
    """The name is always short and plain, and has no separator of paths."""
    artifact = Artifact(
        id="artifact_0123456789ab", tags=(), created="2026-11-22T10:00:00.000Z", content_hash="0" * 64, bytes=1,
        mime="audio/wav", sample_rate=1, channels=1, frames=1, duration=1.0, prompt=prompt, params={}, creator="me",
        origin={},
    )  # fmt: skip
    template = literal.replace("{", "").replace("}", "") + "{prompt_slug}"
    name = file_name(artifact, template)

    assert 0 < len(name.encode()) <= NAME_BYTES + len("take-")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
    assert name[0] not in ".-"


@pytest.mark.parametrize("template", ["{nope}", "{id!r}", "{id:>9}", "{", "{}", "{id.__class__}", "{id[0]}"])
def test_a_template_has_no_fields_but_its_own(template: str) -> None:
    """No attribute and no index of a value can be reached through it."""
    with pytest.raises(InvalidValueError):
        resolve_target("somewhere/", name=template)


def test_a_file_that_appears_after_the_check_is_not_overwritten(store: Store, tmp_path: Path) -> None:
    """And no temporary file is left."""
    target = resolve_target(str(tmp_path / "x.wav"))
    (tmp_path / "x.wav").write_bytes(b"precious")

    with pytest.raises(TargetError):
        export(take(store), store, target, set())

    assert (tmp_path / "x.wav").read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "x.wav"]


def test_a_file_system_without_links_works_too(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT and many network shares have no hard links."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = export(take(store), store, resolve_target(str(tmp_path / "x.wav")), set())

    assert fakes.exported(path) == fakes.tone(0.5)
    with pytest.raises(TargetError):
        export(take(store), store, resolve_target(str(tmp_path / "x.wav"), force=False), set())


def test_a_full_disk_leaves_no_file(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the target nor a temporary file is left."""

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    artifact = take(store)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TargetError, match="No space left"):
        export(artifact, store, resolve_target(str(tmp_path / "x.wav"), sidecar=True), set())

    assert [path.name for path in tmp_path.iterdir()] == ["store"]
