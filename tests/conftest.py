"""Which tests share a worker: by default those of one file, since they share what its fixtures make.

`xdist_group` lets several files share one worker, and so one run of the pipeline. `spread` lets each test of a file go
to whichever worker is free: its tests share nothing.
"""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not any(item.get_closest_marker(name) for name in ("spread", "xdist_group")):
            item.add_marker(pytest.mark.xdist_group(item.location[0]))
