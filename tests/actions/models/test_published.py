"""
Pulls imitations of every published model and compares what they make with transformers.

The real files can't be here; these have their names, their layout, their dtypes and their widths, and one layer.
"""

from __future__ import annotations

import json
import wave
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("safetensors", reason="writes checkpoints")
torch = pytest.importorskip("torch", reason="the oracle needs torch")
pytest.importorskip("transformers", reason="the oracle needs transformers")

from safetensors.torch import save_file

from musicgen_cli.audio.chroma import melody_chroma
from musicgen_cli.checkpoint.checkpoint import find_checkpoint
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine import registry
from musicgen_cli.engine.base import Inputs, NullListener
from musicgen_cli.settings import models_dir
from tests.support.hubs import Hub
from tests.support.oracle import generate, num_distinct, quiet, random_model  # noqa: F401  # one is a fixture
from tests.support.published import (
    Weights,
    published_model,
    published_weights,
    random_adapter,
    write_adapter,
    write_audiocraft,
    write_folder,
    write_shards,
)
from tests.support.sounds import tones

if TYPE_CHECKING:
    from musicgen_cli.checkpoint.checkpoint import Checkpoint

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(400)]  # gigabytes are written, and read again

Run = Callable[..., Any]
FRAMES = 25
PROMPT = "calm ambient piano"
MEDIUM_COMMIT = "4ef1664" + "0" * 33
LARGE_COMMIT = "037a9f5a2a8a44bd6eaa38b1171f6fdfb1b0b1a9"


class Published:
    """A hub, and what is compared with it."""

    def __init__(self, hub: Hub, nano: Checkpoint, musicgen: Run, folder: Path) -> None:
        self.hub, self.musicgen, self.folder = hub, musicgen, folder
        self.tokenizer = nano.directory / "tokenizer.json"

    def ids(self) -> list[int]:
        from tokenizers import Tokenizer

        ids: list[int] = Tokenizer.from_file(str(self.tokenizer)).encode(PROMPT).ids
        return ids

    def pull(self, name: str) -> str:
        done = self.musicgen("model", "pull", name, "--precision", "fp32")
        assert done.code == 0, done.err
        return str(done.err)

    def check(self, name: str, theirs: Any, *words: str, frames: int = FRAMES) -> None:
        """Let a model make a clip of 0.5 s, and compare it with transformers, to one step of 16 bits."""
        sound = self.folder / "ours.wav"
        done = self.musicgen(
            *("generate", "--local", "--model", name, "--precision", "fp32", "--greedy", "-d", "0.5", PROMPT),
            *("-o", sound, "--force", *words),
        )
        assert done.code == 0, done.err
        codes, samples = generate(theirs, [self.ids()], 3.0, frames=frames)
        with wave.open(str(sound)) as content:
            ours = np.frombuffer(content.readframes(content.getnframes()), "<i2").reshape(-1, samples.shape[1])
        expected = np.clip(samples[0].T, -1, 1)[: len(ours)] * 32767
        assert num_distinct(codes[0]) >= 12
        assert expected.std() > 100
        assert np.abs(ours - expected).max() <= 1

    def check_tune(self, name: str, theirs: Any) -> None:
        """Let a melody model follow a tune for 0.5 s, and compare it with transformers, to one step of 16 bits."""
        tune = tones(0, 4, 7, 11, 2, 9)
        engine = registry.open_local(name, precision="fp32", note=lambda text: None)
        request = GenerateRequest(prompt=PROMPT, duration=0.5, do_sample=False)
        clip = engine.generate(request, NullListener(), Inputs(melody_wav=tune))
        engine.close()
        heard = melody_chroma(np.frombuffer(tune[44:], "<i2").astype(np.float32) / np.float32(32_768), 47)  # all of it
        codes, samples = generate(theirs, [self.ids()], 3.0, frames=FRAMES, tune=heard)
        ours = np.frombuffer(clip.wav[44:], "<i2").reshape(-1, samples.shape[1])
        expected = np.clip(samples[0].T, -1, 1) * 32767
        assert num_distinct(codes[0]) >= 12
        assert np.abs(ours - expected).max() <= 1


@pytest.fixture
def published(hub: Hub, nano: Checkpoint, musicgen: Run, tmp_path: Path, store_path: Path) -> Published:
    """Return an empty hub with what compares models with it."""
    return Published(hub, nano, musicgen, tmp_path)


