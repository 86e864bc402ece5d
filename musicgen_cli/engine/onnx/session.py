"""Loads a graph into ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from musicgen_cli.engine import hardware

RUNTIME = f"onnxruntime {ort.__version__}"  # as records name it


def open_session(
    path: Path, threads: int, *, keep_memory: bool, spin: bool = True, single_run: bool = False
) -> ort.InferenceSession:
    """
    Load one graph.

    Args:
        keep_memory: Keep working memory for the next run; for graphs that run often.
        spin: Let threads wait for the next run in a busy loop for a while, which takes a core for each.
        single_run: Spend little time and memory on preparation: weights aren't repacked for the kernels, and each is
            cast to float32 only when it is used.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.enable_cpu_mem_arena = keep_memory
    options.enable_mem_pattern = keep_memory
    options.log_severity_level = 4  # only fatal messages: errors are raised as well
    if not hardware.has_vnni():  # makes int8 weights exact, in a graph that was built on another machine
        options.add_session_config_entry("session.x64quantprecision", "1")
    if not spin:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if single_run:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # else all float16 is cast
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED  # the default order casts many weights early
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
