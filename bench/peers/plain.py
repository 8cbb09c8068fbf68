"""FastAPI around a pickle, as most people serve a model."""

import os
from typing import Any

import joblib
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model: Any = joblib.load(os.environ["MODEL"])


class Row(BaseModel):
    """What is asked."""

    features: list[float]


@app.post("/predict")
async def predict(row: Row) -> dict[str, list[list[float]]]:
    """Answer one row. Not a plain `def`: FastAPI would hand each request to a thread, which is slower here."""
    return {"probabilities": model.predict_proba([row.features]).tolist()}
