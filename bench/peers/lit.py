"""The model as a LitServe server, without its access log."""

import os
import sys
from typing import Any

import joblib
import litserve


class Iris(litserve.LitAPI):
    """One worker."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's own form
        """Load the model."""
        self.model: Any = joblib.load(os.environ["MODEL"])

    def decode_request(self, request: dict[str, list[float]]) -> list[float]:
        """What is asked."""
        return request["features"]

    def predict(self, features: list[float]) -> list[list[float]]:
        """Answer one row."""
        answer: list[list[float]] = self.model.predict_proba([features]).tolist()
        return answer

    def encode_response(self, output: list[list[float]]) -> dict[str, list[list[float]]]:
        """What is answered."""
        return {"probabilities": output}


if __name__ == "__main__":
    litserve.LitServer(Iris(api_path="/predict"), accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="warning"
    )
