"""What all values of a report have in common: frozen, strict, written whole."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MB = 1_000_000
# ISO 8601, with a time zone: UTC in all that this pipeline writes itself.
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Day = Annotated[str, Field(json_schema_extra={"format": "date"})]


class Value(BaseModel):
    """A frozen value. Unknown fields are errors, so a report never has more than its schema.

    All fields are always written, so its schema requires them all. NaN and Infinity are no JSON, and no measurement.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, json_schema_serialization_defaults_required=True
    )
