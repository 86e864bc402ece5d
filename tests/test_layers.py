"""The arrows of the house point one way, and a package that could be replaced is imported in one room."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "musicgen_cli"

GROUND = {
    *("_version", "atomic", "errors", "extras", "foreign", "limits", "network", "request_fields", "settings", "text"),
}

# What each room may import, beside itself; all but the ground itself may also import the ground. A folder stands for
# all that is in it, unless a part of it has a line of its own. `__init__`, `__main__` and `cli` may import everything.
BELOW = {
    "_version": set(),
    "foreign": set(),
    "atomic": {"foreign"},
    "errors": set(),
    "text": set(),
    "limits": {"text"},
    "extras": {"errors", "text"},
    "network": {"errors", "text"},
    "settings": {"errors", "foreign", "limits", "text"},
    "request_fields": {"limits", "text"},
    "audio": GROUND,
    "contract": GROUND | {"audio"},
    "store": GROUND | {"audio"},
    "checkpoint": GROUND,
    "engine": GROUND | {"audio", "checkpoint", "contract", "engine/decoding"},
    "engine/decoding": GROUND | {"audio", "checkpoint", "contract"},
    "engine/quantization": GROUND | {"checkpoint", "engine", "engine/decoding"},
    "engine/onnx": GROUND | {"checkpoint", "engine", "engine/decoding", "engine/quantization"},
    "engine/native": GROUND | {"checkpoint", "engine", "engine/decoding", "engine/onnx", "engine/quantization"},
    "engine/torch": GROUND | {"checkpoint", "engine", "engine/decoding"},
    "engine/registry": GROUND | {"checkpoint", "engine", "engine/native", "engine/onnx", "engine/torch"},
    "actions": GROUND | {"actions/models", "audio", "checkpoint", "contract", "engine", "engine/registry", "store"},
    "actions/models": GROUND
    | {"audio", "checkpoint", "contract", "engine", "engine/decoding", "engine/native", "engine/onnx"}
    | {"engine/quantization", "engine/registry"},
    "service": GROUND | {"audio", "contract", "engine"},
    "service/cluster": GROUND | {"actions", "engine", "service"},
    "mcp_arguments": GROUND,
    "mcp_tools": GROUND | {"actions", "mcp_arguments", "store"},
    "mcp_server": GROUND | {"actions", "mcp_tools", "store"},
    "api": GROUND | {"actions", "engine", "store"},
}

ENGINES_ARE_OPENED_IN = {"actions/engines.py"}
SEAM = {"musicgen_cli.engine.base", "musicgen_cli.engine.fleet"}

ONLY_IN = {
    "httpx": {
        *("network.py", "engine/client.py", "engine/responses.py", "checkpoint/hub.py", "checkpoint/hub_transport.py"),
    },
    "huggingface_hub": {"checkpoint/hub.py"},
    "stamina": {"engine/retry.py"},
    "yaml": {"checkpoint/audiocraft.py"},
    "pickle": set(),
    "onnx": {"engine/onnx/graph_builder.py"},
    "threadpoolctl": {"engine/quantization/float_decoder.py"},
    "onnxruntime": {"engine/onnx/session.py", "engine/onnx/decoder.py"},
    "torch": {"engine/torch/"},
    "transformers": {"engine/torch/model.py", "engine/torch/sound_encoder.py"},
    "fastapi": {"service/"},
    "mcp": {"mcp_server.py"},
    "soundfile": {"audio/encode.py", "audio/decode.py"},
    "sounddevice": {"audio/speaker.py"},
    "soxr": {"audio/source.py"},
    "prometheus_client": {"service/metrics.py"},
    "ray": {"service/cluster.py"},
    "typer": {"cli/"},
    "rich": {"cli/"},
    "click": set(),
}


def imports_of(path: Path) -> Iterator[str]:
    """Yield each imported module of a file; `from a import b` names `a.b` where that is a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            module = node.module or ""
            for alias in node.names:
                inner = PACKAGE.parent.joinpath(*module.split("."), alias.name)
                yield f"{module}.{alias.name}" if inner.is_dir() or inner.with_suffix(".py").is_file() else module


def room_of(module: str) -> str:
    """Name the room that a module of the package is in: the longest line of BELOW, else its first name."""
    parts = module.split(".")[1:]
    rooms = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    return next((room for room in reversed(rooms) if room in BELOW), rooms[0] if rooms else "__init__")


def files_of(room: str) -> list[Path]:
    folder = PACKAGE / room
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]
    return [path for path in files if room_of(module_of(path)) == room]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    """The arrows of the house point one way."""
    files = files_of(room)
    named = {room_of(module) for path in files for module in imports_of(path) if module.split(".")[0] == "musicgen_cli"}

    assert files
    assert named - BELOW[room] - {room} == set()


def test_every_file_is_in_a_room() -> None:
    """Nothing stands beside the house."""
    rooms = {room_of(module_of(path)) for path in PACKAGE.rglob("*.py")}

    assert rooms - BELOW.keys() == {"__init__", "__main__", "cli"}


def test_actions_know_engines_by_their_seam_alone() -> None:
    """Only what opens engines or prepares models names an implementation."""
    for path in files_of("actions"):
        if str(path.relative_to(PACKAGE)) in ENGINES_ARE_OPENED_IN:
            continue
        modules = {module for module in imports_of(path) if module.startswith("musicgen_cli.engine")}
        assert modules <= SEAM, path


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_foreign_package_has_one_home(package: str) -> None:
    """What could be replaced is replaced in one place."""
    homes = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if any(module.split(".")[0] == package for module in imports_of(path))
    }
    assert {home for home in homes if not any(home.startswith(allowed) for allowed in ONLY_IN[package])} == set()
