from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
pytest.importorskip("tokenizers", reason="needs the extra local")

from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine import hardware
from musicgen_cli.engine.onnx.engine import OnnxEngine
from musicgen_cli.errors import MemoryNeededError

MEMINFO = {"proc/meminfo": "MemTotal:  9000 kB\nMemFree:  10 kB\nMemAvailable:  1000 kB\n"}
CGROUP_V2 = {"proc/self/cgroup": "0::/user/job\n"}


def write_files(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "free"),
    [
        pytest.param({}, None, id="unknown"),
        pytest.param(MEMINFO, 1_024_000, id="machine"),
        pytest.param(
            {
                **MEMINFO,
                **CGROUP_V2,
                "sys/fs/cgroup/user/job/memory.max": "max",
                "sys/fs/cgroup/user/job/memory.current": "5",
            },
            1_024_000,
            id="cgroup v2 without a limit",
        ),
        pytest.param(
            {
                **MEMINFO,
                **CGROUP_V2,
                "sys/fs/cgroup/user/memory.max": "9000",
                "sys/fs/cgroup/user/memory.current": "8000",
                "sys/fs/cgroup/user/memory.stat": "anon 1\ninactive_file 500\n",
            },
            1_500,
            id="parent cgroup v2",
        ),
        pytest.param(
            {
                **MEMINFO,
                "proc/self/cgroup": "4:cpu,memory:/docker/abc\n1:name=systemd:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9000",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "9500",
                "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 200\n",
            },
            0,
            id="cgroup v1 over its limit",
        ),
        pytest.param(
            {
                **MEMINFO,
                "proc/self/limits": "Limit                     Soft Limit           Hard Limit           Units\n"
                "Max address space         500000               unlimited            bytes\n",
                "proc/self/status": "Name:\tx\nVmSize:\t     300 kB\n",
            },
            192_800,
            id="address space",
        ),
        pytest.param(
            {
                **MEMINFO,
                "proc/self/limits": "Max address space         unlimited            unlimited            bytes\n",
            },
            1_024_000,
            id="unlimited address space",
        ),
    ],
)
def test_free_memory_is_the_smallest_of_all_limits(tmp_path: Path, files: Mapping[str, str], free: int | None) -> None:
    """The machine's memory, the control groups of either version, and the process's address space."""
    assert hardware.free_memory(write_files(tmp_path, files)) == free


