"""Two operations that numba lacks: a fused multiply-add, and a blend of four pixels with all their lanes at once.

Both round as OpenCV's vector code does, so that derivatives equal OpenCV's bit for bit.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 4  # floats handled at once: the planes of a pixel
_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)


def _fma(builder, kind, name, a, b, c):
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
    return builder.call(function, [a, b, c])


@intrinsic
def fma(_, a, b, c):
    """a * b + c of float32, rounded once."""

    def code(context, builder, signature, arguments):
        return _fma(builder, _FLOAT, "llvm.fma.f32", *arguments)

    return types.float32(types.float32, types.float32, types.float32), code


@intrinsic
def blend(_, plane, above, below, x, y, out, to):
    """Bilinear interpolation of four lanes: ``out[to : to + 4]`` of four pixels of ``plane``.

    Written in LLVM's terms, as the compiler vectorises only loops, and pixels along a diagonal make none.

    :param plane: (n,) float32, a pixel's lanes side by side.
    :param above, below: uint64 places of the left pixels; the right ones follow.
    :param x, y: float32 shares of the right and the lower ones.
    :param out: (m,) float32, ``to`` uint64.
    """

    def code(context, builder, signature, arguments):
        def at(array, index, further=0):
            data = context.make_array(signature.args[array])(context, builder, arguments[array]).data
            index = builder.add(arguments[index], ir.Constant(arguments[index].type, further))
            return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())

        def four(value):
            vector = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
            first = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            return builder.shuffle_vector(vector, vector, first)

        def between(share, a, b):
            return _fma(builder, _VECTOR, f"llvm.fma.v{LANES}f32", share, builder.fsub(b, a), a)

        corners = [builder.load(at(0, index, further), align=4) for index in (1, 2) for further in (0, LANES)]
        upper, lower = between(four(arguments[3]), *corners[:2]), between(four(arguments[3]), *corners[2:])
        builder.store(between(four(arguments[4]), upper, lower), at(5, 6), align=4)
        return context.get_dummy_value()

    numbers = (types.uint64, types.uint64, types.float32, types.float32)
    return types.void(plane, *numbers, out, types.uint64), code
