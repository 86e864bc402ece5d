from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.hubs import COMMIT, Hub, start, until

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
constants = pytest.importorskip("huggingface_hub.constants", reason="needs the extra local")
pytest.importorskip("safetensors", reason="writes checkpoints")

from musicgen_cli.audio.wav import inspect
from musicgen_cli.checkpoint.checkpoint import find_checkpoint
from musicgen_cli.settings import models_dir

Run = Callable[..., Any]
MUSICGEN = [sys.executable, "-m", "musicgen_cli"]
SMALL = "facebook/musicgen-small"
FILES = ["config.json", "tokenizer.json", "model.safetensors"]  # as they are fetched


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Start a hub; for processes it is named as a user names it, for this one where the library has read that."""
    published = Hub()
    url, stop = start(published)
    for name in ("HF_TOKEN", "HF_HOME", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    yield published
    stop()


@pytest.fixture
def small(hub: Hub, write: Any) -> Path:
    """Publish nano as small, with more beside it than is needed."""
    folder: Path = write("published")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "state_dict.bin").write_bytes(b"pickle")
    (folder / ".gitattributes").write_text("*.bin filter=lfs")
    hub.publish(SMALL, folder)
    return folder


def sharded(folder: Path, tensors: Mapping[str, Any]) -> None:
    from safetensors.numpy import save_file

    names, places = sorted(tensors), {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / shard)
        places |= dict.fromkeys(part, shard)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def visible() -> list[str]:
    where = models_dir()
    return sorted(path.name for path in where.iterdir() if path.name != ".pulling") if where.is_dir() else []


def kept() -> list[str]:
    """Return what unfinished pulls left, without their locks."""
    return sorted(
        path.name for path in (models_dir() / ".pulling").rglob("*") if path.is_file() and path.suffix != ".lock"
    )


def test_a_pulled_model_makes_the_same_sound(musicgen: Run, hub: Hub, small: Path, store_path: Path) -> None:
    """As its folder does; size, commit and licence are said before anything is fetched, and pickle never is."""
    done = musicgen("model", "pull", "small")
    total = sum((small / name).stat().st_size for name in FILES)

    assert done.code == 0, done.err
    assert f"fetching {SMALL}, revision {COMMIT}, {total} bytes" in done.err
    assert "CC-BY-NC-4.0: non-commercial use only" in done.err
    assert hub.fetched() == FILES
    assert done.out.split("\t")[0] == "small"
    assert done.out.split("\t")[3:] == ["CC-BY-NC-4.0", f"{SMALL}\n"]
    ours, folders = (
        musicgen("generate", "--local", "--model", model, "-d", "1", "--seed", "1", "x", "--json").out
        for model in ("small", small)
    )
    assert json.loads(ours)["output_hash"] == json.loads(folders)["output_hash"]
    assert json.loads(ours)["origin"]["model"] == "small"
    assert kept() == []


def test_weights_go_unless_they_are_to_be_kept(musicgen: Run, hub: Hub, small: Path) -> None:
    """The digest is the weights' all the same, and the second pull fetches only what isn't here."""
    musicgen("model", "pull", "small")
    dropped = find_checkpoint("small", models_dir())
    content = (small / "config.json").read_bytes() + (small / "model.safetensors").read_bytes()

    assert not (models_dir() / "small" / "model.safetensors").exists()
    assert dropped.digest == hashlib.sha256(content).hexdigest()
    assert musicgen("model", "pull", "small", "--keep-weights").code == 0
    assert find_checkpoint("small", models_dir()).weights == (models_dir() / "small" / "model.safetensors",)
    assert hub.fetched() == [*FILES, "model.safetensors"]


def test_a_model_that_is_here_is_not_fetched_again(musicgen: Run, hub: Hub, small: Path) -> None:
    """Unless it is damaged: then what is damaged is."""
    musicgen("model", "pull", "small")
    assert musicgen("model", "pull", SMALL).code == 0
    assert hub.fetched() == FILES

    graph = next((models_dir() / "small" / "graphs").rglob("step.data"))
    content = graph.read_bytes()
    graph.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert musicgen("model", "show", "small", "--check").code == 7
    assert musicgen("model", "pull", "small").code == 0
    assert hub.fetched() == [*FILES, "model.safetensors"]
    assert musicgen("model", "show", "small", "--check").code == 0


def test_the_cache_may_be_wiped(musicgen: Run, small: Path, store_path: Path, tmp_path: Path) -> None:
    """The graphs of a pulled model are not in it."""
    musicgen("model", "pull", "small")
    shutil.rmtree(os.environ["XDG_CACHE_HOME"])

    done = musicgen("generate", "--local", "--model", "small", "-d", "0.5", "x")
    assert done.code == 0, done.err
    assert "preparing" not in done.err


def test_without_weights_lost_graphs_are_exit_8(musicgen: Run, small: Path, store_path: Path) -> None:
    """What can't be made again is told, with what brings it back."""
    musicgen("model", "pull", "small")
    shutil.rmtree(models_dir() / "small" / "graphs")

    done = musicgen("generate", "--local", "--model", "small", "-d", "0.5", "x")
    assert done.code == 8
    assert "its weights were not kept" in done.err
    assert "musicgen model pull small" in done.err


