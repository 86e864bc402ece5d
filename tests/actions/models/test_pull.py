from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("huggingface_hub", reason="needs the extra local")
pytest.importorskip("safetensors", reason="writes checkpoints")

from musicgen_cli.audio.wav import inspect
from musicgen_cli.checkpoint.checkpoint import find_checkpoint
from musicgen_cli.settings import models_dir
from tests.support.hubs import COMMIT, Hub
from tests.support.model_fixtures import Write
from tests.support.models_folder import FILES, SMALL, installed, staged

Run = Callable[..., Any]


def test_a_pulled_model_makes_the_same_sound(musicgen: Run, hub: Hub, small: Path, store_path: Path) -> None:
    """The same as the published folder; size, commit and licence are shown first, and pickle is never downloaded."""
    done = musicgen("model", "pull", "small")
    total = sum((small / name).stat().st_size for name in FILES)

    assert done.code == 0, done.err
    assert f"downloading {SMALL}, revision {COMMIT}, {total} bytes" in done.err
    assert "CC-BY-NC-4.0: non-commercial use only" in done.err
    assert hub.downloads() == FILES
    assert done.out.split("\t")[0] == "small"
    assert done.out.split("\t")[3:] == ["CC-BY-NC-4.0", f"{SMALL}\n"]
    pulled, folder = (
        musicgen("generate", "--local", "--model", model, "-d", "1", "--seed", "1", "x", "--json").out
        for model in ("small", small)
    )
    assert json.loads(pulled)["output_hash"] == json.loads(folder)["output_hash"]
    assert json.loads(pulled)["origin"]["model"] == "small"
    assert staged() == []


def test_weights_are_removed_unless_keep_weights_is_given(musicgen: Run, hub: Hub, small: Path) -> None:
    """The digest is still that of the weights, and a second pull downloads only what is missing."""
    musicgen("model", "pull", "small")
    dropped = find_checkpoint("small", models_dir())
    content = (small / "config.json").read_bytes() + (small / "model.safetensors").read_bytes()

    assert not (models_dir() / "small" / "model.safetensors").exists()
    assert dropped.digest == hashlib.sha256(content).hexdigest()
    assert musicgen("model", "pull", "small", "--keep-weights").code == 0
    assert find_checkpoint("small", models_dir()).weights == (models_dir() / "small" / "model.safetensors",)
    assert hub.downloads() == [*FILES, "model.safetensors"]


def test_an_installed_model_is_not_downloaded_again(musicgen: Run, hub: Hub, small: Path) -> None:
    """Unless a file of it is damaged."""
    musicgen("model", "pull", "small")
    assert musicgen("model", "pull", SMALL).code == 0
    assert hub.downloads() == FILES

    graph = next((models_dir() / "small" / "graphs").rglob("text.data"))
    content = graph.read_bytes()
    graph.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert musicgen("model", "show", "small", "--check").code == 7
    assert musicgen("model", "pull", "small").code == 0
    assert hub.downloads() == [*FILES, "model.safetensors"]
    assert musicgen("model", "show", "small", "--check").code == 0


def test_a_pulled_model_survives_an_emptied_cache(musicgen: Run, small: Path, store_path: Path, tmp_path: Path) -> None:
    """The graphs of a pulled model are in its own folder."""
    musicgen("model", "pull", "small")
    shutil.rmtree(os.environ["XDG_CACHE_HOME"])

    done = musicgen("generate", "--local", "--model", "small", "-d", "0.5", "x")
    assert done.code == 0, done.err
    assert "preparing" not in done.err


def test_without_weights_lost_graphs_are_exit_8(musicgen: Run, small: Path, store_path: Path) -> None:
    """The message says why they can't be made again, and which command brings them back."""
    musicgen("model", "pull", "small")
    shutil.rmtree(models_dir() / "small" / "graphs")

    done = musicgen("generate", "--local", "--model", "small", "-d", "0.5", "x")
    assert done.code == 8
    assert "its weights were not kept" in done.err
    assert "musicgen model pull small" in done.err


