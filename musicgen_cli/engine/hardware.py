"""What this machine has to give, memory and cores, and what a model takes of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from musicgen_cli.checkpoint.shape import DecoderShape, Shape
from musicgen_cli.checkpoint.tensors import Tensors
from musicgen_cli.errors import MemoryNeededError
from musicgen_cli.text import size

_PROCESS_BYTES = 110_000_000  # Python, numpy, ONNX Runtime, its threads and what a piece of sound takes
_ROWS = 2  # of a guided take
_KEPT = ("decoder.", "audio_encoder.decoder.", "audio_encoder.quantizer.")
_TEXT = ("text_encoder.", "enc_to_dec_proj.")
USED = (*_TEXT, *_KEPT)
_TEXT_WORK = 1.2  # what reading takes beside its weights, in shares of these
_WORTH_SHARING = 1 << 19  # weights; ONNX Runtime multiplies by so many in 10 us, and takes some to wake a thread
_MOST_SLOTS = 8  # more than that hardly make more of it in the same time: docs/benchmarks.md


def memory_needed(shape: Shape, tensors: Tensors, *, steps: int, int8: bool) -> tuple[int, int]:
    """
    Reckon the peak of a process that makes the longest clip, in bytes, and what each further clip beside it adds.

    The process itself; each weight that is kept, once, for ONNX Runtime copies what it maps into the order that its
    kernels like; and what is larger, the weights that read the text, which are there only for that, or then the keys
    and values of every layer, row and step.

    Args:
        steps: Of the longest clip.
        int8: Whether the decoder has 8-bit weights and an int8 KV cache.
    """
    decoder = shape.decoder
    width = decoder.width
    each = 2 * decoder.layers * _ROWS * steps * width * (1 if int8 else 4)
    crossing = 2 * decoder.layers * width * width  # weights that belong to the text graph
    matrices = decoder.layers * (6 * width * width + 2 * width * decoder.ffn)  # those that 8 bits are for
    kept = tensors.float32_bytes(*_KEPT) - 4 * crossing - (3 * matrices if int8 else 0)
    text = round((tensors.float32_bytes(*_TEXT) + 4 * crossing) * _TEXT_WORK / (2 if int8 else 1))
    return _PROCESS_BYTES + kept + max(text, each), each


def slots(each: int, free: int | None) -> int:
    """
    Return how many clips to make side by side: 8, or what fits into the memory that is left.

    Args:
        each: What a clip adds, in bytes.
        free: Once the model and a first clip are there, in bytes; None is unknown.
    """
    return _MOST_SLOTS if free is None else min(_MOST_SLOTS, 1 + free // each)


def check_memory(name: str, needed: int, free: int | None) -> None:
    """
    Refuse a model that doesn't fit, before it drives the machine into swapping or the kernel into killing us.

    Args:
        name: Of the model.
        needed: In bytes.
        free: In bytes; None is unknown.

    Raises:
        MemoryNeededError: `needed` is more than `free`.
    """
    if free is not None and needed > free:
        raise MemoryNeededError(
            f"the model {name!r} needs about {size(needed)} of memory, {size(free)} is free",
            hint="close other programs, or take a smaller model with --model",
        )


def free_memory(root: Path = Path("/")) -> int | None:
    """
    Return how many bytes this process can still get.

    The least of what the machine, its control groups and the process's own limit leave; None where that can't be found
    out, which is anywhere but on Linux.

    Args:
        root: Where proc and sys are.
    """
    left = [*_machine(root), *_groups(root), *_limit(root)]
    return max(0, min(left)) if left else None


def cores() -> int:
    """Return how many physical cores this process may use; two threads of one core only disturb each other."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    siblings = set()
    for cpu in usable:
        try:
            siblings.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text("ascii"))
        except OSError:
            siblings.add(str(cpu))
    return len(siblings)


def threads(shape: DecoderShape) -> int:
    """
    Return how many threads compute one operation of a model: one for each core, as a rule.

    Where the largest matrix is small, they would wait for each other longer than one of them computes.
    """
    return cores() if shape.width * shape.ffn >= _WORTH_SHARING else 1


@cache  # each prompt opens a graph, and the kernel takes milliseconds to tell of many cores
def prefers_signed(root: Path = Path("/")) -> bool:
    """
    Tell whether 8-bit weights are multiplied faster if they have a sign: where x86 has VNNI (docs/benchmarks.md).

    Elsewhere on x86 such sums aren't even exact, unless ONNX Runtime counts the weights from 0 on first.

    Args:
        root: Where proc is.
    """
    return re.search(r"^flags\s*:.* avx(?:512)?_vnni\b", _text(root / "proc/cpuinfo"), re.MULTILINE) is not None


def _machine(root: Path) -> Iterator[int]:
    if found := re.search(r"^MemAvailable:\s*(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE):
        yield int(found[1]) * 1024


def _groups(root: Path) -> Iterator[int]:
    """Yield what each control group that this process is in leaves; Linux, Documentation/admin-guide/cgroup-v2.rst."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            home, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            home = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        parts = [part for part in group.split("/") if part not in {"", ".."}]
        for depth in range(len(parts) + 1):
            yield from _group(home.joinpath(*parts[:depth]), *names)


def _group(group: Path, limit: str, used: str, cache: str) -> Iterator[int]:
    most, now = _text(group / limit).strip(), _text(group / used).strip()
    if most.isdigit() and now.isdigit():  # no limit is the word "max", or a number beyond any machine
        found = re.search(rf"^{cache} (\d+)$", _text(group / "memory.stat"), re.MULTILINE)
        yield int(most) - int(now) + (int(found[1]) if found else 0)


def _limit(root: Path) -> Iterator[int]:
    most = re.search(r"^Max address space\s+(\d+)", _text(root / "proc/self/limits"), re.MULTILINE)
    now = re.search(r"^VmSize:\s*(\d+) kB", _text(root / "proc/self/status"), re.MULTILINE)
    if most and now:
        yield int(most[1]) - int(now[1]) * 1024


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