def test_shards_are_fetched_by_their_index(
    musicgen: Run, hub: Hub, small: Path, nano_tensors: Mapping[str, Any], store_path: Path
) -> None:
    """Medium and large come in several files."""
    sharded(small, nano_tensors)
    hub.publish("facebook/musicgen-medium", small)

    done = musicgen("model", "pull", "medium", "--keep-weights")
    assert done.code == 0, done.err
    assert [path.name for path in find_checkpoint("medium", models_dir()).weights] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    done = musicgen("generate", "--local", "-d", "0.5", "x", "--json")
    assert json.loads(done.out)["origin"]["model"] == "medium"  # auto takes it


def test_a_missing_shard_is_an_error(musicgen: Run, hub: Hub, small: Path, nano_tensors: Mapping[str, Any]) -> None:
    """Nothing is fetched of what can't be whole."""
    sharded(small, nano_tensors)
    (small / "model-00002-of-00002.safetensors").unlink()

    done = musicgen("model", "pull", "small")
    assert done.code == 1
    assert "has no model-00002-of-00002.safetensors" in done.err
    assert hub.fetched() == ["model.safetensors.index.json"]
    assert visible() == []


def test_a_stereo_model_makes_two_channels(
    musicgen: Run, hub: Hub, write: Any, nano: Any, nano_tensors: Mapping[str, Any], store_path: Path, tmp_path: Path
) -> None:
    """Eight codebooks, end to end."""
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


