"""JSON from others that we keep and tell again."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator


def check(content: dict[str, Any]) -> dict[str, Any]:
    """`content`; raises ValueError for numbers that JSON has not, and halves of characters."""
    json.dumps(content, allow_nan=False, ensure_ascii=False).encode()
    return content


Plain = Annotated[dict[str, Any], AfterValidator(check)]
"""A JSON object that can be sent as it is."""
