from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="needs the extra local")

from musicgen_cli.engine.onnx.graph_cache import NATIVE_VARIANT  # after what may skip it
from musicgen_cli.engine.registry import PRECISIONS
from musicgen_cli.settings import models_dir

Run = Callable[..., Any]
VARIANTS = {*PRECISIONS, NATIVE_VARIANT}
NANO = Path(__file__).parents[2] / "musicgen_cli" / "models" / "nano"


@pytest.fixture
def mine(musicgen: Run, tmp_path: Path) -> Path:
    """Import a folder as the model `mine`."""
    folder = tmp_path / "mine"
    shutil.copytree(NANO, folder)
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
    done = musicgen("model", "pull", folder)
    assert done.code == 0, done.err
    return folder


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_list_shows_each_model_in_a_line(musicgen: Run, mine: Path) -> None:
    """Name, bytes, precisions, licence and source; the bundled model comes first."""
    lines = [line.split("\t") for line in musicgen("model", "list").lines]

    assert [line[0] for line in lines] == ["nano", "mine"]
    assert lines[1][2] in VARIANTS
    assert lines[1] == ["mine", str(size_of(models_dir() / "mine")), lines[1][2], "cc0-1.0", str(mine)]
    assert musicgen("model", "list", "-q").out == "nano\nmine\n"


def test_list_as_json_has_the_same_fields(musicgen: Run, mine: Path) -> None:
    """Each line is an object."""
    models = [json.loads(line) for line in musicgen("model", "list", "--json").lines]

    [precision] = models[1]["precisions"]
    assert precision in VARIANTS
    assert models[1] == {
        "name": "mine",
        "size_bytes": size_of(models_dir() / "mine"),
        "precisions": [precision],
        "license": "cc0-1.0",
        "source": str(mine),
    }


def test_a_folder_without_a_model_doesnt_stop_the_list(musicgen: Run, mine: Path) -> None:
    """One with a model's name is a warning, any other is ignored."""
    (models_dir() / "small").mkdir()
    (models_dir() / "notes").mkdir()
    done = musicgen("model", "list", "-q")

    assert (done.code, done.out) == (0, "nano\nmine\n")
    assert "warning: small: " in done.err
    assert "notes" not in done.err


def test_show_describes_a_model(musicgen: Run, mine: Path) -> None:
    """Whether it was pulled, is the bundled one, or is a folder."""
    pulled, bundled, folder = (
        json.loads(musicgen("model", "show", name, "--json").out) for name in ("mine", "nano", mine)
    )

    for model in (pulled, bundled, folder):
        assert (model["layers"], model["width"], model["codebooks"], model["channels"]) == (3, 192, 4, 1)
        assert (model["sample_rate"], model["parameters"]) == (32_000, 14_356_848)
    [(precision, graphs)] = pulled["precisions"].items()
    assert 0 <= graphs["mean_kl"] < 0.01
    assert (graphs["mean_kl"] == 0) == (precision == "fp32")
    assert pulled["files"] == {name: (mine / name).stat().st_size for name in pulled["files"]}
    assert (pulled["weights_kept"], folder["weights_kept"]) == (False, True)
    assert pulled["checkpoint"] == folder["checkpoint"]
    assert "a small synthesiser" in bundled["about"]
    assert "about" not in pulled
    assert "sample_rate\t32000" in musicgen("model", "show", "mine").lines


def test_rm_removes_only_with_yes(musicgen: Run, mine: Path) -> None:
    """Without it the models are listed, which is no error; with it nothing is left of them."""
    done = musicgen("model", "rm", "mine")
    assert done.code == 0
    assert done.out.startswith("mine\t")
    assert done.err == "1 model would be removed: `--yes` removes\n"
    assert (models_dir() / "mine").is_dir()

    assert musicgen("model", "rm", "mine", "--yes").code == 0
    assert [path.name for path in models_dir().rglob("*") if path.suffix != ".lock"] == [".pulling"]
    assert mine.is_dir()
    assert musicgen("model", "rm", "mine", "--yes").code == 3


@pytest.mark.parametrize(
    ("name", "code"), [("nano", 2), ("small", 3), ("..", 3), ("../models", 3), ("", 2), (".pulling", 3)]
)
def test_rm_removes_nothing_but_models(musicgen: Run, mine: Path, name: str, code: int) -> None:
    """All names are checked before the first model is removed."""
    assert musicgen("model", "rm", "mine", name, "--yes").code == code
    assert (models_dir() / "mine").is_dir()


def test_pull_as_json_prints_one_object(musicgen: Run, mine: Path) -> None:
    """The notes on stderr are JSON, too."""
    done = musicgen("model", "pull", mine, "--keep-weights", "--json")

    assert json.loads(done.out)["name"] == "mine"
    assert [list(json.loads(line)) for line in done.err.splitlines()] == [["note"]] * len(done.err.splitlines())
    assert (models_dir() / "mine" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["nano"], 2),
        (["auto"], 2),
        (["no such"], 3),
        (["mine", "--precision", "int3"], 2),
        (["mine", "--revision", "x"], 2),
    ],
)
def test_a_pull_that_cant_work_is_refused_at_once(
    musicgen: Run, mine: Path, words: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub isn't asked."""
    monkeypatch.chdir(mine.parent)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    assert musicgen("model", "pull", *words).code == code


@pytest.mark.parametrize(
    ("name", "layers", "download", "disk", "memory"),
    [
        ("medium", 48, 8_040_000_000, 18.5e9, 2.7e9),
        ("large", 48, 13_720_000_000, 31.5e9, 4.4e9),
        ("facebook/musicgen-stereo-small", 24, 1_220_000_000, 4.5e9, 1.1e9),
        ("melody", 48, 6_220_000_000, 14.1e9, 2.4e9),
        ("stereo-melody-large", 48, 10_610_000_000, 24.2e9, 3.8e9),
    ],
)
def test_show_says_what_a_published_model_needs_before_it_is_pulled(
    musicgen: Run, monkeypatch: pytest.MonkeyPatch, name: str, layers: int, download: int, disk: float, memory: float
) -> None:
    """Download, disk while it is prepared, and memory of a clip, without a request."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = musicgen("model", "show", name, "--json")
    figures = json.loads(done.out)

    assert done.code == 0
    assert f"`musicgen model pull {name}` downloads it" in done.err
    assert (figures["installed"], figures["license"], figures["layers"]) == (False, "CC-BY-NC-4.0", layers)
    assert figures["download_bytes"] == download
    assert figures["precisions"]["int8"]["pull_disk_bytes"] == pytest.approx(disk, rel=0.02)
    assert figures["precisions"]["int8"]["memory_bytes"] == pytest.approx(memory, rel=0.05)
    assert musicgen("model", "show", name, "--check").code == 8
    assert musicgen("model", "show", "someone/model").code == 8