@pytest.fixture
def base(published: Published) -> Any:
    """Publish musicgen-small with all the files that it has, and return its model."""
    model = published_model("small")
    folder = write_folder(
        published.folder / "small",
        model,
        published.tokenizer,
        **{"generation_config.json": "{}", "preprocessor_config.json": "{}", ".gitattributes": "*.bin filter=lfs"},
    )
    save_file(published_weights(model), folder / "model.safetensors", {"format": "pt"})
    for name in ("pytorch_model.bin", "state_dict.bin", "compression_state_dict.bin"):
        (folder / name).write_bytes(b"never downloaded")
    published.hub.publish("facebook/musicgen-small", folder)
    return model


def half(weights: Weights) -> Weights:
    return {name: values.half() for name, values in weights.items()}


def rounded(model: Any) -> Any:
    """Round a model's weights to float16, as a file of them does."""
    return model.half().float()


def test_small(published: Published, base: Any) -> None:
    """Safetensors in float32, beside pickle that isn't needed."""
    published.pull("small")

    assert published.hub.downloads()[-1] == "model.safetensors"
    assert not any(name.endswith(".bin") for name in published.hub.downloads())
    published.check("small", base)


def test_medium(published: Published) -> None:
    """Pickle on the main branch; the same weights as safetensors at a known commit of a pull request."""
    model = published_model("medium")
    main = write_folder(published.folder / "main", model, published.tokenizer)
    torch.save(published_weights(model, is_pickle=True), main / "pytorch_model.bin")
    (main / "state_dict.bin").write_bytes(b"never downloaded")
    published.hub.publish("facebook/musicgen-medium", main)
    request = write_folder(published.folder / "request", model, published.tokenizer)
    save_file(published_weights(model), request / "model.safetensors", {"format": "pt"})
    published.hub.publish("facebook/musicgen-medium", request, revision="refs/pr/10", commit=MEDIUM_COMMIT)

    notes = published.pull("medium")
    assert "taking the same weights as safetensors from refs/pr/10" in notes
    assert f"revision {MEDIUM_COMMIT}" in notes
    published.check("medium", model)
    assert "is on this machine already" in published.pull("medium")


def test_medium_after_the_pull_request_has_changed(published: Published) -> None:
    """Anybody could have changed it: the pickle of the main branch is taken, read without running it."""
    model = published_model("medium")
    main = write_folder(published.folder / "main", model, published.tokenizer)
    torch.save(published_weights(model, is_pickle=True), main / "pytorch_model.bin")
    published.hub.publish("facebook/musicgen-medium", main)
    published.hub.publish("facebook/musicgen-medium", main, revision="refs/pr/10", commit="b" * 40)

    assert "refs/pr/10" not in published.pull("medium")
    published.check("medium", model)


@pytest.mark.parametrize("has_request", [True, False])
def test_large(published: Published, has_request: bool) -> None:
    """Pickle in two shards, beside a stray index of shards as safetensors that aren't there."""
    model = published_model("large")
    main = write_folder(published.folder / "main", model, published.tokenizer)
    write_shards(main, published_weights(model, is_pickle=True), suffix="bin")
    stray = {"metadata": {}, "weight_map": {"a": "model-00001-of-00003.safetensors"}}
    (main / "model.safetensors.index.json").write_text(json.dumps(stray))
    published.hub.publish("facebook/musicgen-large", main)
    if has_request:
        request = write_folder(published.folder / "request", model, published.tokenizer)
        write_shards(request, published_weights(model), suffix="safetensors", count=3)
        published.hub.publish("facebook/musicgen-large", request, revision="refs/pr/18", commit=LARGE_COMMIT)

    assert ("refs/pr/18" in published.pull("large")) is has_request
    assert any(name.endswith(".safetensors") for name in published.hub.downloads()) is has_request
    published.check("large", model)


@pytest.mark.parametrize("scale", ["small", "medium", "large"])
def test_stereo(published: Published, scale: str) -> None:
    """Safetensors in float16, of which large has two shards; medium has an index of float32 that leads nowhere."""
    model = published_model(scale, channels=2)
    folder = write_folder(published.folder / "stereo", model, published.tokenizer)
    if scale == "large":
        write_shards(folder, half(published_weights(model)), suffix="safetensors")
    else:
        save_file(half(published_weights(model)), folder / "model.safetensors", {"format": "pt"})
    if scale == "small":
        (folder / "model.fp32.safetensors").write_bytes(b"never downloaded")
    if scale == "medium":
        (folder / "model.safetensors.index.fp32.json").write_text('{"weight_map": {"a": "x.safetensors"}}')
    published.hub.publish(f"facebook/musicgen-stereo-{scale}", folder)

    published.pull(f"stereo-{scale}")
    published.check(f"stereo-{scale}", rounded(model))


