"""What a pull says of repositories and folders that hold something else than a model of MusicGen's in safetensors."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("huggingface_hub", reason="needs the extra local")
pytest.importorskip("safetensors", reason="writes checkpoints")

from safetensors.numpy import save_file

from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.settings import models_dir
from tests.support.audiocraft import decoder_state, package, pointer, training
from tests.support.hubs import COMMIT, Hub
from tests.support.model_fixtures import Write
from tests.support.models_folder import SMALL, installed
from tests.support.torch_files import Call, save

Run = Callable[..., Any]
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 2359814740\n".format("a" * 64)
WHOLE = {"config.json": "{}", "tokenizer.json": "{}", "README.md": "# mine"}


@pytest.fixture
def publish(hub: Hub, tmp_path: Path) -> Callable[[Mapping[str, str]], str]:
    """Return a function that publishes files as a repository, and returns its name."""

    def publish_files(files: Mapping[str, str]) -> str:
        folder = tmp_path / "other"
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        hub.publish("someone/other", folder)
        return "someone/other"

    return publish_files


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({**WHOLE, "musicgen-q4.gguf": ""}, "only as GGUF (musicgen-q4.gguf)"),
        ({**WHOLE, "onnx/decoder_model.onnx": ""}, "only as ONNX graphs (decoder_model.onnx)"),
        ({**WHOLE, "training_args.bin": "", "lm_final.pt": ""}, "only as lm_final.pt, whose layout isn't known"),
        ({**WHOLE, "training_args.bin": "", "optimizer.pt": ""}, "has no model.safetensors"),
        ({**WHOLE, "state_dict.bin": ""}, "has audiocraft's state_dict.bin but no compression_state_dict.bin"),
        (
            {**WHOLE, "model.safetensors.index.json": '{"weight_map": {"a": "model-00001-of-00002.safetensors"}}'},
            "has none of the shards that its model.safetensors.index.json names",
        ),
        ({"config.json": "{}", "model.safetensors": "", "spiece.model": ""}, "its tokenizer only as spiece.model"),
        ({"config.json": "{}", "model.safetensors": ""}, "has no tokenizer.json"),
        ({"tokenizer.json": "{}", "model.safetensors": ""}, "has no config.json"),
        ({"README.md": "# nothing"}, "has no model.safetensors"),
        ({"adapter_model.safetensors": "", "adapter_config.json": '{"peft_type": "IA3"}'}, "the kind 'IA3'; only LoRA"),
        (
            {"adapter_model.safetensors": "", "adapter_config.json": '{"peft_type": "PROMPT_TUNING"}'},
            "the kind 'PROMPT_TUNING'; only LoRA",
        ),
        (
            {"adapter_model.safetensors": "", "adapter_config.json": '{"peft_type": "LORA", "use_dora": true}'},
            "the kind DoRA; only plain LoRA",
        ),
        (
            {
                "adapter_model.safetensors": "",
                "adapter_config.json": '{"peft_type": "LORA", "init_lora_weights": "pissa"}',
            },
            "LoRA with init_lora_weights 'pissa'",
        ),
        ({"adapter_model.safetensors": "", "adapter_config.json": "[]"}, "doesn't|kind|object"),
        (
            {
                "adapter_model.safetensors": "",
                "adapter_config.json": '{"peft_type": "LORA", "lora_alpha": 8, "base_model_name_or_path": "./my/base"}',
            },
            "an adapter of './my/base', which is no repository of the hub",
        ),
    ],
)
def test_a_repository_of_something_else_is_refused_in_a_sentence(
    musicgen: Run, hub: Hub, publish: Callable[[Mapping[str, str]], str], files: Mapping[str, str], message: str
) -> None:
    """Which names what is there, before any weights are downloaded."""
    done = musicgen("model", "pull", publish(files))

    assert done.code == 1, done.err
    assert done.err.count("error: ") == 1
    assert message in done.err or any(part in done.err for part in message.split("|"))
    assert not any(name.endswith((".bin", ".safetensors", ".pt")) for name in hub.downloads())
    assert installed() == []


def test_an_adapter_of_an_adapter_is_refused(
    musicgen: Run, hub: Hub, publish: Callable[[Mapping[str, str]], str]
) -> None:
    """Even of itself, which would never end."""
    config = {"peft_type": "LORA", "lora_alpha": 16, "base_model_name_or_path": "someone/other"}
    name = publish({"adapter_model.safetensors": "", "adapter_config.json": json.dumps(config)})
    done = musicgen("model", "pull", name)

    assert done.code == 1
    assert "someone/other, the base of someone/other, isn't a model in transformers' layout" in done.err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("facebook/musicgen-style", "is MusicGen Style"),
        ("facebook/audiogen-medium", "is AudioGen"),
        ("facebook/magnet-small-10secs", "is MAGNeT"),
    ],
)
def test_other_models_of_the_publisher_are_refused(musicgen: Run, hub: Hub, name: str, message: str) -> None:
    """Their layout is that of MusicGen's fine-tunes, and gigabytes would be downloaded first."""
    done = musicgen("model", "pull", name)

    assert done.code == 1
    assert f"{message}" in done.err
    assert hub.requests == []


