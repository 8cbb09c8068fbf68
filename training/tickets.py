"""An example: which team a support ticket is for, from its text, its channel and two numbers. The tickets are made up.

An ordinary scikit-learn pipeline over named columns with strings among them: it needs the runtime `pandas`.
"""

from __future__ import annotations

from pathlib import Path

import pandas
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from export.contract import create_contract
from export.dataset import frame_table
from service.contract import Contract
from training.cli import run_training

TICKETS = Path(__file__).with_name("tickets.csv")


def train(directory: Path) -> Contract:
    """Train on the tickets and write the model and its contract into `directory`; the same bytes every time."""
    tickets = pandas.read_csv(TICKETS)
    features = tickets.drop(columns="team")
    seen, held_out, seen_teams, held_out_teams = train_test_split(
        features, tickets.team, test_size=0.25, random_state=42, stratify=tickets.team
    )
    columns = ColumnTransformer(
        [
            ("text", TfidfVectorizer(), "subject"),
            ("channel", OneHotEncoder(handle_unknown="ignore"), ["channel"]),
            ("numbers", StandardScaler(), ["customer_years", "waiting_hours"]),
        ]
    )
    pipeline = make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(seen, seen_teams)
    # An address in memory, which differs each time; without it, scikit-learn repeats a check.
    del pipeline[0].named_transformers_["text"]._stop_words_id
    return create_contract(
        pipeline,
        frame_table(held_out),
        list(held_out_teams),
        directory,
        name="ticket-router",
    )


if __name__ == "__main__":
    run_training(train)
