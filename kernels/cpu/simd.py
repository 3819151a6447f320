"""Vectors of four numbers for Numba code: load, store, + - * and a 4x4 transpose, as LLVM vectors.

LLVM vectorizes plain loops, but not over arrays that might overlap, nor where lanes are permuted.
It lowers these vectors to SSE/AVX or NEON, whichever the CPU has.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, register_model

LANES = 4
_FLOAT, _SIZE = ir.FloatType(), ir.IntType(64)


class Vector(types.Type):
    """Four lanes of float32 or float64."""

    def __init__(self, lane: types.Float) -> None:
        self.lane = lane
        super().__init__(name=f"Vector({lane})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, _ir_vector(kind.lane))


def _ir_vector(lane: types.Float) -> ir.VectorType:
    return ir.VectorType(ir.FloatType() if lane.bitwidth == 32 else ir.DoubleType(), LANES)


def _lower_operator(function: Any, method: str) -> None:
    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and isinstance(args[0], Vector) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    infer_global(function)(Template)

    @lower_builtin(function, Vector, Vector)
    def lower(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        # "contract" allows fused multiply-add, which the scalar kernels allow too.
        return getattr(builder, method)(*args, flags=("contract",))


_lower_operator(operator.add, "fadd")
_lower_operator(operator.sub, "fsub")
_lower_operator(operator.mul, "fmul")


def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    pointer = builder.gep(context.make_array(kind)(context, builder, array).data, [index])
    return builder.bitcast(pointer, _ir_vector(kind.dtype).as_pointer())


@intrinsic
def load4(_context: Any, array: Any, index: Any) -> Any:
    """Load `array[index : index + 4]` of a contiguous array, without a bounds check."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_address(context, builder, signature.args[0], *args))
        value.align = array.dtype.bitwidth // 8
        return value

    return Vector(array.dtype)(array, index), codegen


@intrinsic
def load_pair(_context: Any, array: Any, index: Any) -> Any:
    """Load two neighbouring pixels of three channels, `array[index : index + 6]`, as two vectors.
    Their fourth lanes hold anything.

    `array` is uint8 of at least 8, of which no other byte is read, or float32, which must be
    readable one float past the second pixel.
    """

    def load_floats(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, array, *args)
        second = builder.gep(builder.bitcast(pointer, _FLOAT.as_pointer()), [_SIZE(3)])
        vectors = [builder.load(at) for at in (pointer, builder.bitcast(second, pointer.type))]
        for vector in vectors:
            vector.align = 4
        return context.make_tuple(builder, signature.return_type, vectors)

    def load_bytes(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        # Eight bytes that end within the array, shifted so that the first one is the pixel's.
        data = context.make_array(array)(context, builder, args[0])
        last = builder.sub(data.nitems, _SIZE(8))
        start = builder.select(builder.icmp_unsigned("<", args[1], last), args[1], last)
        pointer = builder.bitcast(builder.gep(data.data, [start]), _SIZE.as_pointer())
        word = builder.load(pointer)
        word.align = 1
        word = builder.lshr(word, builder.shl(builder.sub(args[1], start), _SIZE(3)))
        lanes = builder.bitcast(word, ir.VectorType(ir.IntType(8), 8))
        vectors = []
        for first in (0, 3):
            order = ir.Constant(
                ir.VectorType(ir.IntType(32), LANES), list(range(first, first + LANES))
            )
            four = builder.shuffle_vector(lanes, lanes, order)
            wide = builder.zext(four, ir.VectorType(ir.IntType(32), LANES))
            vectors.append(builder.sitofp(wide, ir.VectorType(_FLOAT, LANES)))
        return context.make_tuple(builder, signature.return_type, vectors)

    codegen = load_bytes if array.dtype == types.uint8 else load_floats
    return types.UniTuple(Vector(types.float32), 2)(array, index), codegen


@intrinsic
def store4(_context: Any, array: Any, index: Any, vector: Any) -> Any:
    """Store `vector` to `array[index : index + 4]`, without a bounds check."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target = _address(context, builder, signature.args[0], args[0], args[1])
        builder.store(args[2], target).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, index, vector), codegen


@intrinsic
def splat4(_context: Any, value: Any) -> Any:
    """Return a vector with `value` in all four lanes."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = _ir_vector(value)
        first_lane = builder.insert_element(
            ir.Constant(kind, ir.Undefined), args[0], ir.Constant(ir.IntType(32), 0)
        )
        return _shuffle(builder, first_lane, first_lane, 0, 0, 0, 0)

    return Vector(value)(value), codegen


@intrinsic
def transpose4(_context: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Return the four columns of a 4x4 matrix, given its four rows."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, b, c, d = args
        low_ab, high_ab = _shuffle(builder, a, b, 0, 4, 1, 5), _shuffle(builder, a, b, 2, 6, 3, 7)
        low_cd, high_cd = _shuffle(builder, c, d, 0, 4, 1, 5), _shuffle(builder, c, d, 2, 6, 3, 7)
        columns = [
            _shuffle(builder, low_ab, low_cd, 0, 1, 4, 5),
            _shuffle(builder, low_ab, low_cd, 2, 3, 6, 7),
            _shuffle(builder, high_ab, high_cd, 0, 1, 4, 5),
            _shuffle(builder, high_ab, high_cd, 2, 3, 6, 7),
        ]
        return context.make_tuple(builder, signature.return_type, columns)

    return types.UniTuple(a, LANES)(a, b, c, d), codegen


def _shuffle(builder: Any, a: Any, b: Any, *order: int) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(order))
    return builder.shuffle_vector(a, b, mask)
