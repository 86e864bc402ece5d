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

from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine.onnx.decoder_step import sinusoids
from musicgen_cli.engine.onnx.graph_cache import GRAPH_FORMAT, GRAPHS, MANIFEST, Graphs, graphs_of
from musicgen_cli.engine.onnx.text_encoder import position_buckets
from musicgen_cli.errors import CheckpointError, EngineError

STEPS = 1503


def halves(folder: Path, kv_bounds: Any) -> Any:
    assert all((folder / name).is_file() for name in GRAPHS)
    return kv_bounds / 2


def made(checkpoint: Checkpoint, cache: Path, notes: list[str] | None = None, *, precision: str = "int8") -> Graphs:
    return graphs_of(
        checkpoint,
        Shape.of(checkpoint.config),
        positions=STEPS,
        cache_dir=cache,
        precision=precision,
        calibrate=halves,
        note=(notes if notes is not None else []).append,
    )


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache apart from the engine's: its graphs are calibrated in earnest."""
    return tmp_path_factory.mktemp("graphs")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def hashes(folder: Path) -> dict[str, str]:
    files = json.loads((folder / MANIFEST).read_bytes())["files"]
    return {name: entry["sha256"] for name, entry in files.items()}


def test_graphs_are_made_once(nano: Checkpoint, tmp_path: Path) -> None:
    """The second time they are found, and nobody is told of work."""
    notes: list[str] = []
    first, second = made(nano, tmp_path, notes), made(nano, tmp_path, notes)

    assert first == second == Graphs(tmp_path / "graphs" / f"{nano.digest}-int8-v{GRAPH_FORMAT}")
    assert notes == ["preparing nano for ONNX Runtime, once"]
    assert set(GRAPHS) < set(content(first.directory))


def test_graphs_are_the_same_bytes_each_time(nano: Checkpoint, tmp_path: Path) -> None:
    """What a checkpoint becomes depends on nothing else."""
    assert content(made(nano, tmp_path / "a").directory) == content(made(nano, tmp_path / "b").directory)


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_are_valid_onnx(nano: Checkpoint, own_cache: Path, name: str) -> None:
    """The official checker agrees, the operators of ONNX Runtime aside."""
    onnx.checker.check_model(str(made(nano, own_cache).directory / name))


def flip(folder: Path) -> None:
    path = folder / "step.data"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(folder: Path) -> None:
    os.truncate(folder / "sound.data", 100)


def lose(folder: Path) -> None:
    (folder / "text.onnx").unlink()


def forget(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def of_another(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "checkpoint": "0" * 64}))


def of_nothing(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"files": []}')


