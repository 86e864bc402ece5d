"""Each step of the recipe once, in seconds: what it writes, the next one can use."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
torch = pytest.importorskip("torch", reason="the recipe needs torch")
transformers = pytest.importorskip("transformers", reason="the recipe needs transformers")

from training.nano import tokenizer, words
from training.nano.__main__ import main
from training.nano.model import learned
from training.nano.styles import GENRES
from training.nano.train import STATE, Recipe, Trainer

pytestmark = pytest.mark.oracle
torch.set_num_threads(1)  # several processes of tests share the cores

SMALL = Recipe(steps=2, processes=1, positions=100, warm_up=1, guided_from=0.5)


def trained(run: Path, until: int) -> Trainer:
    """Train, or go on, and leave off as if killed after a saving."""
    run.mkdir(exist_ok=True)
    trainer = Trainer(run, SMALL, 0)
    trainer.resume()
    while trainer.step < until:
        trainer.advance()
    trainer.save()
    return trainer


def test_an_interrupted_training_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """Every weight is equal, to the bit, though it was taken up in the middle, where guided logits begin."""
    whole = learned(trained(tmp_path / "whole", 2).model)
    trained(tmp_path / "parts", 1)
    parts = learned(trained(tmp_path / "parts", 2).model)

    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train for a moment, with two processes, and assemble."""
    run, out = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("out") / "tiny"
    main(["train", "--steps", "2", "--positions", "100", "--warm-up", "1", "--run", str(run)])
    assert (run / STATE).is_file()
    main(["assemble", "--run", str(run), "--out", str(out)])
    return out


def test_a_checkpoint_is_small_and_its_synonyms_are_exact(checkpoint: Path) -> None:
    """At most 20 MB; `gloomy` and `dark` are the same to the text encoder."""
    model = transformers.MusicgenForConditionalGeneration.from_pretrained(checkpoint)
    vocabulary = tokenizer.vocabulary()
    table = model.text_encoder.shared.weight

    assert sum(path.stat().st_size for path in checkpoint.iterdir()) <= 20_000_000
    assert model.dtype == torch.float32
    assert torch.equal(table[vocabulary["gloomy"]], table[vocabulary["dark"]])
    assert not torch.equal(table[vocabulary["gloomy"]], table[vocabulary["happy"]])
    assert len(table) == len(vocabulary) > len(words.CONCEPTS)


def test_transformers_generates_with_it(checkpoint: Path) -> None:
    """By its own processor and `generate`: so many samples, none of them beyond full scale."""
    processor: Any = transformers.AutoProcessor.from_pretrained(checkpoint)
    model = transformers.MusicgenForConditionalGeneration.from_pretrained(checkpoint)
    inputs = processor(text=["calm ambient piano"], padding=True, return_tensors="pt")

    sound = model.generate(**inputs, do_sample=True, guidance_scale=3.0, max_new_tokens=23)

    assert sound.shape == (1, 1, 20 * 640)
    assert sound.abs().max() <= 1


def test_an_evaluation_makes_a_table_and_goes_on(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the package's engine; a second run takes every clip from the cache, and says the same."""
    few = ("--seeds", "1", "--prompts", "1", "--pieces", "1", "--seconds", "2", "--long-seconds", "3")
    run = ["evaluate", str(checkpoint), "--cache", str(tmp_path), *few]
    main(run)
    first = capsys.readouterr().out.split("| question |")[1]
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    main(run)

    assert capsys.readouterr().out.split("| question |")[1] == first
    assert made == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    assert "codes: named instrument there" in first


def test_a_sheet_is_a_picture_of_all_genres(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A PNG that is neither black nor white, and their names in its order."""
    main(["sheet", str(checkpoint), "--out", str(tmp_path / "sheet.png"), "--cache", str(tmp_path)])
    content = (tmp_path / "sheet.png").read_bytes()
    start = content.index(b"IDAT")
    size = int.from_bytes(content[start - 4 : start], "big")
    grey = np.frombuffer(zlib.decompress(content[start + 4 : start + 4 + size]), np.uint8)

    assert content.startswith(b"\x89PNG")
    assert capsys.readouterr().out.split() == list(GENRES)
    assert len(set(grey.tolist())) > 100
