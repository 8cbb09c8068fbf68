"""The lean runtime: a forest as a flat file, evaluated by libforest.so. It needs no NumPy, and unpickles nothing."""

from __future__ import annotations

import ctypes
import struct
from array import array
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from service.contract import Row

LIBRARY = Path(__file__).with_name("libforest.so")
MAGIC = b"DRYFRST1"
# Magic, then how many features, outputs, trees, nodes and leaves, all little-endian; then 4 bytes of nothing, so that
# what follows lies at a multiple of 8: the leaves (a row of f8 for each), the nodes, and the trees' roots (i4).
HEADER = struct.Struct("<8s5i4x")
NODE = struct.Struct("<d3i4x")


class _Forest(ctypes.Structure):
    """As forest.c has it."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("features", "outputs", "tree_count", "node_count", "leaf_count")),
        *((name, ctypes.c_void_p) for name in ("leaves", "nodes", "roots")),
    )


class Forest:
    """A forest in memory, which answers as scikit-learn would."""

    # A call takes microseconds: handing it to a thread would cost more.
    inline = True

    def __init__(self, content: bytes) -> None:
        """Lay out the file's `content`. Raises ValueError where it is none, or would lead outside of itself."""
        if len(content) < HEADER.size or content[: len(MAGIC)] != MAGIC:
            raise ValueError("is no forest")
        _, self.features, self.outputs, trees, nodes, leaves = HEADER.unpack_from(content)
        if min(self.features, self.outputs, trees, nodes, leaves) < 1:
            raise ValueError("is a forest of nothing")
        at_nodes = HEADER.size + 8 * leaves * self.outputs
        at_roots = at_nodes + NODE.size * nodes
        if len(content) != at_roots + 4 * trees:
            raise ValueError("is a forest of another size than it says")
        # Aligned, and kept for as long as the pointers into it.
        self._memory = ctypes.create_string_buffer(content, len(content))
        start = ctypes.addressof(self._memory)
        self._forest = _Forest(
            self.features, self.outputs, trees, nodes, leaves, start + HEADER.size, start + at_nodes, start + at_roots
        )
        loaded = ctypes.CDLL(str(LIBRARY))
        if loaded.forest_check(ctypes.byref(self._forest)):
            raise ValueError("is a forest that leads outside of itself")
        self._answer = loaded.forest_answer
        self._answer.restype = None
        self._answer.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
        self._at = ctypes.addressof(self._forest)

    def answer(self, rows: Sequence[Row]) -> list[list[float]]:
        """The mean of the trees' answers to each row, a number for each label, or one; a row has `features` numbers."""
        count, outputs = len(rows), self.outputs
        # Of a contract with words no forest is made.
        numbers = cast("Sequence[Sequence[float]]", rows)
        given = array("f", numbers[0] if count == 1 else chain.from_iterable(numbers))
        if len(given) != count * self.features:
            raise ValueError(f"a row has {self.features} numbers")
        answers = array("d", bytes(8 * count * outputs))
        self._answer(self._at, given.buffer_info()[0], count, answers.buffer_info()[0])
        told = answers.tolist()
        return [told[at : at + outputs] for at in range(0, count * outputs, outputs)]
