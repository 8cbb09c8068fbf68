"""What a user's model or data can do wrong. Each message says why, and what to do."""

from __future__ import annotations


class ContractError(Exception):
    """No contract can be made of this model or these data."""


class ContractWarning(UserWarning):
    """The contract is written, but something in the model or in the data looks like a mistake."""


class ConversionError(Exception):
    """The runtime cannot hold this model, or the converted model gives other answers."""
