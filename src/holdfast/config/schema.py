"""The JSON Schema of ``holdfast.yaml``, with which editors complete keys, explain them and mark mistakes."""

from __future__ import annotations

from typing import Any

from holdfast.config.models import Configuration

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """The schema as a JSON-ready object."""
    made = Configuration.model_json_schema(mode="validation")
    return {"$schema": DIALECT, "$comment": "Written by 'holdfast config schema'.", **made}
