from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _forest_library(forest_library: None) -> None:
    """Every test here may load a compiled model."""