@pytest.mark.parametrize("with_range", [True, False])
def test_a_style_fine_tune_is_refused_by_its_first_bytes(
    musicgen: Run, hub: Hub, nano: Checkpoint, nano_tensors: Mapping[str, Any], tmp_path: Path, with_range: bool
) -> None:
    """Its training is described before its gigabytes, none of which are downloaded."""
    folder = tmp_path / "tune"
    folder.mkdir()
    configuration = training(nano.config).replace("conditioners:", "conditioners:\n  self_wav:\n    model: style")
    save(folder / "state_dict.bin", package(decoder_state(nano_tensors, np.concatenate), configuration))
    save(folder / "compression_state_dict.bin", pointer("facebook/encodec_32khz"))
    hub.publish("someone/songstarter", folder)
    hub.without_range = not with_range
    done = musicgen("model", "pull", "someone/songstarter")

    assert done.code == 1
    assert "state_dict.bin of someone/songstarter is conditioned by 'self_wav' (style) beside text" in done.err
    assert hub.downloads() == ([] if with_range else ["state_dict.bin"])


def test_hostile_pickle_is_refused_and_does_nothing(
    musicgen: Run, hub: Hub, small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Exit 1, and a sentence that names what the file would have imported."""
    monkeypatch.chdir(tmp_path)
    (small / "model.safetensors").unlink()
    save(small / "pytorch_model.bin", {"a": Call("os", "system", ("touch hacked",))})
    done = musicgen("model", "pull", "small")

    assert done.code == 1
    assert "pytorch_model.bin can't be read as PyTorch's tensors: it holds 'os.system'" in done.err
    assert not (tmp_path / "hacked").exists()


def test_pickle_makes_the_same_sound_as_safetensors(
    musicgen: Run, hub: Hub, small: Path, nano_tensors: Mapping[str, Any], store_path: Path
) -> None:
    """In one file, or in shards beside a stray index of others."""
    sounds = []

    def sound() -> None:
        done = musicgen("generate", "--local", "--model", "small", "-d", "0.5", "--seed", "1", "x", "--json")
        assert done.code == 0, done.err
        sounds.append(json.loads(done.out)["output_hash"])

    assert musicgen("model", "pull", "small").code == 0
    sound()
    (small / "model.safetensors").unlink()
    save(small / "pytorch_model.bin", nano_tensors)
    assert musicgen("model", "pull", "small", "--revision", COMMIT, "--keep-weights").code == 0
    sound()
    shutil.rmtree(models_dir() / "small")
    (small / "pytorch_model.bin").unlink()
    places = dict[str, str]()
    for number, names in enumerate((sorted(nano_tensors)[::2], sorted(nano_tensors)[1::2]), 1):
        shard = f"pytorch_model-0000{number}-of-00002.bin"
        save(small / shard, {name: nano_tensors[name] for name in names})
        places |= dict.fromkeys(names, shard)
    (small / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    (small / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}')
    assert musicgen("model", "pull", "small").code == 0
    sound()

    assert len(set(sounds)) == 1


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_pointer_of_git_lfs_is_not_taken_for_weights(musicgen: Run, write: Write, name: str) -> None:
    """A clone without Git LFS has such files; the hint says what downloads the weights."""
    folder = write("mine")
    (folder / "model.safetensors").unlink()
    (folder / name).write_text(LFS_POINTER)

    for words in (("model", "pull", folder), ("generate", "--local", "--model", folder, "x")):
        done = musicgen(*words)
        assert done.code == 1
        assert f"{name} is a pointer of Git LFS, not the weights" in done.err
        assert "`git lfs pull`" in done.err


@pytest.mark.parametrize("place", ["models--facebook--musicgen-small", "snapshot"])
def test_a_folder_in_the_cache_of_huggingface_hub_is_the_model_that_it_is(
    musicgen: Run, hub: Hub, write: Write, tmp_path: Path, place: str, store_path: Path
) -> None:
    """By its snapshot, or as a whole; under the name of its repository, with its commit, without the hub."""
    folder, root = write("published"), tmp_path / "hub" / "models--facebook--musicgen-small"
    snapshot = root / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (root / "blobs").mkdir()
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    for number, path in enumerate(folder.iterdir()):
        shutil.copy(path, root / "blobs" / f"{number}")
        (snapshot / path.name).symlink_to(Path("..") / ".." / "blobs" / f"{number}")
    named = snapshot if place == "snapshot" else root
    used = musicgen("generate", "--local", "--model", named, "-d", "0.5", "x", "--json")
    assert used.code == 0, used.err
    assert json.loads(used.out)["origin"]["model"] == "small"
    assert json.loads(used.out)["license"] == "CC-BY-NC-4.0"

    done = musicgen("model", "pull", named)
    assert done.code == 0, done.err
    shown = json.loads(musicgen("model", "show", "small", "--json").out)
    assert (shown["source"], shown["revision"], shown["license"]) == (SMALL, COMMIT, "CC-BY-NC-4.0")
    assert hub.requests == []
    hub.publish(SMALL, folder)
    assert musicgen("model", "pull", "small").code == 0
    assert hub.downloads() == []  # it is installed already


def test_a_renamed_repository_is_pulled_and_its_new_name_is_said(
    musicgen: Run, hub: Hub, small: Path, store_path: Path
) -> None:
    """Under the name that was given."""
    hub.publish("someone/present", small)
    hub.renamed["someone/former"] = "someone/present"
    done = musicgen("model", "pull", "someone/former")

    assert done.code == 0, done.err
    assert "someone/former is now called someone/present" in done.err
    assert installed() == ["someone--former"]


def test_a_gated_model_needs_a_token(musicgen: Run, hub: Hub, small: Path) -> None:
    """Exit 8, with the page on which its terms are accepted."""
    hub.gated.add(SMALL)
    done = musicgen("model", "pull", "small")

    assert done.code == 8
    assert f"{SMALL} is gated" in done.err
    assert f"/{SMALL}, and set HF_TOKEN" in done.err


def lora(nano_tensors: Mapping[str, Any], names: list[str], rank: int = 2) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensors of an adapter that changes some weights, and the base's with it merged in, for alpha 3."""
    chance = np.random.default_rng(1)
    adapter: dict[str, Any] = {}
    merged = {name: values.astype(np.float32) for name, values in nano_tensors.items()}
    for name in names:
        rows, columns = merged[name].shape
        is_embedding = "embed_tokens" in name
        keys = ("lora_embedding_A", "lora_embedding_B") if is_embedding else ("lora_A.weight", "lora_B.weight")
        rows, columns = (columns, rows) if is_embedding else (rows, columns)
        a = chance.normal(size=(rank, columns)).astype(np.float32)
        b = (chance.normal(size=(rows, rank)) * merged[name].std()).astype(np.float32)
        module = f"base_model.model.{name.removesuffix('.weight')}"
        adapter |= {f"{module}.{keys[0]}": a, f"{module}.{keys[1]}": b}
        change = np.ascontiguousarray((b @ a).T) if is_embedding else b @ a
        merged[name] = merged[name] + change * np.float32(3 / rank)
    return adapter, merged


CHANGED = [
    "decoder.model.decoder.layers.0.self_attn.q_proj.weight",
    "decoder.model.decoder.layers.1.fc1.weight",
    "decoder.model.decoder.embed_tokens.2.weight",
    "decoder.lm_heads.1.weight",
    "enc_to_dec_proj.weight",
]


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_makes_the_sound_of_merged_weights(
    musicgen: Run, hub: Hub, small: Path, write: Write, nano_tensors: Mapping[str, Any], store_path: Path,
    tmp_path: Path, file: str,
) -> None:  # fmt: skip
    """With the digest of its own, the licence of both, and a base that is taken from this machine if it is there."""
    adapter, merged = lora(nano_tensors, CHANGED)
    folder = tmp_path / "lora"
    folder.mkdir()
    save_file(adapter, folder / file) if file.endswith(".safetensors") else save(folder / file, adapter)
    config = {"peft_type": "LORA", "base_model_name_or_path": SMALL, "r": 2, "lora_alpha": 3}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    hub.publish("someone/lora", folder)
    assert musicgen("model", "pull", "small", "--keep-weights").code == 0
    hub.transfers.clear()

    done = musicgen("model", "pull", "someone/lora", "--precision", "fp32")
    assert done.code == 0, done.err
    assert hub.downloads() == ["adapter_config.json", "adapter_config.json", file]
    words = ("generate", "--local", "-d", "1", "--seed", "1", "calm ambient piano", "--json", "--precision", "fp32")
    ours, theirs, base = (
        json.loads(musicgen(*words, "--model", model).out)
        for model in ("someone/lora", write("merged", tensors=merged), small)
    )
    assert ours["output_hash"] == theirs["output_hash"] != base["output_hash"]
    assert ours["license"] == "cc-by-nc-4.0 AND CC-BY-NC-4.0"
    assert ours["extra"]["checkpoint"] not in {theirs["extra"]["checkpoint"], base["extra"]["checkpoint"]}
    assert musicgen("model", "show", "someone/lora", "--check").code == 0
    assert musicgen("model", "pull", "someone/lora", "--precision", "fp32").code == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_model.model.decoder.nothing.lora_A.weight": (2, 3)}, "which its base model"),
        ({"base_model.model.enc_to_dec_proj.lora_A.weight": (2, 128)}, "only one of the two matrices"),
        ({"base_model.model.enc_to_dec_proj.lora_magnitude_vector": (3,)}, "that is no part of a LoRA"),
        (
            {
                "base_model.model.enc_to_dec_proj.lora_A.weight": (2, 5),
                "base_model.model.enc_to_dec_proj.lora_B.weight": (192, 2),
            },
            "has the shape (2, 5)",
        ),
    ],
)
def test_an_adapter_that_doesnt_fit_is_an_error(
    musicgen: Run, small: Path, tmp_path: Path, change: Mapping[str, tuple[int, ...]], message: str
) -> None:
    """It names the tensor; nothing is installed."""
    folder = tmp_path / "lora"
    folder.mkdir()
    save_file(
        {name: np.zeros(shape, np.float32) for name, shape in change.items()}, folder / "adapter_model.safetensors"
    )
    config = {"peft_type": "LORA", "base_model_name_or_path": SMALL, "r": 2, "lora_alpha": 3}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    done = musicgen("model", "pull", folder)

    assert done.code == 1
    assert message in done.err
    assert installed() == []


