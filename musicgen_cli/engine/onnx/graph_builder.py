"""
Writes an ONNX graph node by node, with its weights in a file beside it.

The only file that imports onnx. Weights are streamed from the checkpoint to the file, so writing a graph takes the
memory of one tensor; both files are hashed as they are written. `Graph.linear` alone decides the precision in which a
matrix is stored.
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

from musicgen_cli import atomic
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine.quantization.codes import (
    ACTIVATION_MINIMUM,
    BLOCK,
    INT8_MAX,
    UINT8_MAX,
    UINT8_ZERO_POINT,
    as_uint8,
    quantize_blocks,
    quantize_per_channel,
)

Array = NDArray[Any]
Dims = Sequence[int | str]  # a string names a dimension that is known only at run time

FLOAT, INT64, INT32, INT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.INT8

_OPSET, _IR = 20, 10  # Gelu needs opset 20; ONNX Runtime 1.17 and later read both
_CONTRIB_DOMAIN = "com.microsoft"  # of ONNX Runtime's own operators: ContribOperators.md
_EXTERNAL_DATA_BYTES = 1024  # tensors of this size and larger go to the file beside the graph
_FLOAT16_MAX = float(np.finfo(np.float16).max)
_INT8_INPUTS = 4  # an accuracy_level of MatMulNBits, and the one at which other rows don't change a row
_ALIGN = 4096  # so that ONNX Runtime can map a tensor instead of reading it


class Graph:
    """Writes a graph to `<directory>/<name>.onnx` and its weights to `<name>.data`; a context manager."""

    def __init__(self, directory: Path, name: str, *, weight_bits: int = 32, signed_weights: bool = False) -> None:
        """
        Start an empty graph.

        Args:
            weight_bits: Of the matrices in `linear`: 32, float32; 16, float16 that is cast to float32 when it is used;
                8, int8 that is multiplied with activations quantized to uint8.
            signed_weights: Store 8-bit weights as int8, not as uint8 with a zero point. Results are the same to the
                bit; which is faster depends on the processor, see `hardware.has_vnni`.
        """
        self._weight_bits = weight_bits
        self._signed_weights = signed_weights
        self._path = directory / f"{name}.onnx"
        self._data_path = directory / f"{name}.data"
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0
        self._digest = hashlib.sha256()
        self.files: dict[str, tuple[int, str]] = {}  # name → bytes and SHA-256, once both are written

    def __enter__(self) -> Graph:
        """Open the weights' file."""
        self._data = atomic.open_private(self._data_path)
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        """Write the graph itself, unless an exception ended its construction."""
        size = self._data.tell()
        self._data.close()
        if kind is not None:
            return
        graph = helper.make_graph(self._nodes, self._path.stem, self._inputs, self._outputs, self._weights)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_CONTRIB_DOMAIN, 1)]
        content = helper.make_model(graph, opset_imports=opsets, ir_version=_IR).SerializeToString(deterministic=True)
        with atomic.open_private(self._path) as file:
            file.write(content)
        self.files = {
            self._path.name: (len(content), hashlib.sha256(content).hexdigest()),
            self._data_path.name: (size, self._digest.hexdigest()),
        }

    def input(self, name: str, kind: int, shape: Dims) -> str:
        """Declare an input; `kind` is FLOAT, INT64, INT32 or INT8."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(self, name: str, shape: Dims, kind: int = FLOAT) -> None:
        """Declare the value of that name as an output."""
        self._outputs.append(helper.make_tensor_value_info(name, kind, list(shape)))

    def weight(self, values: Array) -> str:
        """Add a tensor as an initializer and return its name."""
        name = self._new_name("w")
        values = np.ascontiguousarray(values)
        if values.nbytes < _EXTERNAL_DATA_BYTES:
            self._weights.append(numpy_helper.from_array(values, name))
            return name
        self._write(b"\0" * (-self._data.tell() % _ALIGN))
        tensor = TensorProto(name=name, dims=values.shape, data_location=TensorProto.EXTERNAL)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
        location = {"location": self._data_path.name, "offset": self._data.tell(), "length": values.nbytes}
        for key, value in location.items():
            tensor.external_data.add(key=key, value=str(value))
        self._weights.append(tensor)
        self._write(values.data.cast("B"))
        return name

    def ints(self, *values: int) -> str:
        """Add a vector of int64; equal constants are stored once."""
        return self._constant(np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        """Add a float32 scalar; equal constants are stored once."""
        return self._constant(np.array(value, np.float32))

    def node(self, op: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """
        Add a node with one output and return the output's name.

        Args:
            inputs: Names of values; "" leaves an optional input out.
            to: The output's name; None: a new name.
        """
        return self.nodes(op, *inputs, to=(to or self._new_name(op),), **attributes)[0]

    def nodes(self, op: str, *inputs: str, to: Sequence[str], domain: str = "", **attributes: Any) -> Sequence[str]:
        """Add a node whose outputs are named `to`, and return those names."""
        self._nodes.append(helper.make_node(op, inputs, to, domain=domain, **attributes))
        return to

    def contrib_nodes(self, op: str, *inputs: str, to: Sequence[str], **attributes: Any) -> Sequence[str]:
        """Add a node of ONNX Runtime's contrib operators, as `nodes` does."""
        return self.nodes(op, *inputs, to=to, domain=_CONTRIB_DOMAIN, **attributes)

    def linear(
        self,
        x: str,
        *weights: FloatArray,
        keep_float32: bool = False,
        input_activation: str | None = None,
        in_blocks: bool = False,
    ) -> str:
        """
        Multiply by matrices, shaped (out, in) as in torch; the products of several are concatenated.

        Args:
            keep_float32: Store these matrices as float32 in any case.
            input_activation: The activation, of ACTIVATIONS, whose output `x` is, if it is one.
            in_blocks: In 8 bits, have a scale for each block of weights: slower and more accurate.
        """
        weight = np.concatenate(weights).T
        if keep_float32 or self._weight_bits == 32:
            return self.node("MatMul", x, self.weight(weight))
        if self._weight_bits == 16:
            stored = weight.astype(np.float16) if np.abs(weight).max() <= _FLOAT16_MAX else weight
            return self.node("MatMul", x, self._cast_to_float32(self.weight(stored)))
        if in_blocks:
            return self._linear_in_blocks(x, weight)
        return self._linear_int8(x, weight, None if input_activation is None else ACTIVATION_MINIMUM[input_activation])

    def activation(self, name: str, x: str) -> str:
        """Apply one of ACTIVATIONS."""
        if name == "relu":
            return self.node("Relu", x)
        return self.node("Gelu", x, approximate="tanh" if name == "gelu_new" else "none")

    def layer_norm(self, x: str, weight: FloatArray, bias: FloatArray) -> str:
        """Normalise the last axis as torch.nn.LayerNorm does, with its epsilon."""
        return self.node("LayerNormalization", x, self.weight(weight), self.weight(bias), axis=-1, epsilon=1e-5)

    def _linear_in_blocks(self, x: str, weight: FloatArray) -> str:
        """Multiply in 8 bits by a matrix of shape ``(in, out)``, with a scale for each block."""
        codes, scales = quantize_blocks(weight)
        (product,) = self.contrib_nodes(
            "MatMulNBits",
            *(x, self.weight(as_uint8(codes)), self.weight(scales.ravel())),
            to=[self._new_name("MatMulNBits")],
            K=weight.shape[0],
            N=weight.shape[1],
            bits=8,
            block_size=BLOCK,
            accuracy_level=_INT8_INPUTS,
        )
        return product

    def _linear_int8(self, x: str, weight: FloatArray, minimum: float | None) -> str:
        """
        Multiply in 8 bits, as codes.py describes.

        A row of zeros is divided by its largest magnitude, 0. Whatever codes that gives, their product is multiplied by
        0 again.

        Args:
            weight: Shape ``(in, out)``.
            minimum: A lower bound of `x`, which becomes code 0; None for symmetric quantization.
        """
        codes, weight_scales = quantize_per_channel(weight)
        if minimum:
            x = self.node("Sub", x, self.scalar(minimum))
        row_max = self.node("ReduceMax", self.node("Abs", x) if minimum is None else x, self.ints(-1))
        scale = self.scalar(1 / INT8_MAX if minimum is None else 1 / UINT8_MAX)
        zero_point = self.weight(np.array(UINT8_ZERO_POINT if minimum is None else 0, np.uint8))
        weight_zero_point = self.weight(
            np.array(0, np.int8) if self._signed_weights else np.array(UINT8_ZERO_POINT, np.uint8)
        )
        quantized = self.node("QuantizeLinear", self.node("Div", x, row_max), scale, zero_point)
        (product,) = self.contrib_nodes(
            "MatMulIntegerToFloat",
            quantized,
            self.weight(codes if self._signed_weights else as_uint8(codes)),
            scale,
            self.weight(weight_scales),
            zero_point,
            weight_zero_point,
            to=[self._new_name("MatMulIntegerToFloat")],
        )
        product = self.node("Mul", product, row_max)
        if minimum:
            column_sums = codes.sum(axis=0, dtype=np.int64)
            product = self.node("Add", product, self.weight((minimum * weight_scales * column_sums).astype(np.float32)))
        return product

    def _cast_to_float32(self, values: str) -> str:
        """Add a Cast; not with `node`, as the attribute `to` of this operator is a parameter of `node`."""
        result = self._new_name("Cast")
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

    def _new_name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}.{self._count}"


class UnwrittenGraph(Graph):
    """Takes a graph and writes nothing: to read the tensors that it needs, with all their checks."""

    def __init__(self) -> None:
        super().__init__(Path(), "")

    def __enter__(self) -> UnwrittenGraph:
        """Open nothing."""
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        """Write nothing."""

    def weight(self, values: Array) -> str:  # noqa: ARG002  # the signature of a graph
        """Return a new name; the values aren't kept."""
        return self._new_name("w")