def test_shards_are_downloaded_as_their_index_names_them(
    musicgen: Run, hub: Hub, sharded: Path, store_path: Path
) -> None:
    """Large models are published in several files."""
    hub.publish("facebook/musicgen-medium", sharded)

    done = musicgen("model", "pull", "medium", "--keep-weights")
    assert done.code == 0, done.err
    assert [path.name for path in find_checkpoint("medium", models_dir()).weights] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    done = musicgen("generate", "--local", "-d", "0.5", "x", "--json")
    assert json.loads(done.out)["origin"]["model"] == "medium"  # `auto` chooses it


def test_a_missing_shard_is_an_error(musicgen: Run, hub: Hub, sharded: Path) -> None:
    """It is noticed by the index, before any weights are downloaded."""
    (sharded / "model-00002-of-00002.safetensors").unlink()

    done = musicgen("model", "pull", "small")
    assert done.code == 1
    assert "has no model-00002-of-00002.safetensors" in done.err
    assert hub.downloads() == ["model.safetensors.index.json"]
    assert installed() == []


def test_a_stereo_model_makes_two_channels(
    musicgen: Run, hub: Hub, write: Write, nano: Any, nano_tensors: Mapping[str, Any], store_path: Path, tmp_path: Path
) -> None:
    """Eight codebooks, from the pull to the WAV."""
    config = copy.deepcopy(nano.config)
    config["decoder"] |= {"num_codebooks": 8, "audio_channels": 2}
    tensors = dict(nano_tensors)
    for stem in ("decoder.lm_heads", "decoder.model.decoder.embed_tokens"):
        for k in reversed(range(4)):
            for twin in (2 * k, 2 * k + 1):
                tensors[f"{stem}.{twin}.weight"] = nano_tensors[f"{stem}.{k}.weight"]
    hub.publish("facebook/musicgen-stereo-small", write("stereo", tensors=tensors, config=config))
    sound = tmp_path / "x.wav"

    assert musicgen("model", "pull", "stereo-small").code == 0
    done = musicgen("generate", "--local", "--model", "stereo-small", "-d", "1.5", "x", "-o", sound)
    assert done.code == 0, done.err
    info = inspect(sound.read_bytes())
    assert (info.channels, info.frames, info.sample_rate) == (2, 48_000, 32_000)


@pytest.mark.parametrize("head", ["hub", "mirror"])
def test_a_mirror_that_lists_only_names_is_asked_for_sizes_and_hashes(
    musicgen: Run, hub: Hub, small: Path, head: str
) -> None:
    """By HEAD, of the files that are needed alone; what is downloaded is checked as ever."""
    hub.lists_only_names, hub.head = True, head
    hub.wrong.add("tokenizer.json")
    done = musicgen("model", "pull", "small")
    assert done.code == 6
    assert "tokenizer.json of facebook/musicgen-small has a wrong checksum" in done.err

    hub.wrong.clear()
    hub.requests.clear()
    done = musicgen("model", "pull", "small")
    assert done.code == 0, done.err
    asked = [path for method, path in hub.requests if method == "HEAD" and "/resolve/" in path]
    assert asked == [f"/{SMALL}/resolve/{COMMIT}/{name}" for name in FILES]
    assert installed() == ["small"]


def test_a_mirror_that_does_not_tell_the_commit_is_asked_for_the_branch(musicgen: Run, hub: Hub, small: Path) -> None:
    """The branch is what `model show` has as the revision, as no more is known."""
    hub.lists_only_names = hub.lists_no_commit = True
    done = musicgen("model", "pull", "small")
    assert done.code == 0, done.err
    asked = [path for method, path in hub.requests if method == "HEAD" and "/resolve/" in path]
    assert asked == [f"/{SMALL}/resolve/main/{name}" for name in FILES]
    assert "revision\tmain\n" in musicgen("model", "show", "small").out


