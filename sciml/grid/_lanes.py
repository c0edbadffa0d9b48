"""Numba's numbers of several scenarios at once: one vector register, one scenario per lane."""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core.typing import templates
from numba.core.typing.templates import AbstractTemplate, signature
from numba.extending import lower_builtin, models
from numba.np.unsafe.ndarray import to_fixed_tuple

COMPILED = {"cache": True, "error_model": "numpy", "nogil": True}
"""How functions on lanes are compiled."""
_register_model: Any = extending.register_model
_infer_global: Any = templates.infer_global
intrinsic: Any = extending.intrinsic  # calls of what it decorates leave the first argument to numba
fixed: Any = to_fixed_tuple
"""Return a tuple of an array and its length."""
WIDTH = 16
"""Scenarios side by side: two registers of AVX-512, whose chains of sums overlap; one is 10 to 25 % slower."""
ALIGNED = 8
"""Bytes, of a number."""


class Lanes(types.Type):
    """``WIDTH`` numbers in float64 on which arithmetic works element by element."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


LANES = Lanes()
VECTOR = ir.VectorType(ir.DoubleType(), WIDTH)


@_register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, VECTOR)


def _define(function: Callable[..., Any], instruction: str) -> None:
    @_infer_global(function)
    class _Typing(AbstractTemplate):
        def generic(self, args: tuple[types.Type, ...], kws: dict[str, types.Type]) -> Any:
            return signature(LANES, *args) if args == (LANES, LANES) else None

    @lower_builtin(function, Lanes, Lanes)
    def _lower(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args, flags=("contract",))  # a product and a sum become one


for _function, _instruction in (
    (operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv"),
):  # fmt: skip
    _define(_function, _instruction)


def _address(context: Any, builder: ir.IRBuilder, array: types.Array, value: Any, slot: Any) -> Any:
    data = context.make_array(array)(context, builder, value).data
    start = builder.mul(slot, ir.Constant(slot.type, WIDTH))
    return builder.bitcast(builder.gep(data, [start]), VECTOR.as_pointer())


@intrinsic
def load(typingctx: Any, array: Any, slot: Any) -> Any:
    """Return lanes ``WIDTH * slot`` onwards of an array of shape (slots * WIDTH,)."""

    def lower(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, array, args[0], args[1]), align=ALIGNED)

    return LANES(array, types.intp), lower


@intrinsic
def store(typingctx: Any, array: Any, slot: Any, lanes: Any) -> Any:
    """Write lanes where ``load`` reads them."""

    def lower(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, array, args[0], args[1]), align=ALIGNED)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), lower


@intrinsic
def splat(typingctx: Any, number: Any) -> Any:
    """Return one number in all lanes."""

    def lower(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        vector, zero = ir.Constant(VECTOR, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        first = builder.insert_element(vector, args[0], zero)
        mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
        return builder.shuffle_vector(first, vector, mask)

    return LANES(types.float64), lower


def _call(builder: ir.IRBuilder, name: str, *args: Any) -> Any:
    """Call a function that LLVM knows for vectors."""
    name = f"llvm.{name}.v{WIDTH}f64"
    known = builder.module.globals.get(name)
    return builder.call(known or ir.Function(builder.module, ir.FunctionType(VECTOR, [VECTOR] * len(args)), name), args)


@intrinsic
def greater_size(typingctx: Any, most: Any, lanes: Any) -> Any:
    """Return the greater of ``most`` and |lanes|; NaN where either is."""

    def lower(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return _call(builder, "maximum", args[0], _call(builder, "fabs", args[1]))

    return lanes(lanes, lanes), lower


@intrinsic
def gather(typingctx: Any, array: Any, places: Any, by: Any) -> Any:
    """Return the numbers of a flat array at ``places``, a tuple of one for each lane, moved on ``by`` a number."""

    def lower(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        data = builder.gep(context.make_array(array)(context, builder, args[0]).data, [args[2]])
        vector = ir.Constant(VECTOR, ir.Undefined)
        for lane in range(WIDTH):
            number = builder.load(builder.gep(data, [builder.extract_value(args[1], lane)]))
            vector = builder.insert_element(vector, number, ir.Constant(ir.IntType(32), lane))
        return vector

    return LANES(array, places, types.intp), lower


@intrinsic
def scatter(typingctx: Any, array: Any, places: Any, by: Any, lanes: Any) -> Any:
    """Write lanes where ``gather`` reads them."""

    def lower(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        data = builder.gep(context.make_array(array)(context, builder, args[0]).data, [args[2]])
        for lane in range(WIDTH):
            number = builder.extract_element(args[3], ir.Constant(ir.IntType(32), lane))
            builder.store(number, builder.gep(data, [builder.extract_value(args[1], lane)]))
        return context.get_dummy_value()

    return types.void(array, places, types.intp, lanes), lower


@intrinsic
def root(typingctx: Any, lanes: Any) -> Any:
    """Return the square root."""

    def lower(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return _call(builder, "sqrt", *args)

    return lanes(lanes), lower


@intrinsic
def scaled(typingctx: Any, places: Any, by: Any) -> Any:
    """Return ``places`` times a number."""

    def lower(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        found, by = args
        for lane in range(WIDTH):
            found = builder.insert_value(found, builder.mul(builder.extract_value(found, lane), by), lane)
        return found

    return places(places, types.intp), lower
