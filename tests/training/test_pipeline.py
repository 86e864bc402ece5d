"""Runs each step of the recipe once with little work: each can use what the previous one wrote."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
torch = pytest.importorskip("torch", reason="the recipe needs torch")
transformers = pytest.importorskip("transformers", reason="the recipe needs transformers")

import numpy as np

from musicgen_cli.checkpoint.checkpoint import find_checkpoint
from tests.training.shipped import shipped
from training.nano import listening, players, words
from training.nano.__main__ import main
from training.nano.assemble import model_card
from training.nano.model import learned
from training.nano.styles import GENRES
from training.nano.train import STATE, Recipe, Trainer

pytestmark = pytest.mark.oracle
torch.set_num_threads(1)  # several test processes share the cores

SMALL = Recipe(steps=2, finishing=1, processes=1, positions=100, warm_up=1, guided_from=0.5)


def train_until(step: int, run: Path) -> Trainer:
    """Train or continue, and stop as if killed after the state was saved."""
    run.mkdir(exist_ok=True)
    trainer = Trainer(run, SMALL, 0)
    trainer.resume()
    while trainer.step < step:
        trainer.advance()
    trainer.save()
    return trainer


def test_an_interrupted_training_has_the_same_result(tmp_path: Path) -> None:
    """Every weight is the same to the bit, whether guided logits or the finishing steps begin at an interruption."""
    whole = learned(train_until(3, tmp_path / "whole").model)
    train_until(1, tmp_path / "interrupted")
    train_until(2, tmp_path / "interrupted")
    interrupted = learned(train_until(3, tmp_path / "interrupted").model)

    assert all(torch.equal(whole[name], interrupted[name]) for name in whole)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train two steps with two processes, and assemble the checkpoint."""
    run, out = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("out") / "tiny"
    main(["train", "--steps", "2", "--finishing", "1", "--positions", "100", "--warm-up", "1", "--run", str(run)])
    assert (run / STATE).is_file()
    main(["assemble", "--run", str(run), "--out", str(out)])
    return out


def test_a_checkpoint_is_small_and_synonyms_are_the_same(checkpoint: Path) -> None:
    """It has at most 30 MB and an embedding for each concept; `gloomy` is read as `dark`."""
    model = transformers.MusicgenForConditionalGeneration.from_pretrained(checkpoint)
    read = transformers.AutoTokenizer.from_pretrained(checkpoint)

    assert sum(path.stat().st_size for path in checkpoint.iterdir()) <= 30_000_000
    assert model.dtype == torch.float32
    assert len(model.text_encoder.shared.weight) == len(read) == len(words.CONCEPTS)
    assert read("gloomy").input_ids[-2] == read("dark").input_ids[-2] != read("happy").input_ids[-2]


def test_the_model_card_is_that_of_the_shipped_model() -> None:
    """The recipe still writes the README of the bundled checkpoint."""
    readme = (shipped() / "README.md").read_text()

    assert model_card(steps=Recipe().all_steps, words=len(words.forms())) == readme


def test_transformers_generates_with_a_checkpoint(checkpoint: Path) -> None:
    """`generate` of transformers makes the right number of samples, none of them beyond full scale."""
    processor: Any = transformers.AutoProcessor.from_pretrained(checkpoint)
    model = transformers.MusicgenForConditionalGeneration.from_pretrained(checkpoint)
    inputs = processor(text=["calm ambient piano"], padding=True, return_tensors="pt")

    samples = model.generate(**inputs, do_sample=True, guidance_scale=3.0, max_new_tokens=23)

    assert samples.shape == (1, 1, 20 * 640)
    assert samples.abs().max() <= 1


def test_an_evaluation_prints_a_table_and_reuses_its_cache(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run prints the same table and writes no clip again."""
    shipped()  # the engine reads no other patterns in a tokenizer than those of the bundled model
    extent = (
        "--seeds",
        "1",
        "--prompts",
        "1",
        "--pieces",
        "1",
        "--seconds",
        "2",
        "--long-seconds",
        "3",
        "--takes",
        "0",
    )
    arguments = ["evaluate", str(checkpoint), "--cache", str(tmp_path), *extent]
    main(arguments)
    table = capsys.readouterr().out.split("| question |")[1]
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    main(arguments)

    assert capsys.readouterr().out.split("| question |")[1] == table
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    assert "codes: named instrument plays" in table


def test_a_checkpoint_is_listened_to(checkpoint: Path, tmp_path: Path) -> None:
    """Its takes are measured once, and different prompts of an untrained model give different bytes."""
    shipped()  # the engine reads no other patterns in a tokenizer than those of the bundled model
    player = players.CheckpointPlayer("tiny", find_checkpoint(str(checkpoint), tmp_path), tmp_path / "graphs")
    listener = listening.Listener(player, tmp_path / "takes", takes=2)
    heard = listener.all(["qwerty", "calm ambient piano"], 1.0)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}

    assert len({take.digest for group in heard for take in group}) == 4
    assert listener.hear("qwerty", 1, 1.0).digest == heard[0][1].digest
    assert len(written) == 4
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    assert player.unknown_words()


def test_a_sheet_is_a_picture_of_all_genres(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a PNG with many shades of grey, and the genres are printed in its order."""
    shipped()  # the engine reads no other patterns in a tokenizer than those of the bundled model
    main(["sheet", str(checkpoint), "--out", str(tmp_path / "sheet.png"), "--cache", str(tmp_path)])
    content = (tmp_path / "sheet.png").read_bytes()
    start = content.index(b"IDAT")
    size = int.from_bytes(content[start - 4 : start], "big")
    grey = np.frombuffer(zlib.decompress(content[start + 4 : start + 4 + size]), np.uint8)

    assert content.startswith(b"\x89PNG")
    assert capsys.readouterr().out.split() == list(GENRES)
    assert len(set(grey.tolist())) > 100
