"""
Writes one ONNX graph, node by node, with its weights beside it.

The only file that imports onnx. Weights go straight from the checkpoint to the file, so that writing a graph costs the
memory of one tensor; both files are hashed on their way out. Which numbers a matrix is kept in is decided in
`Graph.linear` alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine.onnx.quantize import FLOORS, STEPS, TO_EACH_SIDE, ZERO, quantize, unsigned

Array = NDArray[Any]
Dims = Sequence[int | str]  # a word is a length that is known only at run time

FLOAT, INT64, INT32, INT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.INT8

_OPSET, _IR = 20, 10  # Gelu is of 20; ONNX Runtime 1.17 and later read both
_MICROSOFT = "com.microsoft"  # operators of ONNX Runtime's own: ContribOperators.md
_OUTSIDE_BYTES = 1024  # larger tensors go to the file beside the graph
_FLOAT16_MOST = float(np.finfo(np.float16).max)
_ALIGN = 4096  # so that ONNX Runtime can map a tensor instead of reading it


class Graph:
    """A graph that is being written to `<directory>/<name>.onnx` and, its weights, `<name>.data`."""

    def __init__(self, directory: Path, name: str, *, bits: int = 32, signed: bool = False) -> None:
        """
        Begin.

        Args:
            bits: Of a weight in `linear`: 32, or 16, which become float32 as they are used, or 8, where what it is
                multiplied with has 8, too.
            signed: Keep weights of 8 bits with a sign. Results are the same to the bit; which is faster depends on the
                machine, see `hardware.prefers_signed`.
        """
        self._bits = bits
        self._signed = signed
        self._path = directory / f"{name}.onnx"
        self._data_path = directory / f"{name}.data"
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0
        self._digest = hashlib.sha256()
        self.files: dict[str, tuple[int, str]] = {}  # name → bytes and SHA-256, once it is whole

    def __enter__(self) -> Graph:
        """Open the weights' file."""
        self._data = self._data_path.open("wb")
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        """Write the graph itself, unless what made it failed."""
        size = self._data.tell()
        self._data.close()
        if kind is not None:
            return
        graph = helper.make_graph(self._nodes, self._path.stem, self._inputs, self._outputs, self._weights)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_MICROSOFT, 1)]
        content = helper.make_model(graph, opset_imports=opsets, ir_version=_IR).SerializeToString(deterministic=True)
        self._path.write_bytes(content)
        self.files = {
            self._path.name: (len(content), hashlib.sha256(content).hexdigest()),
            self._data_path.name: (size, self._digest.hexdigest()),
        }

    def input(self, name: str, kind: int, shape: Dims) -> str:
        """Declare an input; `kind` is FLOAT, INT64, INT32 or INT8."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(self, name: str, shape: Dims, kind: int = FLOAT) -> None:
        """Declare that the value of that name is an output."""
        self._outputs.append(helper.make_tensor_value_info(name, kind, list(shape)))

    def weight(self, values: Array) -> str:
        """Add a tensor and return its name."""
        name = self._name("w")
        values = np.ascontiguousarray(values)
        if values.nbytes < _OUTSIDE_BYTES:
            self._weights.append(numpy_helper.from_array(values, name))
            return name
        self._write(b"\0" * (-self._data.tell() % _ALIGN))
        tensor = TensorProto(name=name, dims=values.shape, data_location=TensorProto.EXTERNAL)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
        place = {"location": self._data_path.name, "offset": self._data.tell(), "length": values.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self._weights.append(tensor)
        self._write(values.data.cast("B"))
        return name

    def ints(self, *values: int) -> str:
        """Add a vector of whole numbers; equal ones are kept once."""
        return self._constant(np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        """Add a float32; equal ones are kept once."""
        return self._constant(np.array(value, np.float32))

    def node(self, op: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """Add a node with one result and return the result's name; an input "" is one that is left out."""
        return self.nodes(op, *inputs, to=(to or self._name(op),), **attributes)[0]

    def nodes(self, op: str, *inputs: str, to: Sequence[str], domain: str = "", **attributes: Any) -> Sequence[str]:
        """Add a node with several results, whose names are `to`."""
        self._nodes.append(helper.make_node(op, inputs, to, domain=domain, **attributes))
        return to

    def own(self, op: str, *inputs: str, to: Sequence[str], **attributes: Any) -> Sequence[str]:
        """Add a node of ONNX Runtime's own operators."""
        return self.nodes(op, *inputs, to=to, domain=_MICROSOFT, **attributes)

    def linear(self, x: str, *weights: FloatArray, exact: bool = False, after: str | None = None) -> str:
        """
        Multiply by matrices that lie as in torch, (out, in); several are one, their results side by side.

        Args:
            exact: In float32 in any case.
            after: The one of ACTIVATIONS that `x` comes from, if it does.
        """
        weight = np.concatenate(weights).T
        if exact or self._bits == 32:
            return self.node("MatMul", x, self.weight(weight))
        if self._bits == 16:
            kept = weight.astype(np.float16) if np.abs(weight).max() <= _FLOAT16_MOST else weight
            return self.node("MatMul", x, self._cast(self.weight(kept)))
        return self._linear_in_8_bits(x, weight, None if after is None else FLOORS[after])

    def activation(self, name: str, x: str) -> str:
        """Apply one of ACTIVATIONS."""
        if name == "relu":
            return self.node("Relu", x)
        return self.node("Gelu", x, approximate="tanh" if name == "gelu_new" else "none")

    def layer_norm(self, x: str, weight: FloatArray, bias: FloatArray) -> str:
        """Normalise the last axis as torch.nn.LayerNorm does, with its epsilon."""
        return self.node("LayerNormalization", x, self.weight(weight), self.weight(bias), axis=-1, epsilon=1e-5)

    def _linear_in_8_bits(self, x: str, weight: FloatArray, floor: float | None) -> str:
        """
        Multiply as `quantize` says.

        A row of zeros is divided by its largest value, 0; whatever codes come of that, their product is times 0 again.

        Args:
            weight: Shape ``(in, out)``.
            floor: What no value of `x` is below; None if both signs go equally far.
        """
        codes, scales = quantize(weight)
        if floor:
            x = self.node("Sub", x, self.scalar(floor))
        reach = self.node("ReduceMax", self.node("Abs", x) if floor is None else x, self.ints(-1))
        step = self.scalar(1 / TO_EACH_SIDE if floor is None else 1 / STEPS)
        nothing = self.weight(np.array(ZERO if floor is None else 0, np.uint8))
        no_weight = self.weight(np.array(0, np.int8) if self._signed else np.array(ZERO, np.uint8))
        rows = self.node("QuantizeLinear", self.node("Div", x, reach), step, nothing)
        (product,) = self.own(
            "MatMulIntegerToFloat",
            rows,
            self.weight(codes if self._signed else unsigned(codes)),
            step,
            self.weight(scales),
            nothing,
            no_weight,
            to=[self._name("MatMulIntegerToFloat")],
        )
        product = self.node("Mul", product, reach)
        if floor:
            whole = codes.sum(axis=0, dtype=np.int64)
            product = self.node("Add", product, self.weight((floor * scales * whole).astype(np.float32)))
        return product

    def _cast(self, values: str) -> str:
        """Turn values into float32; the attribute is called as the parameter of `node` that names its result."""
        result = self._name("Cast")
        self._nodes.append(helper.make_node("Cast", [values], [result], to=FLOAT))
        return result

    def _constant(self, values: Array) -> str:
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._constants:
            self._constants[key] = self.weight(values)
        return self._constants[key]

    def _write(self, content: bytes | memoryview) -> None:
        self._data.write(content)
        self._digest.update(content)

    def _name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}.{self._count}"
