"""Bytes at an address, as numbers: what plain indexing cannot say without a load and a check for each of eight bytes; and asking for
memory before it is needed, which no index can say.

Nothing is checked here. Who calls has made sure that eight bytes can be read from the address on, whatever they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from core.kernels import Integer

_BYTE, _WORD, _WIDE = ir.IntType(8), ir.IntType(64), ir.IntType(128)


def _at(builder: Any, address: Any, kind: Any) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1)


def _byte(typing: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.zext(_at(builder, arguments[0], _BYTE), _WORD)

    return types.int64(types.int64), code


def _word(typing: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _at(builder, arguments[0], _WORD)

    return types.uint64(types.int64), code


def _folded(typing: Any, a: Any, b: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        product = builder.mul(*(builder.zext(argument, _WIDE) for argument in arguments))
        upper = builder.lshr(product, ir.Constant(_WIDE, 64))
        return builder.trunc(builder.xor(product, upper), _WORD)

    return types.uint64(types.uint64, types.uint64), code


def _zeros(typing: Any, word: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), code


def _fetch(typing: Any, array: Any, item: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        function = ir.FunctionType(ir.VoidType(), [kind, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch.p0", (), function)
        read, keep, of_data = number(0), number(3), number(1)
        place = builder.bitcast(builder.gep(data, [arguments[1]]), kind)
        builder.call(prefetch, [place, read, keep, of_data])
        return context.get_dummy_value()

    return types.void(array, types.int64), code


byte = cast("Callable[[Integer], Integer]", intrinsic(_byte))
"""The byte at an address, 0 … 255."""
word = cast("Callable[[Integer], np.uint64]", intrinsic(_word))
"""The eight bytes at an address, the first one the lowest."""
folded = cast("Callable[[np.uint64, np.uint64], np.uint64]", intrinsic(_folded))
"""The product's halves, one xor the other."""
zeros = cast("Callable[[np.uint64], Integer]", intrinsic(_zeros))
"""Zero bits below the lowest one that is set; of a word that is not zero."""
fetch = cast("Callable[[Any, Integer], None]", intrinsic(_fetch))
"""Asks for the line of the cache that an array's item, counted as if it had one dimension, lies in, and does not wait for it. Tables
that are larger than the cache are asked for some dozens of rows at once before any is looked at: their misses then pass together.
"""
NEAR = 64
"""Rows that are asked for at once: a processor has places for no more misses than some dozens."""