V2 = {"proc/self/cgroup": "0::/user/job\n"}
V1 = {"proc/self/cgroup": "4:cpu,cpuacct:/docker/abc\n3:memory:/\n1:name=systemd:/\n"}
PERIOD = {"sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("files", "allowed"),
    [
        pytest.param({}, None, id="no control groups"),
        pytest.param({**V2, "sys/fs/cgroup/user/job/cpu.max": "max 100000\n"}, None, id="v2 without a limit"),
        pytest.param({**V2, "sys/fs/cgroup/user/job/cpu.max": "150000 100000\n"}, 1.5, id="v2"),
        pytest.param(
            {
                **V2,
                "sys/fs/cgroup/user/cpu.max": "100000 100000\n",
                "sys/fs/cgroup/user/job/cpu.max": "400000 100000\n",
            },
            1,
            id="parent of v2",
        ),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5, id="v2 container"),
        pytest.param({**V1, **PERIOD, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n"}, None, id="v1 without a limit"),
        pytest.param({**V1, **PERIOD, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n"}, 2, id="v1 container"),
        pytest.param(
            {
                **V1,
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "25000\n",
                "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "50000\n",
            },
            0.5,
            id="v1",
        ),
        pytest.param({**V2, "sys/fs/cgroup/user/job/cpu.max": "?"}, None, id="unreadable"),
    ],
)
def test_the_allowance_of_control_groups_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Mapping[str, str], allowed: float | None
) -> None:
    """There are no more threads than it has whole processors, and at least one."""
    monkeypatch.setattr(hardware, "processors", lambda: {0, 1, 2, 3})
    root = write_files(tmp_path, files)

    assert hardware.allowance(root) == allowed
    assert hardware.cores(root) == (4 if allowed is None else max(1, int(allowed)))


def test_two_processors_of_one_core_are_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cores are counted among the processors that this process may use."""
    siblings = {
        f"sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list": f"{i % 2},{i % 2 + 2}" for i in range(4)
    }
    for usable, expected in (({0, 1, 2, 3}, 2), ({0, 2}, 1), ({1}, 1)):
        monkeypatch.setattr(hardware, "processors", lambda usable=usable: usable)

        assert hardware.cores(write_files(tmp_path, siblings)) == expected


@pytest.fixture
def control_group() -> Iterator[Path]:
    """Make a control group of its own that allows the time of one processor, and remove it."""
    for top, limits in (
        (Path("/sys/fs/cgroup/cpu"), {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "100000"}),
        (Path("/sys/fs/cgroup"), {"cpu.max": "100000 100000"}),
    ):
        group = top / f"musicgen-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            for name, value in limits.items():
                (group / name).write_text(value)
            yield group
        except OSError:
            continue
        else:
            return
        finally:
            group.rmdir()
    pytest.skip("needs to be root, and control groups that can be changed")


def test_a_real_control_group_limits_the_threads(control_group: Path) -> None:
    """`doctor` shows the processors, the allowance, and the threads that come of both."""
    command = f"echo $$ > '{control_group}/cgroup.procs' && exec '{sys.executable}' -m musicgen_cli doctor"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=100, check=False)
    usable = len(hardware.processors())

    assert (
        f"device\tcpu, {usable} processor{'s' * (usable > 1)}, of which a control group allows 1; 1 thread\n"
        in done.stdout
    ), done.stderr


def test_there_are_as_many_slots_as_fit_into_memory() -> None:
    """At least one and at most eight; eight where the free memory is unknown."""
    assert [hardware.default_slots(100, free) for free in (0, 99, 100, 250, 10_000, None)] == [1, 1, 2, 3, 8, 8]


def test_what_several_clips_take_is_said_if_it_is_much() -> None:
    """One clip, and those of a small model, are no news."""
    assert hardware.memory_note(8, 900_000_000, 200_000_000) == (
        "up to 8 clips at once: they take up to 2.3 GB of memory, one alone 900.0 MB"
    )
    assert hardware.memory_note(1, 4_000_000_000, 200_000_000) is None
    assert hardware.memory_note(8, 150_000_000, 10_000_000) is None


def test_more_slots_than_fit_into_memory_are_refused() -> None:
    """Before the machine swaps or the kernel kills the process; the hint says how many fit."""
    for slots, free in ((1, 0), (3, 200), (10_000, None)):
        hardware.check_slots(slots, 100, free)
    with pytest.raises(
        MemoryNeededError, match=r"8 slots need about 700 bytes of memory .*, 250 bytes is free"
    ) as caught:
        hardware.check_slots(8, 100, 250)
    assert "`--slots 3` fits" in str(caught.value.hint)


def test_there_is_at_least_one_core() -> None:
    """And there are no more cores than processors."""
    assert 1 <= hardware.cores() <= (os.cpu_count() or 1)


def test_a_small_model_is_computed_by_one_thread(nano: Checkpoint) -> None:
    """A larger one by a thread for each core."""
    small = Shape.of(nano.config).decoder

    assert hardware.default_threads(small) == 1
    assert hardware.default_threads(replace(small, width=1024, ffn=4096)) == hardware.cores()


@pytest.mark.parametrize(
    ("flags", "vnni"),
    [
        ("fpu avx2 avx512_vnni sse", True),
        ("fpu avx_vnni", True),
        ("fpu avx2 avx512f", False),
        ("fpu avx_vnni_int8", False),
    ],
)
def test_vnni_is_read_from_the_processors_flags(tmp_path: Path, flags: str, *, vnni: bool) -> None:
    """Where there is no /proc/cpuinfo, there is no VNNI."""
    files = {"proc/cpuinfo": f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: avx_vnni\n"}

    assert hardware.has_vnni(write_files(tmp_path, files)) is vnni
    assert not hardware.has_vnni(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("machine", "line", "name"),
    [
        ("AMD64", "flags\t\t: fpu avx2 sse avx512f avx", "x86_64 avx avx2 avx512f"),
        ("aarch64", "Features\t: fp asimd asimddp i8mm", "aarch64 asimddp i8mm"),
        ("arm64", None, "aarch64"),
    ],
)
def test_a_processor_is_named_by_what_results_depend_on(
    tmp_path: Path, machine: str, line: str | None, name: str
) -> None:
    """Its architecture, and the instruction sets that kernels are chosen by, where the system lists them."""
    root = write_files(tmp_path, {"proc/cpuinfo": f"processor\t: 0\n{line}\n"} if line else {})

    assert hardware.processor(root, machine) == name


def test_the_estimated_memory_is_near_the_measured_peak(
    nano: Checkpoint, session_cache: Path, engine: OnnxEngine
) -> None:
    """
    The peak of a process that makes a clip of 10 s is at most the estimate for 30 s, and at least 60 % of it.

    The fixture `engine` has built the graphs, so that the process only loads them.
    """
    program = (
        "import sys; from pathlib import Path; from musicgen_cli.contract import GenerateRequest;"
        "from musicgen_cli.engine.base import NullListener;"
        "from musicgen_cli.checkpoint.checkpoint import find_checkpoint;"
        "from musicgen_cli.engine.onnx.engine import OnnxEngine;"
        "e = OnnxEngine(find_checkpoint('nano', Path()), cache_dir=Path(sys.argv[1]), threads=1);"
        "e.generate(GenerateRequest(prompt='piano', duration=10.0), NullListener());"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    )
    words = [sys.executable, "-c", program, str(session_cache)]
    peak = int(subprocess.run(words, capture_output=True, text=True, check=True, timeout=100).stdout) * 1024
    estimate, _ = hardware.estimate_memory(Shape.of(nano.config), nano.tensors(), steps=1503, int8=True)

    assert 0.6 * estimate < peak <= estimate