def test_a_fine_tune_of_audiocrafts(published: Published, base: Any) -> None:
    """Neither config nor tokenizer, in float16; the codec in a file of its own, T5 from musicgen-small."""
    model = published_model("medium", seed=1)
    model.text_encoder.load_state_dict(base.text_encoder.state_dict())
    write_audiocraft(published.folder / "tune", model, dtype=torch.float16)
    published.hub.publish("someone/songstarter", published.folder / "tune")

    notes = published.pull("someone/songstarter")
    assert "the text encoder and the tokenizer of someone/songstarter are those of facebook/musicgen-small" in notes
    model.decoder.half().float()
    model.enc_to_dec_proj.half().float()
    published.check("someone/songstarter", model)
    left = {path.name for path in (models_dir() / "someone--songstarter").iterdir()}
    assert left == {"config.json", "tokenizer.json", "manifest.json", "graphs"}
    shape = json.loads(published.musicgen("model", "show", "someone/songstarter", "--json").out)
    assert (shape["layers"], shape["width"], shape["codebooks"], shape["sample_rate"]) == (1, 1536, 4, 32_000)


@pytest.mark.parametrize("layout", ["transformers", "audiocraft"])
def test_a_stereo_fine_tune_that_names_its_codec(published: Published, base: Any, layout: str) -> None:
    """compression_state_dict.bin has 1 kB with the name of another repository, in either layout."""
    model = published_model("small", channels=2, seed=2)
    model.text_encoder.load_state_dict(base.text_encoder.state_dict())
    write_audiocraft(published.folder / "tune", model, dtype=torch.float32, codec="someone/codec")
    published.hub.publish("someone/tune", published.folder / "tune")
    if layout == "audiocraft":
        folder = write_audiocraft(published.folder / "codec", model, dtype=torch.float32)
        (folder / "state_dict.bin").unlink()
    else:
        folder = published.folder / "codec"
        model.audio_encoder.save_pretrained(folder)
    published.hub.publish("someone/codec", folder)

    assert "the codec of someone/tune is that of someone/codec" in published.pull("someone/tune")
    published.check("someone/tune", model)


def test_a_lora_adapter(published: Published, base: Any) -> None:
    """Of attention, feed-forward, projection, embeddings and heads; its base is downloaded with it and not kept."""
    matrices, merged = random_adapter(published_weights(base), rank=16, alpha=8)
    write_adapter(published.folder / "lora", matrices, "facebook/musicgen-small", lora_alpha=8)
    (published.folder / "lora" / "README.md").write_text("---\nlicense: mit\n---\n")
    published.hub.publish("someone/lora", published.folder / "lora")
    before = generate(base, [published.ids()], 3.0, frames=FRAMES)[0]

    published.pull("someone/lora")
    load(base, merged)
    assert not np.array_equal(generate(base, [published.ids()], 3.0, frames=FRAMES)[0], before)
    published.check("someone/lora", base)
    assert not (models_dir() / "small").exists()
    assert not (models_dir() / "someone--lora" / "base").exists()
    assert find_checkpoint("someone/lora", models_dir()).manifest is not None


def publish_melody(published: Published, name: str, model: Any, *, shards: int) -> None:
    """Publish a melody model in float32, in shards."""
    folder = write_folder(published.folder / name, model, published.tokenizer)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "musicgen_melody"
    write_shards(folder, published_weights(model), suffix="safetensors", count=shards)
    published.hub.publish(f"facebook/musicgen-{name}", folder)


