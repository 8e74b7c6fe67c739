"""The CEL rules of the CRDs: what must hold, and the sentence that the API server prints when it does not."""

from __future__ import annotations

import json

__all__ = ["TEXT", "rule"]

TEXT = "'\\'' + self + '\\''"
"""CEL for the text that a rule is about, in quotes."""


def rule(expression: str, message: str, value: str = "") -> dict[str, str]:
    """A rule in CEL. value: CEL for what was found, as text; the sentence then ends with it.

    Numbers cannot be told: what string() of one may cost is beyond the API server's budget.

    https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
    """
    found = {"rule": expression, "message": message}
    told = f"{json.dumps(message + ' (it is ')} + {value} + ')'"
    return found | ({"messageExpression": told} if value else {})
