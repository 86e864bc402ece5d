"""
Adds the native decoder to a wheel or an editable install, if there is a C compiler; see pyproject.toml.

A compiler that is missing or fails is no error: a line of the build's output says so, and the package runs a decoder
step on ONNX Runtime instead. For a release, PLATFORM_VARIABLE names what the wheel is for, and then it is one.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parents[1]))  # Hatchling runs this file from anywhere

from native.compile import PACKAGE, PLATFORMS, BuildError, compile_library, library_name
from native.wheels import ANY, PLATFORM_VARIABLE


class NativeDecoderHook(BuildHookInterface[Any]):
    """Compiles the library, and gives the wheel that has it the tag of its platform."""

    PLUGIN_NAME = "custom"
    _scratch: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, before Hatchling collects the files; `version` is "standard" or "editable"."""
        platform = os.environ.get(PLATFORM_VARIABLE)
        target = PLATFORMS[platform] if platform and platform != ANY else None
        name = f"libmusicgen.{target.suffix}" if target else library_name()
        if version == "editable":  # the package is used where it lies, so the library goes there, too
            library = Path(self.root, PACKAGE, name)
            library.unlink(missing_ok=True)
        else:
            self._scratch = Path(tempfile.mkdtemp(prefix="musicgen-"))
            library = self._scratch / name
        if platform == ANY:
            return
        try:
            compile_library(library, target)
        except BuildError as err:
            if platform:
                raise
            self.app.display_warning(f"the native decoder is left out, ONNX Runtime will be used instead: {err}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{target.tag if target else _tag_of_this_machine()}"
        if self._scratch:
            build_data["force_include"][str(library)] = str(PACKAGE / name)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove the library again; the wheel has it."""
        if self._scratch:
            shutil.rmtree(self._scratch)


def _tag_of_this_machine() -> str:
    if sys.platform == "darwin":  # sysconfig may name a universal build, but the library is of one processor
        from packaging.tags import platform_tags

        return next(iter(platform_tags()))
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
