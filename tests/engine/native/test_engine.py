"""The native engine with the bundled model, and how its weights are prepared."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("tokenizers", reason="needs the extra local")

from musicgen_cli.engine.native import library

try:
    library.load()
except library.UnavailableError as err:
    pytest.skip(f"{err}: `python -m native.compile` builds it", allow_module_level=True)

from musicgen_cli.actions.models.fidelity import fidelity_of, kl_divergence
from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine import registry
from musicgen_cli.engine.base import NullListener
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.native.decoder import Weights
from musicgen_cli.engine.native.engine import NativeEngine
from musicgen_cli.engine.native.weights import unsupported, write_weights
from musicgen_cli.engine.onnx.engine import OnnxEngine
from musicgen_cli.engine.onnx.graph_cache import DECODER_STEP, NATIVE_STEP, NATIVE_VARIANT, graph_folder
from musicgen_cli.errors import AbsentError, EngineError
from tests.support.clips import request
from tests.support.decoding import sampling
from tests.support.native import RandomTensors, small_shape

TIMEOUT_S = 100.0


def logits_of(engine: Any, tokens: Any) -> Any:
    """Return the logits of the conditional row for given tokens, shape ``(steps, codebooks, vocabulary)``."""
    steps = tokens.shape[1]
    sequence = Sequence(DelayPattern(4, 1, steps), sampling(guidance_scale=3.0), vocab=752)
    decoder = engine.model.decoder_for(sequence, engine.model.encode_text(engine.tokenize("calm ambient piano")))
    return np.stack([decoder(np.tile(tokens[:, at], (2, 1)), np.full(2, at))[0].copy() for at in range(steps)])


def test_it_predicts_as_float32_does(nano: Checkpoint, session_cache: Path) -> None:
    """The mean KL divergence is at most 0.01, and about that of ONNX Runtime's int8."""
    tokens = np.random.default_rng(0).integers(0, 752, (4, 60))
    logits = []
    engines: list[Any] = [
        OnnxEngine(nano, cache_dir=session_cache, threads=1, precision="fp32"),
        OnnxEngine(nano, cache_dir=session_cache, threads=1),
        NativeEngine(nano, cache_dir=session_cache, threads=1),
    ]
    for engine in engines:
        logits.append(logits_of(engine, tokens))
        engine.close()
    fp32, onnx, native = logits
    on_onnx, divergence = (kl_divergence(fp32, other).mean() for other in (onnx, native))

    assert 0 < divergence < 0.01
    assert divergence < 1.5 * on_onnx


def test_only_what_it_needs_is_prepared(nano: Checkpoint, tmp_path: Path) -> None:
    """The weights are packed, and no graph of a decoder step is made; the second time nothing is."""
    notes: list[str] = []
    for _ in range(2):
        NativeEngine(nano, cache_dir=tmp_path, threads=1, note=notes.append).close()
    folder = graph_folder(tmp_path, nano.digest, NATIVE_VARIANT)

    assert notes == ["preparing nano for the native decoder, once"]
    assert (folder / NATIVE_STEP).exists()
    assert not (folder / DECODER_STEP).exists()


@pytest.mark.parametrize("length", [100, None])
def test_damaged_weights_are_packed_again(nano: Checkpoint, tmp_path: Path, length: int | None) -> None:
    """Whether the file is shorter or a bit of it has changed."""
    NativeEngine(nano, cache_dir=tmp_path, threads=1).close()
    weights = graph_folder(tmp_path, nano.digest, NATIVE_VARIANT) / NATIVE_STEP
    before = weights.read_bytes()
    changed = bytearray(before[:length])
    changed[len(changed) // 2] ^= 1
    weights.write_bytes(changed)
    NativeEngine(nano, cache_dir=tmp_path, threads=1).close()

    assert weights.read_bytes() == before


FILL_DISK = """
import resource, sys
from pathlib import Path
from musicgen_cli.checkpoint.checkpoint import find_checkpoint
from musicgen_cli.engine.native.engine import NativeEngine
nano = find_checkpoint("nano", Path("nowhere"))
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000,) * 2)
NativeEngine(nano, cache_dir=Path(sys.argv[1]), threads=1)
"""


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    """It names the folder, and nothing is left behind."""
    words = [sys.executable, "-c", FILL_DISK, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)

    assert f"EngineError: can't write the model's graphs to {tmp_path / 'graphs'}: File too large" in done.stderr
    assert list((tmp_path / "graphs").iterdir()) == []


def test_a_foreign_weight_file_is_refused(tmp_path: Path) -> None:
    """One of another model, a truncated one, and one that is none; each is an EngineError of one sentence."""
    shape, path = small_shape(), tmp_path / NATIVE_STEP
    size, _ = write_weights(path, shape, RandomTensors(), positions=9)
    assert Weights(path, shape).positions == 9
    with pytest.raises(EngineError, match="is of another model"):
        Weights(path, small_shape(layers=3))
    os.truncate(path, size - 1)
    with pytest.raises(EngineError, match="the prepared weights are damaged"):
        Weights(path, shape)
    path.write_bytes(b"\0" * 4096)
    with pytest.raises(EngineError, match="the prepared weights are damaged"):
        Weights(path, shape)
    path.write_bytes(b"")
    with pytest.raises(EngineError, match="can't be read"):
        Weights(path, shape)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"width": 88, "heads": 1}, "the decoder's width of 88 is no multiple of 16"),
        ({"ffn": 100}, "the decoder's ffn of 100 is no multiple of 16"),
        ({"heads": 4}, "the decoder's head width of 24 is no multiple of 16"),
        ({"width": 512, "heads": 1}, "the decoder is too wide"),
    ],
)
def test_other_shapes_are_for_onnx_runtime(values: dict[str, Any], reason: str) -> None:
    """The reason completes a sentence."""
    assert unsupported(small_shape(**values)) == reason
    assert unsupported(small_shape()) is None