def test_an_interrupted_pull_of_an_adapter_continues_with_its_base(
    musicgen: Run, hub: Hub, small: Path, nano_tensors: Mapping[str, Any], tmp_path: Path
) -> None:
    """Of the base's weights, too, only the rest is requested again; nothing of it stays afterwards."""
    folder = tmp_path / "lora"
    folder.mkdir()
    save_file(lora(nano_tensors, CHANGED)[0], folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "base_model_name_or_path": SMALL, "r": 2, "lora_alpha": 3}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    hub.publish("someone/lora", folder)
    hub.cuts["model.safetensors"] = [5_000_000] * 10
    assert musicgen("model", "pull", "someone/lora").code == 6

    hub.cuts.clear()
    hub.transfers.clear()
    done = musicgen("model", "pull", "someone/lora")
    assert done.code == 0, done.err
    assert re.search(r"\b5\.[0-3] MB are here already", done.err), done.err
    assert [(transfer.file, transfer.start) for transfer in hub.transfers] == [
        ("adapter_config.json", 0),  # read to learn what the base is
        ("model.safetensors", 5_000_000),
    ]
    left = {path.name for path in (models_dir() / "someone--lora").iterdir()}
    assert left == {"adapter_config.json", "config.json", "tokenizer.json", "manifest.json", "graphs"}