def test_a_cut_pull_goes_on_with_what_is_whole(musicgen: Run, hub: Hub, small: Path) -> None:
    """The file that was cut begins again; nothing is to be seen of it before."""
    hub.cut["model.safetensors"] = 5_000_000
    done = musicgen("model", "pull", "small")
    assert done.code == 6
    assert "pull` again goes on" in done.err
    assert visible() == []
    assert kept() == ["config.json", "tokenizer.json"]

    assert musicgen("model", "pull", "small").code == 0
    assert hub.fetched() == [*FILES, "model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_wrong_checksum_is_exit_6_and_names_the_file(musicgen: Run, hub: Hub, small: Path, name: str) -> None:
    """One bit, whether Git or Git LFS keeps it; the file is thrown away."""
    hub.wrong.add(name)
    done = musicgen("model", "pull", "small")
    assert done.code == 6
    assert f"{name} of {SMALL} came with a wrong checksum" in done.err
    assert name not in kept()
    assert not list(models_dir().rglob("*.part"))

    hub.wrong.clear()
    assert musicgen("model", "pull", "small").code == 0


def test_what_another_revision_left_is_not_taken(musicgen: Run, hub: Hub, small: Path) -> None:
    """A whole file of an unfinished pull counts only if it is the one that is wanted now."""
    hub.cut["model.safetensors"] = 10
    musicgen("model", "pull", "small")
    tokenizer = json.loads((small / "tokenizer.json").read_text())
    (small / "tokenizer.json").write_text(json.dumps(tokenizer, indent=3))

    assert musicgen("model", "pull", "small").code == 0
    assert (models_dir() / "small" / "tokenizer.json").read_bytes() == (small / "tokenizer.json").read_bytes()


def test_pickle_alone_is_refused(musicgen: Run, hub: Hub, small: Path) -> None:
    """By name, and without a byte of it."""
    (small / "model.safetensors").unlink()
    done = musicgen("model", "pull", "small")

    assert done.code == 1
    assert "only as pytorch_model.bin, which is pickle and never fetched" in done.err
    assert hub.fetched() == []


def test_another_architecture_is_noticed_before_its_weights_come(musicgen: Run, hub: Hub, small: Path) -> None:
    """Config first."""
    (small / "config.json").write_text('{"model_type": "musicgen_melody"}')
    done = musicgen("model", "pull", "small")

    assert done.code == 1
    assert "musicgen_melody" in done.err
    assert hub.fetched() == ["config.json"]


@pytest.mark.parametrize(
    ("status", "word", "code", "said"),
    [
        (401, None, 8, "isn't for everybody"),
        (403, "GatedRepo", 8, "accept its terms"),
        (401, "RepoNotFound", 3, "has no model"),
        (404, None, 3, "has no model"),
        (429, None, 5, "fewer requests"),
        (500, None, 6, "answered 500"),
        (503, None, 6, "answered 503"),
        (200, None, 6, "something else than a repository"),
    ],
)
def test_what_the_hub_refuses_is_a_sentence(
    musicgen: Run, hub: Hub, small: Path, status: int, word: str | None, code: int, said: str
) -> None:
    """With a hint and the exit code that fits."""
    hub.status[SMALL] = (status, word)
    done = musicgen("model", "pull", "small")

    assert done.code == code
    assert said in done.err
    assert "<html>" not in done.err


def test_an_unknown_revision_is_exit_3(musicgen: Run, hub: Hub, small: Path) -> None:
    """And a known one is taken."""
    assert musicgen("model", "pull", "small", "--revision", "no/such").code == 3
    assert musicgen("model", "pull", "small", "--revision", COMMIT).code == 0


def test_a_token_that_cant_be_one_is_exit_2(
    musicgen: Run, hub: Hub, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is never shown."""
    monkeypatch.setenv("HF_TOKEN", "ключ")
    done = musicgen("model", "pull", "small")

    assert done.code == 2
    assert "ключ" not in done.err
    assert hub.log == []


def test_no_hub_is_exit_4(musicgen: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a service that can't be reached; a model that was only asked for is exit 8."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert musicgen("model", "pull", "small").code == 4
    done = musicgen("generate", "--local", "--model", "small", "x")
    assert done.code == 8
    assert "can't be fetched" in done.err


def test_an_explicit_model_is_pulled_first(musicgen: Run, hub: Hub, small: Path, store_path: Path) -> None:
    """By its name, or as OWNER/REPO, of which the model card tells the licence."""
    hub.publish("someone/mine", small)
    hub.license = "apache-2.0"
    done = musicgen("generate", "--local", "--model", "someone/mine", "-d", "0.5", "x", "--json")
    assert done.code == 0, done.err
    assert "licence apache-2.0" in done.err
    assert json.loads(done.out)["origin"]["model"] == "someone--mine"
    assert json.loads(done.out)["license"] == "apache-2.0"

    asked = len(hub.log)
    assert musicgen("generate", "--local", "--model", "someone/mine", "-d", "0.5", "x").code == 0
    assert len(hub.log) == asked
    for model, code in (("nobody/nothing", 3), ("large", 8)):
        assert musicgen("generate", "--local", "--model", model, "-d", "0.5", "x").code == code


def test_a_folder_is_imported_under_its_name(
    musicgen: Run, hub: Hub, write: Any, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights are read where they are, and don't depend on it afterwards."""
    folder = write("mine")
    before = (folder / "model.safetensors").read_bytes()
    assert musicgen("model", "pull", folder).code == 0
    assert (folder / "model.safetensors").read_bytes() == before
    shutil.rmtree(folder)

    done = musicgen("generate", "--local", "--model", "mine", "-d", "0.5", "x")
    assert done.code == 0, done.err
    assert hub.log == []


def test_a_folder_cant_take_a_name_that_is_taken(musicgen: Run, write: Any) -> None:
    """Neither a published one nor another import's."""
    done = musicgen("model", "pull", write("small"))
    assert done.code == 2
    assert "can't be called 'small'" in done.err
    assert musicgen("model", "pull", write("mine")).code == 0
    assert musicgen("model", "pull", write("other/mine")).code == 2


def test_what_was_put_there_by_hand_is_left_alone(musicgen: Run, hub: Hub, small: Path) -> None:
    """A folder that no pull made is not replaced."""
    by_hand = models_dir() / "small"
    shutil.copytree(small, by_hand)
    done = musicgen("model", "pull", "small")

    assert done.code == 2
    assert "is in the way" in done.err
    assert (by_hand / "model.safetensors").is_file()
    assert hub.fetched() == []


def test_a_damaged_manifest_is_healed_by_a_pull(musicgen: Run, hub: Hub, small: Path) -> None:
    """As the hint says."""
    musicgen("model", "pull", "small")
    (models_dir() / "small" / "manifest.json").write_text("{")
    done = musicgen("model", "show", "small")
    assert done.code == 1
    assert "`musicgen model pull small` again" in done.err

    assert musicgen("model", "pull", "small").code == 0
    assert musicgen("model", "show", "small", "--check").code == 0


def test_a_pulled_model_makes_sound_without_what_fetched_it(
    musicgen: Run, hub: Hub, small: Path, store_path: Path
) -> None:
    """Neither the hub's library nor what writes graphs is loaded, and no weight is hashed."""
    musicgen("model", "pull", "small")
    words = ["generate", "--local", "--model", "small", "-d", "0.5", "x"]
    code = f"import sys; from musicgen_cli.cli.app import run; run({words!r}); print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split("\n")

    assert "onnxruntime" in loaded
    assert not {"huggingface_hub", "httpx", "onnx", "torch", "musicgen_cli.actions.models.pull"} & set(loaded)


# What only a process of its own shows: what the environment says, what a signal does, what is left in the home.


def process(*words: str, **more: str) -> subprocess.Popen[str]:
    environment = os.environ | more
    return subprocess.Popen(
        [*MUSICGEN, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_the_environment_is_honoured_and_nothing_else_is_asked(hub: Hub, small: Path) -> None:
    """Endpoint and token are; no telemetry goes out, and the hub's library leaves no cache behind."""
    child = process("model", "pull", "small", HF_TOKEN="hf_secret", AI_AGENT="x")
    out, err = child.communicate(timeout=60)

    assert child.returncode == 0, err
    assert [path for _, path in hub.log if not path.startswith(("/facebook/", "/cdn/"))] == [f"/api/models/{SMALL}"]
    assert hub.headers[0]["authorization"] == "Bearer hf_secret"
    assert re.fullmatch(r"musicgen-cli/[\w.]+; hf_hub/[\w.]+; python/[\w.]+", hub.headers[0]["user-agent"])
    assert not any("huggingface" in str(path) for path in Path.home().rglob("*"))
    assert not (Path(os.environ["XDG_CACHE_HOME"]) / "huggingface").exists()
    assert "hf_secret" not in out + err


def test_offline_nothing_is_tried(hub: Hub, small: Path) -> None:
    """Exit 8, and not one request."""
    child = process("model", "pull", "small", HF_HUB_OFFLINE="1")
    _, err = child.communicate(timeout=60)

    assert child.returncode == 8
    assert "HF_HUB_OFFLINE is set" in err
    assert hub.log == []


def test_ctrl_c_keeps_what_is_whole_and_shows_nothing(hub: Hub, small: Path) -> None:
    """Exit 130 in the middle of the weights."""
    hub.waits["model.safetensors"] = threading.Event()
    child = process("model", "pull", "small")
    until(lambda: "model.safetensors" in hub.fetched() or child.poll() is not None)
    until(lambda: (models_dir() / ".pulling" / "small" / "model.safetensors.part").exists())
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=20)

    assert (child.returncode, out) == (130, "")
    assert err.endswith("error: interrupted\n")
    assert visible() == []
    assert kept() == ["config.json", "tokenizer.json"]


def test_of_two_processes_one_does_it(hub: Hub, small: Path) -> None:
    """The other says so at once, with exit 5."""
    hub.waits["model.safetensors"] = threading.Event()
    first = process("model", "pull", "small")
    until(lambda: "model.safetensors" in hub.fetched())
    second = process("model", "pull", "small")
    _, err = second.communicate(timeout=60)
    hub.waits["model.safetensors"].set()
    first.communicate(timeout=60)

    assert (first.returncode, second.returncode) == (0, 5)
    assert "another process is at work" in err
    assert hub.fetched() == FILES


@pytest.fixture
def little_room(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 12 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by root alone")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)  # where a test failed, something may be open


def test_a_disk_that_is_too_small_is_told_before(
    musicgen: Run, hub: Hub, small: Path, little_room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is fetched."""
    monkeypatch.setenv("XDG_DATA_HOME", str(little_room))
    done = musicgen("model", "pull", "small")

    assert done.code == 1
    assert re.search(r"needs [\d.]+ MB of disk while it is prepared, [\d.]+ MB are free", done.err)
    assert hub.fetched() == []


def test_a_disk_that_fills_up_leaves_nothing_half(
    musicgen: Run, hub: Hub, small: Path, little_room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where someone else took the room meanwhile."""
    monkeypatch.setenv("XDG_DATA_HOME", str(little_room))
    much = type(shutil.disk_usage("/"))(10**12, 0, 10**12)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: much)
    done = musicgen("model", "pull", "small")

    assert done.code == 1
    assert "No space left on device" in done.err
    assert visible() == []
    assert kept() == ["config.json", "tokenizer.json"]
