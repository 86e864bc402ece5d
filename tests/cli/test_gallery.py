from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from musicgen_cli.store import Artifact, ArtifactDraft, Store
from tests.support import fakes

Run = Callable[..., Any]


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store(store_path)


def put(store: Store, prompt: str, *, seed: int, tags: tuple[str, ...] = ()) -> Artifact:
    origin = {"kind": "local", "model": "nano"}
    draft = ArtifactDraft(tags=tags, prompt=prompt, params={"duration": 0.5}, creator="me", origin=origin, seed=seed)
    return store.put(fakes.tone(seed=seed), draft)


def test_the_path_is_what_is_printed(musicgen: Run, store: Store, tmp_path: Path) -> None:
    """As a line or as JSON; the talk goes elsewhere."""
    put(store, "x", seed=1)
    page = tmp_path / "out" / "index.html"

    assert musicgen("gallery", "-o", tmp_path / "out").lines == [str(page)]
    done = musicgen("gallery", "-q", "-o", tmp_path / "out")
    assert (done.code, done.out, done.err) == (0, f"{page}\n", "")
    told = json.loads(musicgen("gallery", "--json", "-o", tmp_path / "out").out)
    assert told == {"status": "success", "path": str(page), "takes": 1, "left_out": 0}


def test_it_is_made_here_unless_a_place_is_named(
    musicgen: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder of its own."""
    put(store, "x", seed=1)
    monkeypatch.chdir(tmp_path)

    assert musicgen("gallery", "-q").lines == ["gallery/index.html"]
    assert (tmp_path / "gallery" / "index.html").is_file()


def test_the_filters_are_those_of_list(musicgen: Run, store: Store, tmp_path: Path) -> None:
    """All takes that pass, unless a number is given."""
    ids = [put(store, f"take {seed}", seed=seed, tags=("a", "b")[: seed % 3]).id for seed in range(25)]
    for words in ([], ["-n", "3"], ["-t", "b"], ["--search", "take 1"], ["--since", "2999-01-01"], ["--model", "big"]):
        done = musicgen("gallery", "-q", "-o", tmp_path / "out", *words)
        every = [] if "-n" in words else ["--all"]
        shown = [id_ for id_ in ids if f'id="{id_}"' in Path(done.out.strip()).read_text()]
        assert sorted(shown) == sorted(musicgen("list", "-q", *every, *words).lines), words


def test_nothing_is_a_page_too(musicgen: Run, store_path: Path, tmp_path: Path) -> None:
    """A page that was handed on doesn't keep takes that aren't there any more; and it is said."""
    done = musicgen("gallery", "-o", tmp_path / "out")

    assert (done.code, done.err) == (0, "no take matches, so the page is empty\n")
    assert "No takes yet." in (tmp_path / "out" / "index.html").read_text()
    assert not store_path.exists()


def test_damage_is_told_and_is_exit_7(musicgen: Run, store: Store, tmp_path: Path) -> None:
    """After the page was made of the rest."""
    put(store, "good", seed=1)
    bad = put(store, "bad", seed=2)
    store.blob_path(bad).unlink()
    done = musicgen("gallery", "-q", "-o", tmp_path)

    assert done.code == 7
    assert done.lines == [str(tmp_path / "index.html")]
    assert f"warning: {bad.id} is left out" in done.err
    assert "error: left out 1 of 2 takes" in done.err
    assert "good" in (tmp_path / "index.html").read_text()


def test_somebody_elses_page_stays_unless_forced(musicgen: Run, store: Store, tmp_path: Path) -> None:
    """Exit 1, and nothing is written."""
    put(store, "x", seed=1)
    page = tmp_path / "out" / "index.html"
    page.parent.mkdir()
    page.write_text("mine")

    assert musicgen("gallery", "-o", page.parent).code == 1
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]
    assert page.read_text() == "mine"
    assert musicgen("gallery", "-o", page.parent, "--force").code == 0
    assert page.read_text() != "mine"


@pytest.mark.parametrize("words", [["-o", "-"], ["-o", ""], ["-n", "0"], ["--since", "soon"]])
def test_wrong_words_are_exit_2(musicgen: Run, store: Store, words: list[str]) -> None:
    """They are named."""
    assert musicgen("gallery", *words).code == 2


def test_it_needs_neither_numpy_nor_a_model(store: Store, tmp_path: Path) -> None:
    """Nor anything that talks to a network."""
    put(store, "x", seed=1)
    code = "import sys; from musicgen_cli.cli.app import run; run(sys.argv[1:]); print(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code, "gallery", "-o", str(tmp_path / "out")], capture_output=True, check=True, text=True
    )

    assert "musicgen_cli.actions.gallery.gallery" in done.stdout
    assert not {"numpy", "onnxruntime", "torch", "httpx", "rich", "asyncio"} & {*done.stdout.split()}
