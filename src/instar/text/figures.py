"""Numbers as a person reads them on a page."""

from __future__ import annotations

from typing import Any

NONE = "–"
DRAWABLE = 1e100  # beyond it a value has no place on an axis


def number(value: Any) -> float | None:
    """A finite float of what can be drawn, else None."""
    if type(value) is float and 1 / DRAWABLE < value < DRAWABLE:  # nearly all of them
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not (-DRAWABLE < value < DRAWABLE):  # NaN and infinities are not between them either
        return None
    return float(value) if not 0 < abs(value) < 1 / DRAWABLE else 0.0


def label(value: float | None) -> str:
    """A number as an axis shows it. Example: 12500.0 -> 12,500 and 1e-05 -> 1e-5"""
    if value is None:
        return ""
    if abs(value) >= 1e9:
        return f"{value:.4g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}".replace("e-0", "e-")


def count(value: Any) -> str:
    """Example: 1234567 -> 1,234,567"""
    found = number(value)
    return NONE if found is None else f"{found:,.0f}"


def short(value: Any) -> str:
    """Example: 1197440 -> 1.2 M"""
    found = number(value) or 0
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if found >= size:
            return f"{found / size:.3g} {unit}"
    return count(value)


def figure(value: Any) -> str:
    return NONE if number(value) is None else label(number(value))


def size(value: Any) -> str:
    """Bytes, in powers of a thousand. Example: 1234567 -> 1.23 MB"""
    found = number(value)
    if found is None:
        return NONE
    for step, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(found) >= 0.9995 * step:
            return f"{found / step:.3g} {unit}"
    return f"{found:.0f} B"


def percent(share: Any) -> str:
    """Example: 0.6789 -> 67.9 %, and 1e-6 -> <0.1 %; what is nearly all is never rounded to all."""
    found = number(share)
    if found is None:
        return NONE
    if 0 < abs(found) < 0.0005:
        return "<0.1 %"
    if 0.9995 <= found < 1:
        return ">99.9 %"
    return f"{100 * found:.1f} %" if found not in (0, 1) else f"{100 * found:.0f} %"


def seconds(value: Any) -> str:
    """Example: 384 -> 6.4 min"""
    found = number(value)
    if found is None:
        return NONE
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if found >= 1.5 * length:
            return f"{found / length:.1f} {unit}"
    return f"{found:.1f} s"
