from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from musicgen_cli.actions.generate import GenerateOptions, make, plan
from musicgen_cli.actions.library.differences import other_sound
from musicgen_cli.engine.base import NullListener
from musicgen_cli.store import Artifact, ArtifactDraft, Store
from tests.support import fakes
from tests.support.fake_engine import FakeEngine

HERE = {"checkpoint": "abc", "sampler": 3, "runtime": "onnxruntime 1.32.0", "processor": "x86_64 avx2"}
ORIGIN = {"model": "nano", "engine": "onnx", "precision": "int8", "device": "cpu"}


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store(store_path)


def take(store: Store, sound: int, extra: dict[str, Any], **more: Any) -> Artifact:
    fields: dict[str, Any] = {"params": {"duration": 0.5, "seed": 7}, "seed": 7, "origin": ORIGIN} | more
    return store.put(fakes.tone(seed=sound), ArtifactDraft(tags=(), prompt="x", creator="me", extra=extra, **fields))


@pytest.mark.parametrize(
    ("extra", "origin", "reason"),
    [
        ({"processor": "aarch64"}, {}, "it was made with processor x86_64 avx2, now aarch64"),
        (
            {"sampler": 4, "runtime": "onnxruntime 1.33.0"},
            {},
            "it was made with sampler 3, now 4; runtime onnxruntime 1.32.0, now onnxruntime 1.33.0",
        ),
        ({}, {"precision": "fp32"}, "it was made with precision int8, now fp32"),
        ({}, {}, "the records are the same"),
    ],
)
def test_what_was_different_is_named(store: Store, extra: dict[str, Any], origin: dict[str, str], reason: str) -> None:
    """Where the request was the same, and the sound isn't."""
    source, again = take(store, 1, HERE), take(store, 2, HERE | extra, origin=ORIGIN | origin)

    text = f"{again.id} doesn't sound like {source.id}, although the request is the same: {reason}"
    assert other_sound(source, again) == text


def test_a_record_of_an_earlier_version_says_less(store: Store) -> None:
    """It has neither runtime nor processor; that is said."""
    source, again = take(store, 1, {"checkpoint": "abc", "sampler": 3}), take(store, 2, HERE)

    assert "its record doesn't tell what was different (runtime, processor)" in (other_sound(source, again) or "")


@pytest.mark.parametrize(
    "more",
    [
        {"params": {"duration": 0.5, "seed": 8}, "seed": 8},
        {"params": {"duration": 0.5, "top_k": 9}},
        {"seed": None},
    ],
)
def test_another_request_has_another_sound(store: Store, more: dict[str, Any]) -> None:
    """So has one whose seed isn't known."""
    assert other_sound(take(store, 1, HERE), take(store, 2, HERE | {"sampler": 4}, **more)) is None


def test_a_take_that_goes_on_from_another_one_has_another_sound(store: Store) -> None:
    """Although prompt, parameters and seed are the same."""
    source = take(store, 1, HERE)
    extra = HERE | {"continue": {"id": source.id, "content_hash": source.content_hash}}

    assert other_sound(source, take(store, 2, extra)) is None


def test_the_same_sound_needs_no_words(store: Store) -> None:
    """Whatever made it."""
    assert other_sound(take(store, 1, HERE), take(store, 1, HERE | {"processor": "aarch64"})) is None


def test_generating_from_a_take_warns(store: Store) -> None:
    """The request is that of the other take, seed included."""
    first = take(store, 1, HERE)
    (planned,) = plan(GenerateOptions({}, from_id=first.id), store)

    (warning,) = make(planned, FakeEngine(), store, NullListener()).warnings
    assert f"doesn't sound like {first.id}" in warning
