from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
onnx = pytest.importorskip("onnx", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")

from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine.decoding.positions import sinusoids
from musicgen_cli.engine.onnx.engine import encode_text
from musicgen_cli.engine.onnx.graph_cache import GRAPH_FORMAT, GRAPHS, prepare_graphs
from musicgen_cli.engine.onnx.graph_folders import MANIFEST, Graphs
from musicgen_cli.engine.onnx.text_encoder import position_buckets
from musicgen_cli.errors import CheckpointError, EngineError

STEPS = 1503
TIMEOUT_S = 100.0


def prepared(checkpoint: Checkpoint, cache: Path, notes: list[str] | None = None, *, precision: str = "int8") -> Graphs:
    return prepare_graphs(
        checkpoint,
        Shape.of(checkpoint.config),
        positions=STEPS,
        cache_dir=cache,
        precision=precision,
        encode_prompts=lambda graph: [encode_text(graph, [3, 4, 5], 1)],
        note=(notes if notes is not None else []).append,
    )


@pytest.fixture(scope="module")
def graphs_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache apart from `session_cache`, whose graphs have been calibrated."""
    return tmp_path_factory.mktemp("graphs")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def hashes(folder: Path) -> dict[str, str]:
    files = json.loads((folder / MANIFEST).read_bytes())["files"]
    return {name: entry["sha256"] for name, entry in files.items()}


def test_graphs_are_built_once(nano: Checkpoint, tmp_path: Path) -> None:
    """The second time they come from the cache, without a note."""
    notes: list[str] = []
    first, second = prepared(nano, tmp_path, notes), prepared(nano, tmp_path, notes)

    assert first == second == Graphs(tmp_path / "graphs" / f"{nano.digest}-int8-v{GRAPH_FORMAT}")
    assert notes == ["preparing nano for ONNX Runtime, once"]
    assert set(GRAPHS) < set(contents(first.directory))


def test_graphs_are_the_same_bytes_each_time(nano: Checkpoint, tmp_path: Path) -> None:
    """They depend on nothing but the checkpoint."""
    assert contents(prepared(nano, tmp_path / "a").directory) == contents(prepared(nano, tmp_path / "b").directory)


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_are_valid_onnx(nano: Checkpoint, graphs_cache: Path, name: str) -> None:
    """The checker of onnx accepts them; it doesn't know ONNX Runtime's own operators."""
    onnx.checker.check_model(str(prepared(nano, graphs_cache).directory / name))


def flip_a_bit(folder: Path) -> None:
    path = folder / "step.data"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(folder: Path) -> None:
    os.truncate(folder / "sound.data", 100)


def remove_a_file(folder: Path) -> None:
    (folder / "text.onnx").unlink()


def remove_the_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def name_another_checkpoint(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "checkpoint": "0" * 64}))


def empty_the_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"files": []}')


def replace_with_a_file(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("in the way")


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        truncate,
        remove_a_file,
        remove_the_manifest,
        name_another_checkpoint,
        empty_the_manifest,
        replace_with_a_file,
    ],
)
def test_damaged_graphs_are_built_again(nano: Checkpoint, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """One flipped bit is enough; afterwards the folder is as it was, and nothing else is left in the cache."""
    folder = prepared(nano, tmp_path).directory
    before = contents(folder)
    damage(folder)

    assert contents(prepared(nano, tmp_path).directory) == before
    assert list((tmp_path / "graphs").iterdir()) == [folder]


BUILD = """
import sys
from pathlib import Path
from musicgen_cli.checkpoint.checkpoint import find_checkpoint
from musicgen_cli.engine.onnx.engine import encode_text
from musicgen_cli.engine.onnx.graph_cache import prepare_graphs
from musicgen_cli.checkpoint.shape import Shape
if len(sys.argv) > 2:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
checkpoint = find_checkpoint("nano", Path("nowhere"))
print("ready", flush=True)
sys.stdin.readline()
graphs = prepare_graphs(checkpoint, Shape.of(checkpoint.config), positions=1503, cache_dir=Path(sys.argv[1]),
                        precision="int8", encode_prompts=lambda graph: [encode_text(graph, [3, 4, 5], 1)],
                        note=lambda text: None)
print(graphs)
"""  # arguments: the cache folder, and the size in bytes beyond which no file can grow


def test_processes_can_build_the_same_graphs_at_once(nano: Checkpoint, tmp_path: Path) -> None:
    """Of three processes all succeed, and one complete result stays."""
    words = [sys.executable, "-c", BUILD, str(tmp_path)]
    builders = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for builder in builders:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "ready\n"  # pytest's timeout is the deadline
    for builder in builders:
        assert builder.stdin is not None
        builder.stdin.write("go\n")
        builder.stdin.flush()
    outputs = [builder.communicate(timeout=TIMEOUT_S)[0] for builder in builders]

    notes: list[str] = []
    folder = prepared(nano, tmp_path, notes).directory
    assert outputs == [f"{Graphs(folder)}\n"] * 3
    assert notes == []
    assert list((tmp_path / "graphs").iterdir()) == [folder]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """A write that fails is an error that names the folder, and what was written is removed."""
    words = [sys.executable, "-c", BUILD, str(tmp_path), "1000000"]
    done = subprocess.run(words, input="go\n", capture_output=True, text=True, check=False, timeout=TIMEOUT_S)

    assert f"EngineError: can't write the model's graphs to {tmp_path / 'graphs'}: File too large" in done.stderr
    assert list((tmp_path / "graphs").iterdir()) == []


def test_without_a_writable_cache_the_graphs_are_temporary(nano: Checkpoint, tmp_path: Path) -> None:
    """They are built for this run, with a note, and removed with the engine."""
    (tmp_path / "file").write_text("not a folder")
    notes: list[str] = []
    graphs = prepared(nano, tmp_path / "file", notes)

    assert graphs.temporary
    assert set(GRAPHS) < set(contents(graphs.directory))
    assert "the prepared model is for this run only" in notes[1]
    graphs.close()
    assert not graphs.directory.exists()


def test_unfinished_folders_are_removed_after_a_day(nano: Checkpoint, tmp_path: Path) -> None:
    """A killed process leaves one behind; that of a process that still works stays."""
    old, new = tmp_path / "graphs" / ".making-old", tmp_path / "graphs" / ".making-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 25 * 3600,) * 2)
    prepared(nano, tmp_path)

    assert not old.exists()
    assert new.exists()


def test_a_missing_tensor_leaves_nothing_behind(write: Any, nano_tensors: Mapping[str, Any], tmp_path: Path) -> None:
    """It is found while the graphs are built, and the error names it."""
    name = "decoder.model.decoder.layers.2.fc2.weight"
    folder = write(tensors={key: values for key, values in nano_tensors.items() if key != name})

    with pytest.raises(CheckpointError, match=name):
        prepared(find_checkpoint(str(folder), folder), tmp_path / "cache")
    assert list((tmp_path / "cache" / "graphs").iterdir()) == []


def test_a_weight_that_is_not_finite_is_an_error(write: Any, nano_tensors: Mapping[str, Any], tmp_path: Path) -> None:
    """The checkpoint is damaged; the error, which is an EngineError, names the tensor."""
    name = "audio_encoder.decoder.layers.1.lstm.weight_hh_l0"
    folder = write(tensors={**nano_tensors, name: np.full_like(nano_tensors[name], np.nan)})

    with pytest.raises(EngineError, match=name):
        prepared(find_checkpoint(str(folder), folder), tmp_path / "cache")


def test_both_names_of_weight_norm_give_the_same_graphs(
    write: Any, nano: Checkpoint, nano_tensors: Mapping[str, Any], graphs_cache: Path, tmp_path: Path
) -> None:
    """Checkpoints of 2023 have weight_g and weight_v."""
    new = "parametrizations.weight.original"
    old = {key.replace(f"{new}0", "weight_g").replace(f"{new}1", "weight_v"): v for key, v in nano_tensors.items()}
    folder = write(tensors=old)
    assert old.keys() != nano_tensors.keys()

    assert hashes(prepared(find_checkpoint(str(folder), folder), tmp_path).directory) == hashes(
        prepared(nano, graphs_cache).directory
    )


def test_a_weight_norm_direction_of_zeros_is_an_error(
    write: Any, nano_tensors: Mapping[str, Any], tmp_path: Path
) -> None:
    """Dividing zero by its norm would give NaN in every clip."""
    name = "audio_encoder.decoder.layers.17.conv.parametrizations.weight.original1"
    folder = write(tensors={**nano_tensors, name: np.zeros_like(nano_tensors[name])})

    with pytest.raises(CheckpointError, match="rows of zeros"):
        prepared(find_checkpoint(str(folder), folder), tmp_path)


def test_position_embeddings_are_cosines_then_sines() -> None:
    """Their wavelengths grow by a constant ratio, from 1 to 10,000 times 2π."""
    table = sinusoids(20, 8)

    assert table[0].tolist() == [1] * 4 + [0] * 4
    assert np.allclose(table[7], [f(7 / 10_000 ** (i / 3)) for f in (np.cos, np.sin) for i in range(4)], atol=1e-6)


def test_near_tokens_have_position_buckets_of_their_own(nano: Checkpoint) -> None:
    """Tokens before and after have different buckets; the largest distances share the last one of their side."""
    buckets = position_buckets(Shape.of(nano.config).text)
    middle = len(buckets) // 2

    assert buckets[middle - 8 : middle + 9] == [8, 7, 6, 5, 4, 3, 2, 1, 0, 17, 18, 19, 20, 21, 22, 23, 24]
    assert (buckets[0], buckets[-1]) == (15, 31)
