"""The memory and the processor of this machine, and what a model needs of them."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from musicgen_cli.errors import MemoryNeededError
from musicgen_cli.text import size

if TYPE_CHECKING:
    from musicgen_cli.checkpoint.shape import DecoderShape, Shape
    from musicgen_cli.checkpoint.tensors import Tensors

_PROCESS_BYTES = 110_000_000  # Python, numpy, ONNX Runtime with its threads, and decoding a chunk of audio
_ROWS = 2  # of a guided sequence
_RESIDENT_WEIGHTS = ("decoder.", "audio_encoder.decoder.", "audio_encoder.quantizer.")
_TEXT_WEIGHTS = ("text_encoder.", "enc_to_dec_proj.", "audio_enc_to_dec_proj.")
USED_WEIGHTS = (*_TEXT_WEIGHTS, *_RESIDENT_WEIGHTS)  # prefixes of the tensors that engines use
_TEXT_FACTOR = 1.2  # memory of encoding a prompt, as a multiple of the weights used for it
_MIN_WEIGHTS_FOR_THREADS = 1 << 19  # multiplied in 10 us, which is as long as waking a thread takes
_MUCH_BYTES = 1_000_000_000  # that clips at once may take before it is said
_MAX_SLOTS = 8  # with more, hardly more clips are finished in the same time: docs/benchmarks.md

# Instruction sets by which ONNX Runtime chooses its kernels for the CPU, as Linux calls them (onnxruntime 1.32,
# core/mlas/lib/platform.cpp).
_KERNEL_FLAGS = (
    *("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_tile", "amx_int8"),
    *("asimdhp", "asimddp", "i8mm", "bf16", "sve", "sme"),
)


def estimate_memory(shape: Shape, tensors: Tensors, *, steps: int, int8: bool) -> tuple[int, int]:
    """
    Estimate the peak memory of a process that makes the longest clip.

    It is the sum of the process itself, one copy of the resident weights (ONNX Runtime repacks what it maps for its
    kernels), and the larger of two things that are never needed at the same time: the weights that encode a prompt, and
    the KV cache of every layer, row and position.

    Args:
        steps: Of the longest sequence.
        int8: Whether the decoder has 8-bit weights and an int8 KV cache.

    Returns:
        The peak with one clip, and what each further clip at the same time adds, in bytes.
    """
    decoder = shape.decoder
    positions = decoder.prefix_positions + steps
    per_clip = 2 * decoder.layers * _ROWS * positions * decoder.width * (1 if int8 else 4)
    cross = 4 * decoder.cross_weights
    resident = tensors.float32_bytes(*_RESIDENT_WEIGHTS) - cross - (3 * decoder.step_weights if int8 else 0)
    text = round((tensors.float32_bytes(*_TEXT_WEIGHTS) + cross) * _TEXT_FACTOR / (2 if int8 else 1))
    return _PROCESS_BYTES + resident + max(text, per_clip), per_clip


def default_slots(per_clip: int, free: int | None) -> int:
    """
    Return how many clips to decode at once: 8, or as many as fit into the memory.

    Args:
        per_clip: Bytes that each further clip takes.
        free: Bytes that are left beside the model and a first clip; None if unknown.
    """
    return _MAX_SLOTS if free is None else min(_MAX_SLOTS, 1 + free // per_clip)


def memory_note(slots: int, peak: int, per_clip: int) -> str | None:
    """
    Return a line about what clips take that are made at once, None if that isn't much.

    Args:
        slots: Clips at once.
        peak: Of a process that makes one, in bytes.
        per_clip: What each further clip takes, in bytes.
    """
    total = peak + (slots - 1) * per_clip
    if slots == 1 or total < _MUCH_BYTES:
        return None
    return f"up to {slots} clips at once: they take up to {size(total)} of memory, one alone {size(peak)}"


def check_slots(slots: int, per_clip: int, free: int | None) -> None:
    """
    Refuse more clips at once than fit into memory.

    Args:
        slots: That were asked for.
        per_clip: What each further clip takes, in bytes.
        free: What is left beside the model and a first clip, in bytes; None if it is unknown.

    Raises:
        MemoryNeededError: They don't fit.
    """
    if free is not None and (needed := (slots - 1) * per_clip) > free:
        raise MemoryNeededError(
            f"{slots} slots need about {size(needed)} of memory beside the model, {size(free)} is free",
            hint=f"`--slots {1 + free // per_clip}` fits, or leave --slots out",
        )


def check_memory(name: str, needed: int, free: int | None) -> None:
    """
    Refuse a model that doesn't fit into memory, before the machine swaps or the kernel kills the process.

    Args:
        name: The model's name.
        needed: Bytes that it needs.
        free: Bytes that are free; None if unknown.

    Raises:
        MemoryNeededError: `needed` is more than `free`.
    """
    if free is not None and needed > free:
        raise MemoryNeededError(
            f"the model {name!r} needs about {size(needed)} of memory, {size(free)} is free",
            hint="close other programs, or choose a smaller model with --model",
        )


def free_memory(root: Path = Path("/")) -> int | None:
    """
    Return how many more bytes this process can allocate.

    That is the least of what the machine, its control groups and the limit on its address space leave; None where that
    is unknown, which is anywhere but on Linux.

    Args:
        root: The directory that contains proc and sys.
    """
    available = [*_machine(root), *_cgroups(root), *_address_space(root)]
    return max(0, min(available)) if available else None


def processors() -> set[int]:
    """Return the numbers of the processors on which this process may run."""
    return set(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))


def allowance(root: Path = Path("/")) -> float | None:
    """
    Return how many processors' time the control groups grant to this process; None if they don't limit it.

    Args:
        root: The directory of proc and sys.
    """
    return min(_allowances(root), default=None)


def cores(root: Path = Path("/")) -> int:
    """
    Return how many threads can compute at once: one for each physical core, but no more than control groups allow.

    A second thread on a core only slows down the first. Threads beyond the allowance use it up sooner, and all of them
    are stopped until the next period: two threads on an allowance of one are half as fast as one thread.

    Args:
        root: The directory of proc and sys.
    """
    siblings = set()
    for cpu in processors():
        path = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        siblings.add(_read(path) or str(cpu))
    allowed = allowance(root)
    return len(siblings) if allowed is None else max(1, min(len(siblings), int(allowed)))


def default_threads(shape: DecoderShape) -> int:
    """
    Return how many threads compute one operation of a model: `cores`, or one if its matrices are small.

    Threads that share a small matrix would wait for each other longer than one of them computes.
    """
    return cores() if shape.width * shape.ffn >= _MIN_WEIGHTS_FOR_THREADS else 1


@cache  # called for each graph, and reading /proc/cpuinfo takes milliseconds with many cores
def has_vnni(root: Path = Path("/")) -> bool:
    """
    Return whether this is an x86 processor with VNNI, where int8 weights are faster than uint8 (docs/benchmarks.md).

    On other x86 processors sums with int8 weights aren't even exact, unless ONNX Runtime converts the weights to uint8.

    Args:
        root: The directory that contains proc.
    """
    return re.search(r"^flags\s*:.* avx(?:512)?_vnni\b", _read(root / "proc/cpuinfo"), re.MULTILINE) is not None


@cache  # as `has_vnni`
def processor(root: Path = Path("/"), machine: str | None = None) -> str:
    """
    Return the kind of this processor as far as results depend on it: `x86_64 avx512f avx512_vnni`.

    ONNX Runtime and PyTorch choose their kernels by the instruction set, and the kernels add in different orders. Where
    the system doesn't list the instruction sets, as on macOS and Windows, it is the architecture alone.

    Args:
        root: The directory that contains proc.
        machine: The architecture, as `platform.machine()`.
    """
    name = (machine or platform.machine()).lower()
    name = {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)  # as Linux calls them
    line = re.search(r"^(?:flags|Features)\s*:(.*)", _read(root / "proc/cpuinfo"), re.MULTILINE)
    flags = set(line[1].split()) if line else set()
    return " ".join([name, *(flag for flag in _KERNEL_FLAGS if flag in flags)])


def _machine(root: Path) -> Iterator[int]:
    """Yield what the machine has available."""
    if match := re.search(r"^MemAvailable:\s*(\d+) kB", _read(root / "proc/meminfo"), re.MULTILINE):
        yield int(match[1]) * 1024


def _cgroups(root: Path) -> Iterator[int]:
    """Yield what each control group of this process leaves of memory."""
    for group, is_v2 in _groups(root, "memory"):
        if is_v2:
            yield from _cgroup(group, "memory.max", "memory.current", "inactive_file")
        else:
            yield from _cgroup(group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _allowances(root: Path) -> Iterator[float]:
    """Yield how many processors' time each control group of this process grants."""
    for group, is_v2 in _groups(root, "cpu"):
        if is_v2:
            words = _read(group / "cpu.max").split()
        else:
            words = [_read(group / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
        if len(words) == 2 and all(word.isdigit() and int(word) for word in words):  # no limit is "max", or -1
            yield int(words[0]) / int(words[1])


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """
    Yield the directory of each control group of this process, and whether it is one of version 2.

    Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1. A container may see its own group as the top one,
    while proc names it as the host does: so each directory on the way is one, whether or not it exists.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        home = root / "sys/fs/cgroup" / (controller if controllers else "")
        parts = [part for part in group.split("/") if part not in {"", ".."}]
        for depth in range(len(parts) + 1):
            yield home.joinpath(*parts[:depth]), not controllers


def _cgroup(group: Path, limit_name: str, usage_name: str, cache_name: str) -> Iterator[int]:
    """Yield what one control group leaves, counting page cache that can be dropped as free."""
    limit, usage = _read(group / limit_name).strip(), _read(group / usage_name).strip()
    if limit.isdigit() and usage.isdigit():  # no limit is the word "max", or a number beyond any machine
        droppable = re.search(rf"^{cache_name} (\d+)$", _read(group / "memory.stat"), re.MULTILINE)
        yield int(limit) - int(usage) + (int(droppable[1]) if droppable else 0)


def _address_space(root: Path) -> Iterator[int]:
    """Yield what the limit on the address space leaves (`ulimit -v`)."""
    limit = re.search(r"^Max address space\s+(\d+)", _read(root / "proc/self/limits"), re.MULTILINE)
    usage = re.search(r"^VmSize:\s*(\d+) kB", _read(root / "proc/self/status"), re.MULTILINE)
    if limit and usage:
        yield int(limit[1]) - int(usage[1]) * 1024


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