def test_a_folder_of_an_adapter_is_imported_with_its_base(
    musicgen: Run, hub: Hub, small: Path, nano_tensors: Mapping[str, Any], tmp_path: Path, store_path: Path
) -> None:
    """Used where it is, it has none, and the hint says what gets it."""
    folder = tmp_path / "lora"
    folder.mkdir()
    save_file(lora(nano_tensors, CHANGED)[0], folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "base_model_name_or_path": SMALL, "r": 2, "lora_alpha": 3}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    done = musicgen("generate", "--local", "--model", folder, "x")
    assert done.code == 1
    assert "comes without its base model" in done.err
    assert f"musicgen model pull {folder}" in done.err

    done = musicgen("model", "pull", folder)
    assert done.code == 0, done.err
    assert "downloading them, " in done.err
    assert musicgen("generate", "--local", "--model", "lora", "-d", "0.5", "x").code == 0


def test_a_folder_without_a_tokenizer_is_refused_before_it_is_copied(musicgen: Run, write: Write) -> None:
    """It says so, and names the tokenizer that is there instead."""
    folder = write("mine")
    (folder / "tokenizer.json").rename(folder / "spiece.model")
    done = musicgen("model", "pull", folder)

    assert done.code == 1
    assert "has its tokenizer only as spiece.model" in done.err
    assert "importing" not in done.err
