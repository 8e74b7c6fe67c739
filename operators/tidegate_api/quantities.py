"""Kubernetes' quantities: 100m, 1.5, 2Gi.

https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

from decimal import Decimal

__all__ = ["QUANTITY_PATTERN", "amount"]

QUANTITY_PATTERN = "^[0-9]+(\\.[0-9]+)?(m|k|[MGTPE]|[KMGTPE]i)?$"
_UNITS = {"m": Decimal("0.001")} | {
    unit: Decimal(base) ** power
    for base, units in ((1000, ("k", "M", "G", "T", "P", "E")), (1024, ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")))
    for power, unit in enumerate(units, 1)
}


def amount(quantity: str) -> Decimal:
    """What a quantity amounts to, in its base unit: cores, bytes, pieces."""
    unit = next((name for name in sorted(_UNITS, key=len, reverse=True) if quantity.endswith(name)), "")
    return Decimal(quantity.removesuffix(unit)) * _UNITS.get(unit, 1)