def become_a_file(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("in the way")


@pytest.mark.parametrize("damage", [flip, cut, lose, forget, of_another, of_nothing, become_a_file])
def test_damaged_graphs_are_made_again(nano: Checkpoint, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """One flipped bit is enough; afterwards all is as it was, and nothing else lies around."""
    folder = made(nano, tmp_path).directory
    before = content(folder)
    damage(folder)

    assert content(made(nano, tmp_path).directory) == before
    assert list((tmp_path / "graphs").iterdir()) == [folder]


MAKE = """
import sys
from pathlib import Path
from musicgen_cli.checkpoint.checkpoint import find_checkpoint
from musicgen_cli.engine.onnx.graph_cache import graphs_of
from musicgen_cli.checkpoint.shape import Shape
if len(sys.argv) > 2:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
checkpoint = find_checkpoint("nano", Path("nowhere"))
print("ready", flush=True)
sys.stdin.readline()
made = graphs_of(checkpoint, Shape.of(checkpoint.config), positions=1503, cache_dir=Path(sys.argv[1]),
                 precision="int8", calibrate=lambda folder, widest: widest / 2, note=lambda text: None)
print(made)
"""


def test_processes_that_make_the_same_graphs_dont_meet(nano: Checkpoint, tmp_path: Path) -> None:
    """Three at once: all succeed, one result is kept, whole."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    makers = [subprocess.Popen([sys.executable, "-c", MAKE, str(tmp_path)], **pipes) for _ in range(3)]
    for maker in makers:
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        maker.stdin.write("go\n")
        maker.stdin.flush()
    answers = [maker.communicate()[0] for maker in makers]

    notes: list[str] = []
    folder = made(nano, tmp_path, notes).directory
    assert answers == [f"{Graphs(folder)}\n"] * 3
    assert notes == []
    assert list((tmp_path / "graphs").iterdir()) == [folder]


def test_no_room_leaves_nothing_half(tmp_path: Path) -> None:
    """A write that fails is an error that names the folder, and what was written is gone."""
    words = [sys.executable, "-c", MAKE, str(tmp_path), "1000000"]
    done = subprocess.run(words, input="go\n", capture_output=True, text=True, check=False)

    assert f"EngineError: can't keep the model's graphs in {tmp_path / 'graphs'}: File too large" in done.stderr
    assert list((tmp_path / "graphs").iterdir()) == []


def test_a_cache_that_cant_be_written_is_done_without(nano: Checkpoint, tmp_path: Path) -> None:
    """The graphs are made for this run, with a note, and removed with the engine."""
    (tmp_path / "file").write_text("not a folder")
    notes: list[str] = []
    graphs = made(nano, tmp_path / "file", notes)

    assert graphs.temporary
    assert set(GRAPHS) < set(content(graphs.directory))
    assert "serves this run only" in notes[1]
    graphs.close()
    assert not graphs.directory.exists()


def test_what_was_left_half_made_is_removed_after_a_day(nano: Checkpoint, tmp_path: Path) -> None:
    """A killed process leaves a folder; another one's that is still at work stays."""
    old, new = tmp_path / "graphs" / ".making-old", tmp_path / "graphs" / ".making-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 25 * 3600,) * 2)
    made(nano, tmp_path)

    assert not old.exists()
    assert new.exists()


def test_a_checkpoint_that_doesnt_fit_leaves_nothing(
    write: Any, nano_tensors: Mapping[str, Any], tmp_path: Path
) -> None:
    """A missing tensor is found while graphs are made, and named."""
    name = "decoder.model.decoder.layers.2.fc2.weight"
    folder = write(tensors={key: values for key, values in nano_tensors.items() if key != name})

    with pytest.raises(CheckpointError, match=name):
        made(find_checkpoint(str(folder), folder), tmp_path / "cache")
    assert list((tmp_path / "cache" / "graphs").iterdir()) == []


def test_a_weight_that_is_no_number_is_found(write: Any, nano_tensors: Mapping[str, Any], tmp_path: Path) -> None:
    """It is a damaged checkpoint, which is an engine's error too."""
    name = "audio_encoder.decoder.layers.1.lstm.weight_hh_l0"
    folder = write(tensors={**nano_tensors, name: np.full_like(nano_tensors[name], np.nan)})

    with pytest.raises(EngineError, match=name):
        made(find_checkpoint(str(folder), folder), tmp_path / "cache")


def test_both_namings_of_weight_norm_are_the_same_graphs(
    write: Any, nano: Checkpoint, nano_tensors: Mapping[str, Any], own_cache: Path, tmp_path: Path
) -> None:
    """Checkpoints of 2023 say weight_g and weight_v."""
    new = "parametrizations.weight.original"
    old = {key.replace(f"{new}0", "weight_g").replace(f"{new}1", "weight_v"): v for key, v in nano_tensors.items()}
    folder = write(tensors=old)
    assert old.keys() != nano_tensors.keys()

    assert hashes(made(find_checkpoint(str(folder), folder), tmp_path).directory) == hashes(
        made(nano, own_cache).directory
    )


def test_a_weight_without_direction_is_refused(write: Any, nano_tensors: Mapping[str, Any], tmp_path: Path) -> None:
    """Zero by zero would be a NaN in every clip."""
    name = "audio_encoder.decoder.layers.17.conv.parametrizations.weight.original1"
    folder = write(tensors={**nano_tensors, name: np.zeros_like(nano_tensors[name])})

    with pytest.raises(CheckpointError, match="rows of zeros"):
        made(find_checkpoint(str(folder), folder), tmp_path)


def test_positions_are_cosines_then_sines() -> None:
    """From 1 to 10,000 in equal ratios."""
    table = sinusoids(20, 8)

    assert table[0].tolist() == [1] * 4 + [0] * 4
    assert np.allclose(table[7], [f(7 / 10_000 ** (i / 3)) for f in (np.cos, np.sin) for i in range(4)], atol=1e-6)


def test_near_tokens_have_buckets_of_their_own_and_far_ones_share(nano: Checkpoint) -> None:
    """Mirrored for what comes before and after; the outermost is the last."""
    buckets = position_buckets(Shape.of(nano.config).text)
    middle = len(buckets) // 2

    assert buckets[middle - 8 : middle + 9] == [8, 7, 6, 5, 4, 3, 2, 1, 0, 17, 18, 19, 20, 21, 22, 23, 24]
    assert (buckets[0], buckets[-1]) == (15, 31)
