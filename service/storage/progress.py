"""How far the download of a model is."""

from __future__ import annotations


class LoadProgress:
    """Written by the thread that downloads and loads the model; `total_bytes` is 0 until the size is known."""

    def __init__(self) -> None:
        self.bytes = 0
        self.total_bytes = 0
        self.loading = False

    def __str__(self) -> str:
        if self.loading:
            return "the model is being loaded"
        if not self.total_bytes:
            return "the model is being downloaded"
        return f"the model is being downloaded: {self.bytes / 1e6:.1f} of {self.total_bytes / 1e6:.1f} MB"
