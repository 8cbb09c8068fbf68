"""Trains the shipped model and the examples. It is never in an image. Each training creates its contract at the end."""
