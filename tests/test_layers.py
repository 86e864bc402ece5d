from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "musicgen_cli"

BELOW = {
    "errors": set(),
    "limits": set(),
    "printable": set(),
    "extras": {"errors"},
    "settings": {"errors", "limits"},
    "audio": {"errors", "printable"},
    "contract": {"errors", "limits", "audio"},
    "store": {"errors", "limits", "audio"},
    "checkpoint": {"errors", "extras", "limits", "audio"},
    "engine": {"checkpoint", "contract", "errors", "extras", "limits", "settings", "audio"},
    "actions": {
        "checkpoint",
        "contract",
        "engine",
        "errors",
        "extras",
        "limits",
        "printable",
        "settings",
        "store",
        "audio",
    },
    "api": {"actions", "checkpoint", "engine", "errors", "extras", "settings", "store"},
    "runner": {"actions", "engine", "errors", "settings", "store"},
    "mcp_server": {"actions", "contract", "errors", "limits", "printable", "settings", "store"},
    "service": {"contract", "engine", "errors", "extras", "limits", "printable", "settings", "audio"},
}

ONLY_IN = {
    "httpx": {"engine/client.py", "checkpoint/hub.py"},
    "huggingface_hub": {"checkpoint/hub.py"},
    "stamina": {"engine/client.py"},
    "onnx": {"engine/onnx/graph_builder.py"},
    "onnxruntime": {"engine/onnx/engine.py", "engine/onnx/decoder.py"},
    "torch": {"engine/torch/engine.py"},
    "transformers": {"engine/torch/engine.py"},
    "fastapi": {"service/"},
    "mcp": {"mcp_server.py"},
    "soundfile": {"audio/encode.py"},
    "sounddevice": {"audio/speaker.py"},
    "prometheus_client": {"service/metrics.py"},
    "ray": {"service/cluster.py"},
    "typer": {"cli/"},
    "rich": {"cli/"},
    "click": set(),
}


def imports_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each imported module and name of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.module or "", alias.name


def files_of(layer: str) -> list[Path]:
    folder = PACKAGE / layer
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{layer}.py"]


@pytest.mark.parametrize("layer", BELOW)
def test_a_layer_imports_only_what_lies_below_it(layer: str) -> None:
    """The arrows of the layout point one way."""
    named = set()
    files = files_of(layer)
    assert files
    for path in files:
        for module, name in imports_of(path):
            if module == "musicgen_cli":
                named.add(name)
            elif module.startswith("musicgen_cli."):
                named.add(module.split(".")[1])
    assert named - {"__version__"} <= BELOW[layer] | {layer}


def test_actions_know_engines_by_their_seam_alone() -> None:
    """No action names an implementation."""
    for path in files_of("actions"):
        modules = {module for module, _ in imports_of(path) if module.startswith("musicgen_cli.engine")}
        assert modules <= {"musicgen_cli.engine.base", "musicgen_cli.engine.fleet"}


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_foreign_package_has_one_home(package: str) -> None:
    """What could be replaced is replaced in one file."""
    homes = set()
    for path in PACKAGE.rglob("*.py"):
        if any(module.split(".")[0] == package for module, _ in imports_of(path)):
            homes.add(str(path.relative_to(PACKAGE)))
    assert {home for home in homes if not any(home.startswith(allowed) for allowed in ONLY_IN[package])} == set()