@pytest.mark.parametrize(
    ("name", "scale", "channels", "shards"),
    [("melody", "medium", 1, 2), ("stereo-melody", "medium", 2, 2), ("stereo-melody-large", "large", 2, 3)],
)
def test_melody(published: Published, name: str, scale: str, channels: int, shards: int) -> None:
    """Without a tune as `generate` makes it, and with a tune."""
    model = published_model(scale, channels=channels, is_melody=True)
    publish_melody(published, name, model, shards=shards)

    published.pull(name)
    published.check(name, model)
    published.check_tune(name, model)
    shown = json.loads(published.musicgen("model", "show", name, "--json").out)
    assert (shown["codebooks"], shown["channels"], shown["license"]) == (4 * channels, channels, "CC-BY-NC-4.0")
    assert published.musicgen("model", "show", name, "--check").code == 0


def test_a_melody_fine_tune_of_audiocrafts(published: Published, base: Any) -> None:
    """As the fine-tunes of stereo-melody-large are published: both projections are in the language model's file."""
    model = published_model("medium", channels=2, seed=4, is_melody=True)
    model.text_encoder.load_state_dict(base.text_encoder.state_dict())
    write_audiocraft(published.folder / "tune", model, dtype=torch.float32)
    published.hub.publish("someone/songstarter", published.folder / "tune")

    published.pull("someone/songstarter")
    published.check("someone/songstarter", model)
    published.check_tune("someone/songstarter", model)


def test_a_lora_adapter_of_melody(published: Published) -> None:
    """As published ones it changes both projections, too, so also what is heard of a tune."""
    base = published_model("medium", is_melody=True)
    publish_melody(published, "melody", base, shards=2)
    matrices, merged = random_adapter(published_weights(base), rank=16, alpha=16)
    assert any(name.startswith("audio_enc_to_dec_proj.") for name in matrices)
    write_adapter(published.folder / "lora", matrices, "facebook/musicgen-melody")
    published.hub.publish("someone/melody-lora", published.folder / "lora")

    published.pull("someone/melody-lora")
    load(base, merged)
    published.check("someone/melody-lora", base)
    published.check_tune("someone/melody-lora", base)


def test_a_tiny_model_as_others_tests_use(published: Published) -> None:
    """Like hf-internal-testing/tiny-random-MusicgenForConditionalGeneration: heads of 4, a codec of two filters."""
    model = random_model(
        3,
        {"vocab_size": 2074, "d_model": 16, "d_kv": 4, "d_ff": 4, "num_heads": 4},
        {"vocab_size": 64, "hidden_size": 16, "ffn_dim": 4, "num_hidden_layers": 2, "initializer_factor": 1.0},
        {
            "sampling_rate": 24_000,
            "hidden_size": 64,
            "codebook_dim": 64,
            "codebook_size": 64,
            "num_filters": 2,
            "compress": 1,
            "upsampling_ratios": [37, 6],
            "use_causal_conv": True,
            "use_conv_shortcut": True,
        },
    )
    folder = write_folder(published.folder / "tiny", model, published.tokenizer)
    model.save_pretrained(folder)
    name = "hf-internal-testing/tiny-random-MusicgenForConditionalGeneration"
    published.hub.publish(name, folder)

    published.pull(name)
    published.check(name, model, frames=55)


@pytest.mark.parametrize("kind", ["lora", "audiocraft", "pickle"])
def test_the_torch_engine_reads_what_transformers_wouldnt(published: Published, base: Any, kind: str) -> None:
    """Pickle without running it, and weights that are put together, if they were kept."""
    if kind == "lora":
        matrices, merged = random_adapter(published_weights(base), rank=4, alpha=4)
        folder = write_adapter(published.folder / kind, matrices, "facebook/musicgen-small", lora_alpha=4)
        load(base, merged)
    elif kind == "audiocraft":
        folder = write_audiocraft(published.folder / kind, base, dtype=torch.float32)
    else:
        folder = write_folder(published.folder / kind, base, published.tokenizer)
        torch.save(published_weights(base, is_pickle=True), folder / "pytorch_model.bin")
    done = published.musicgen("model", "pull", folder, "--keep-weights", "--precision", "fp32")
    assert done.code == 0, done.err

    published.check(kind, base, "--engine", "torch", "--device", "cpu")
    assert published.musicgen("model", "show", kind, "--check").code == 0


def load(model: Any, weights: Weights) -> None:
    """Put weights under published names into a model."""
    new = "parametrizations.weight.original"
    state = {name.replace("weight_g", f"{new}0").replace("weight_v", f"{new}1"): v for name, v in weights.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected or unexpected == ["decoder.model.decoder.embed_positions.weights"]
    assert all("embed_positions" in name or "embed_tokens" in name for name in missing)
