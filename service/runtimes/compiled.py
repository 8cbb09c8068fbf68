"""The runtime `compiled`: libforest.so evaluates a forest in a flat file. It needs no NumPy, and never unpickles."""

from __future__ import annotations

import ctypes
import math
import struct
from array import array
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import cast

from service.contract import Contract, ModelLoadError, Row
from service.runtimes import Answers

LIBRARY = Path(__file__).with_name("libforest.so")
MAGIC = b"DRYFRST2"
# Magic, then the counts of features, outputs, trees, nodes and leaves, all little-endian. 4 bytes of padding align what
# follows to 8 bytes: the leaves (a row of f8 for each), the nodes, and the trees' roots (i4).
HEADER = struct.Struct("<8s5i4x")
# threshold, feature, left, right, whether a missing value goes left
NODE = struct.Struct("<d4i")


class _Forest(ctypes.Structure):
    """The struct `Forest` of forest.c."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("features", "outputs", "tree_count", "node_count", "leaf_count")),
        *((name, ctypes.c_void_p) for name in ("leaves", "nodes", "roots")),
    )


class ForestPredictor:
    """A forest in memory that answers as scikit-learn does."""

    # A call takes microseconds: handing it to a thread would cost more.
    inline = True

    def __init__(self, content: bytes) -> None:
        """Lay out the file's `content`. Raises ValueError if it is not a forest, or would read outside of itself."""
        if len(content) < HEADER.size or content[: len(MAGIC)] != MAGIC:
            raise ValueError("is not a forest")
        _, self.features, self.outputs, trees, nodes, leaves = HEADER.unpack_from(content)
        if min(self.features, self.outputs, trees, nodes, leaves) < 1:
            raise ValueError("is an empty forest")
        nodes_offset = HEADER.size + 8 * leaves * self.outputs
        roots_offset = nodes_offset + NODE.size * nodes
        if len(content) != roots_offset + 4 * trees:
            raise ValueError("has another size than its header says")
        # Aligned, and kept for as long as the pointers into it.
        self._memory = ctypes.create_string_buffer(content, len(content))
        start = ctypes.addressof(self._memory)
        offsets = (HEADER.size, nodes_offset, roots_offset)
        self._forest = _Forest(
            self.features, self.outputs, trees, nodes, leaves, *(start + offset for offset in offsets)
        )
        library = ctypes.CDLL(str(LIBRARY))
        if library.forest_check(ctypes.byref(self._forest)):
            raise ValueError("is a forest that reads outside of itself")
        self._evaluate = library.forest_answer
        self._evaluate.restype = None
        self._evaluate.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
        self._address = ctypes.addressof(self._forest)

    def predict(self, rows: Sequence[Row]) -> Answers:
        """The most probable label is the forest's answer, as it is the trained one's."""
        return Answers(self.evaluate(rows))

    def evaluate(self, rows: Sequence[Row]) -> list[list[float]]:
        """The mean of the trees' answers to each row: a number for each label, or one. A row has `features` numbers."""
        count, outputs = len(rows), self.outputs
        # A contract with strings is never converted to a forest.
        numbers = cast("Sequence[Sequence[float]]", rows)
        try:
            inputs = array("f", numbers[0] if count == 1 else chain.from_iterable(numbers))
        except TypeError:
            # A missing value is None. Looking for it in every row would cost more than this.
            inputs = array("f", [math.nan if value is None else value for value in chain.from_iterable(rows)])  # type: ignore[misc]
        if len(inputs) != count * self.features:
            raise ValueError(f"a row has {self.features} numbers")
        answers = array("d", bytes(8 * count * outputs))
        self._evaluate(self._address, inputs.buffer_info()[0], count, answers.buffer_info()[0])
        values = answers.tolist()
        return [values[start : start + outputs] for start in range(0, count * outputs, outputs)]


def load(contract: Contract, content: bytes) -> ForestPredictor:
    """The forest of a contract. Raises ModelLoadError if it is not one, or has another shape than its contract."""
    file = contract.artifact.file
    try:
        forest = ForestPredictor(content)
    except ValueError as error:
        raise ModelLoadError(f"{file} {error}; convert the model again.") from error
    except OSError as error:
        sentence = f"{LIBRARY.name} cannot be loaded ({error}); run python -m export.compile_forest."
        raise ModelLoadError(sentence) from error
    if (forest.features, forest.outputs) != (len(contract.features), len(contract.labels) or 1):
        raise ModelLoadError(
            f"{file} takes {forest.features} features and gives {forest.outputs} numbers, its contract "
            f"{len(contract.features)} and {len(contract.labels) or 1}; convert the model again."
        )
    return forest
