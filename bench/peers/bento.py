"""The model as a BentoML service, without its access log."""

import os
from typing import Any

import bentoml
import joblib


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Iris:
    """One worker."""

    def __init__(self) -> None:
        self.model: Any = joblib.load(os.environ["MODEL"])

    @bentoml.api
    async def predict(self, features: list[float]) -> dict[str, list[list[float]]]:
        """Answer one row."""
        return {"probabilities": self.model.predict_proba([features]).tolist()}