def opened(model: str, *, note: Callable[[str], None] = lambda _: None, **options: Any) -> str | None:
    """Return the engine that computes a model."""
    engine = registry.open_local(model, note=note, slots=1, **options)
    engine.close()
    return engine.origin.engine


def test_it_is_the_default_for_int8() -> None:
    """Where another engine or precision was asked for, that is used."""
    assert opened("nano") == opened("nano", precision="int8") == opened("nano", engine="native") == "native"
    assert opened("nano", engine="onnx") == opened("nano", precision="fp32") == "onnx"


def test_without_the_library_onnx_runtime_computes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Unless the engine was asked for by name, which is exit code 8."""
    assert opened("nano") == "native"
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "removed")

    assert opened("nano") == "onnx"
    assert fidelity_of(find_checkpoint("nano", tmp_path), NATIVE_VARIANT, tmp_path / "cache", lambda _: None) is None
    with pytest.raises(AbsentError, match="can't compute nano here: this installation has no native library") as caught:
        opened("nano", engine="native")
    assert (caught.value.exit_code, caught.value.hint) == (8, "use `--engine onnx`")


def test_an_installation_without_the_library_says_so_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not where float32 was asked for, which it couldn't compute anyway."""
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "removed")
    notes: list[str] = []
    for precision in ("fp32", None, "int8"):
        registry.open_local("nano", precision=precision, note=notes.append).close()

    said = "this installation has no native decoder, so ONNX Runtime makes the takes, more slowly; "
    assert [text for text in notes if "C compiler" in text] == [
        f"{said}to get it, install musicgen again where there is a C compiler"
    ]


def test_a_model_of_an_odd_shape_is_computed_by_onnx_runtime(
    write: Any, nano: Checkpoint, nano_tensors: Mapping[str, Any]
) -> None:
    """A head width of 24 is a multiple of 8, which is enough for its kernels."""
    config = {**nano.config, "decoder": {**nano.config["decoder"], "num_attention_heads": 8}}
    folder = write(config=config)

    assert registry.native_obstacle(find_checkpoint(str(folder), folder)) == (
        "the decoder's head width of 24 is no multiple of 16"
    )
    assert opened(str(folder)) == "onnx"


def test_a_model_with_heavy_tails_is_computed_by_onnx_runtime(write: Any, nano_tensors: Mapping[str, Any]) -> None:
    """Some of its matrices need a scale for each block of weights; this is known from the first time on."""
    name = "decoder.model.decoder.layers.1.fc2.weight"
    tails = np.random.default_rng(0).standard_t(2.5, nano_tensors[name].shape)
    weights = (tails * np.std(nano_tensors[name].astype(np.float32)) / tails.std()).astype(nano_tensors[name].dtype)
    folder = write(tensors={**nano_tensors, name: weights})

    reason = "some of its matrices need scales for blocks of weights, which the native decoder doesn't have"
    notes: list[str] = []
    assert opened(str(folder), note=notes.append) == "onnx"
    assert f"the native decoder can't compute mine: {reason}; ONNX Runtime makes its takes instead" in notes
    assert registry.native_obstacle(find_checkpoint(str(folder), folder)) == reason
    assert opened(str(folder)) == "onnx"
    with pytest.raises(AbsentError, match=reason) as caught:
        opened(str(folder), engine="native")
    assert caught.value.hint == "use `--engine onnx`"


def test_a_clip_is_the_same_with_any_number_of_threads(nano: Checkpoint, session_cache: Path) -> None:
    """And with each instruction set: its record needs to name neither."""
    clips = set()
    for threads in (1, 2, 3):
        engine = NativeEngine(nano, cache_dir=session_cache, threads=threads)
        clips.add(engine.generate(request(duration=2.0), NullListener()).wav)
        engine.close()

    assert len(clips) == 1
    assert Shape.of(nano.config).decoder.head_width == 32