def test_shards_are_downloaded_from_a_mirror_that_lists_only_names(musicgen: Run, hub: Hub, sharded: Path) -> None:
    """Their index is asked for, read, and checked first."""
    hub.lists_only_names = True
    done = musicgen("model", "pull", "small")
    assert done.code == 0, done.err


@pytest.mark.parametrize("head", ["no-hash", "none"])
def test_a_mirror_without_hashes_is_told_apart_from_a_model_without_files(
    musicgen: Run, hub: Hub, small: Path, head: str
) -> None:
    """Nothing is downloaded that can't be checked."""
    hub.lists_only_names, hub.head = True, head
    done = musicgen("model", "pull", "small")

    assert done.code == 6
    assert f"{os.environ['HF_ENDPOINT']} gives no hash of config.json" in done.err
    assert "HF_ENDPOINT" in done.err.splitlines()[-1]
    assert hub.downloads() == []


def test_another_architecture_is_refused_before_its_weights_are_downloaded(
    musicgen: Run, hub: Hub, small: Path
) -> None:
    """The small files come first."""
    (small / "config.json").write_text('{"model_type": "musicgen_style"}')
    done = musicgen("model", "pull", "small")

    assert done.code == 1
    assert "musicgen_style" in done.err
    assert hub.downloads() == ["config.json", "tokenizer.json"]


def test_a_folder_that_was_put_there_by_hand_is_left_alone(musicgen: Run, hub: Hub, small: Path) -> None:
    """A pull replaces only what a pull of the same model made."""
    by_hand = models_dir() / "small"
    shutil.copytree(small, by_hand)
    done = musicgen("model", "pull", "small")

    assert done.code == 2
    assert "exists already, and came from" in done.err
    assert (by_hand / "model.safetensors").is_file()
    assert hub.downloads() == []


def test_a_damaged_manifest_is_repaired_by_a_pull(musicgen: Run, hub: Hub, small: Path) -> None:
    """As the hint of the error says."""
    musicgen("model", "pull", "small")
    (models_dir() / "small" / "manifest.json").write_text("{")
    done = musicgen("model", "show", "small")
    assert done.code == 1
    assert "`musicgen model pull small` again" in done.err

    assert musicgen("model", "pull", "small").code == 0
    assert musicgen("model", "show", "small", "--check").code == 0


def test_a_model_that_is_asked_for_by_name_is_pulled_first(
    musicgen: Run, hub: Hub, small: Path, store_path: Path
) -> None:
    """As OWNER/REPO, whose licence is in its model card; a second take needs no request."""
    hub.publish("someone/mine", small)
    hub.license = "apache-2.0"
    done = musicgen("generate", "--local", "--model", "someone/mine", "-d", "0.5", "x", "--json")
    assert done.code == 0, done.err
    assert "licence apache-2.0" in done.err
    assert json.loads(done.out)["origin"]["model"] == "someone--mine"
    assert json.loads(done.out)["license"] == "apache-2.0"

    requests = len(hub.requests)
    assert musicgen("generate", "--local", "--model", "someone/mine", "-d", "0.5", "x").code == 0
    assert len(hub.requests) == requests
    for model, code in (("nobody/nothing", 3), ("large", 8)):
        assert musicgen("generate", "--local", "--model", model, "-d", "0.5", "x").code == code


def test_a_pulled_model_is_used_without_the_modules_that_pulled_it(
    musicgen: Run, hub: Hub, small: Path, store_path: Path
) -> None:
    """Neither the hub's library nor the one that writes graphs is imported."""
    musicgen("model", "pull", "small")
    words = ["generate", "--local", "--model", "small", "-d", "0.5", "x"]
    code = f"import sys; from musicgen_cli.cli.app import run; run({words!r}); print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split("\n")

    assert "onnxruntime" in loaded
    assert not {"huggingface_hub", "httpx", "onnx", "torch", "musicgen_cli.actions.models.pull"} & set(loaded)
