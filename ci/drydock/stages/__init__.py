"""The stages of a run as a Dagger engine does them. Only the rooms in here know Dagger.

Every stage after `build` works on the one archive that `build` made: the engine keeps its bytes, so nothing can be
swapped between the scan and the push. Whatever Dagger raises leaves these rooms as one of `errors`.
"""

from drydock.stages.engine import EngineStages, connect

__all__ = ["EngineStages", "connect"]
