from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from musicgen_cli.store import Store
from tests.support.command_line import Run
from tests.support.takes import put_take


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store(store_path)


def test_gallery_prints_the_path_of_the_page(musicgen: Run, store: Store, tmp_path: Path) -> None:
    """It comes as a line or as JSON, and nothing else is on stdout."""
    put_take(store, "x", seed=1)
    page = tmp_path / "out" / "index.html"

    assert musicgen("gallery", "-o", tmp_path / "out").lines == [str(page)]
    done = musicgen("gallery", "-q", "-o", tmp_path / "out")
    assert (done.code, done.out, done.err) == (0, f"{page}\n", "")
    result = json.loads(musicgen("gallery", "--json", "-o", tmp_path / "out").out)
    assert result == {"status": "success", "path": str(page), "takes": 1, "left_out": 0}


def test_open_shows_the_page_in_the_browser(
    musicgen: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the browser that BROWSER names; without one there is a warning, and the page is made all the same."""
    put_take(store, "x", seed=1)
    browser, shown = tmp_path / "browser", tmp_path / "shown"
    browser.write_text(f"#!/bin/sh\necho $1 > {shown}\n")
    browser.chmod(0o755)
    words = [sys.executable, "-m", "musicgen_cli", "gallery", "--open", "-q", "-o", str(tmp_path / "a b")]
    page = tmp_path / "a b" / "index.html"

    done = subprocess.run(words, env=os.environ | {"BROWSER": f"{browser} %s"}, capture_output=True, check=False)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, f"{page}\n", b"")
    assert shown.read_text().strip() == page.as_uri()
    done = subprocess.run(words, env=os.environ | {"PATH": ""}, capture_output=True, check=False)
    assert (done.returncode, done.stdout.decode()) == (0, f"{page}\n")
    assert done.stderr == b"warning: no browser could be started to show the page\n"


def test_the_default_folder_is_gallery(
    musicgen: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made in the current folder."""
    put_take(store, "x", seed=1)
    monkeypatch.chdir(tmp_path)

    assert musicgen("gallery", "-q").lines == ["gallery/index.html"]
    assert (tmp_path / "gallery" / "index.html").is_file()


def test_the_filters_are_those_of_list(musicgen: Run, store: Store, tmp_path: Path) -> None:
    """They select the same takes, but without `-n` the gallery has all of them."""
    ids = [put_take(store, f"take {seed}", seed=seed, tags=("a", "b")[: seed % 3]).id for seed in range(25)]
    for words in ([], ["-n", "3"], ["-t", "b"], ["--search", "take 1"], ["--since", "2999-01-01"], ["--model", "big"]):
        done = musicgen("gallery", "-q", "-o", tmp_path / "out", *words)
        every = [] if "-n" in words else ["--all"]
        shown = [id_ for id_ in ids if f'id="{id_}"' in Path(done.out.strip()).read_text()]
        assert sorted(shown) == sorted(musicgen("list", "-q", *every, *words).lines), words


def test_no_matching_take_makes_an_empty_page(musicgen: Run, store_path: Path, tmp_path: Path) -> None:
    """A note says so, and an older page doesn't keep takes that are gone."""
    store_path.mkdir()
    done = musicgen("gallery", "-o", tmp_path / "out")

    assert (done.code, done.err) == (0, "no take matches, so the page is empty\n")
    assert "No takes yet." in (tmp_path / "out" / "index.html").read_text()
    assert list(store_path.iterdir()) == []


def test_damaged_audio_is_left_out_and_is_exit_7(musicgen: Run, store: Store, tmp_path: Path) -> None:
    """The page is made of the other takes."""
    put_take(store, "good", seed=1)
    bad = put_take(store, "bad", seed=2)
    store.blob_path(bad).unlink()
    done = musicgen("gallery", "-q", "-o", tmp_path)

    assert done.code == 7
    assert done.lines == [str(tmp_path / "index.html")]
    assert f"warning: {bad.id} is left out" in done.err
    assert "error: left out 1 of 2 takes" in done.err
    assert "good" in (tmp_path / "index.html").read_text()


def test_another_page_is_replaced_only_with_force(musicgen: Run, store: Store, tmp_path: Path) -> None:
    """Without `--force` it is exit 1, and nothing is written."""
    put_take(store, "x", seed=1)
    page = tmp_path / "out" / "index.html"
    page.parent.mkdir()
    page.write_text("mine")

    assert musicgen("gallery", "-o", page.parent).code == 1
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]
    assert page.read_text() == "mine"
    assert musicgen("gallery", "-o", page.parent, "--force").code == 0
    assert page.read_text() != "mine"


@pytest.mark.parametrize("words", [["-o", "-"], ["-o", ""], ["-n", "0"], ["--since", "soon"]])
def test_wrong_usage_is_exit_2(musicgen: Run, store: Store, words: list[str]) -> None:
    """The gallery needs a folder, a positive number and a valid time."""
    assert musicgen("gallery", *words).code == 2


def test_gallery_imports_no_model_and_no_network(store: Store, tmp_path: Path) -> None:
    """It imports neither numpy nor an engine, an HTTP client or Rich."""
    put_take(store, "x", seed=1)
    code = "import sys; from musicgen_cli.cli.app import run; run(sys.argv[1:]); print(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code, "gallery", "-o", str(tmp_path / "out")], capture_output=True, check=True, text=True
    )

    assert "musicgen_cli.actions.gallery.gallery" in done.stdout
    assert not {"numpy", "onnxruntime", "torch", "httpx", "rich", "asyncio"} & {*done.stdout.split()}
