"""The colours of drawings, made in OKLCH (Ottosson 2020), where equal steps look equal; for a light ground and a dark.

Shares go from the ground through blue and yellow with a lightness that only falls, or on a dark ground only rises, so
that the order is there without the colour; signed values go to blue and to orange, which every eye tells apart.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Literal

Theme = Literal["light", "dark"]
THEMES: tuple[Theme, Theme] = ("light", "dark")
LEVELS = 32  # steps of a map; step 0 of the shares, and the middle step of the signed, is the ground itself
GROUND = {"light": "#ffffff", "dark": "#14181d"}
PANEL = {"light": "#f6f7f9", "dark": "#1c2229"}
GREEN = {"light": "#1a7340", "dark": "#5fcf8d"}
RED = {"light": "#b52f26", "dark": "#ff7b70"}
INK = {"light": "#1b2430", "dark": "#e4e8ed"}
# Okabe and Ito 2008, without black, which a dark ground swallows, and with yellow left to the maps
CATEGORIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
# on a dark ground the two blues change places, so that the first series is the clearest there too
SERIES = {"light": CATEGORIES, "dark": (CATEGORIES[5], *CATEGORIES[1:5], CATEGORIES[0])}
_BLUE, _YELLOW, _ORANGE = 262.0, 102.0, 55.0  # hues


@cache
def sequential(theme: Theme) -> tuple[str, ...]:
    """LEVELS + 1 colours from nothing to all: white, yellow, blue, and on a dark ground black, blue, yellow."""
    start, end, hues = (1.0, 0.33, (_YELLOW, _BLUE)) if theme == "light" else (0.22, 0.93, (_BLUE, _YELLOW))
    colours = [GROUND[theme]]
    for level in range(1, LEVELS + 1):
        share = level / LEVELS
        chroma = 0.145 * min(1.0, 0.12 + 1.4 * share)
        lightness = start + (end - start) * share**1.15  # what is small stays near the ground
        colours.append(oklch(lightness, chroma, hues[0] + (hues[1] - hues[0]) * share))
    return tuple(colours)


@cache
def diverging(theme: Theme) -> tuple[str, ...]:
    """LEVELS + 1 colours from the most negative, blue, over the ground in the middle to the most positive, orange."""
    start, ends = (1.0, (0.42, 0.56)) if theme == "light" else (0.22, (0.74, 0.80))
    colours = []
    for level in range(LEVELS + 1):
        share = abs(2 * level / LEVELS - 1)
        end, hue = (ends[0], _BLUE) if 2 * level < LEVELS else (ends[1], _ORANGE)
        colours.append(oklch(start + (end - start) * share, 0.16 * share, hue) if share else GROUND[theme])
    return tuple(colours)


def oklch(lightness: float, chroma: float, hue: float) -> str:
    """As #rrggbb; a colour that a screen cannot show loses chroma until it can. hue in degrees."""
    while chroma > 0.001 and not all(-1e-4 <= x <= 1 + 1e-4 for x in _linear(lightness, chroma, hue)):
        chroma -= 0.002
    return "#" + "".join(f"{round(255 * _encode(x)):02x}" for x in _linear(lightness, max(0.0, chroma), hue))


def ink_on(colour: str) -> str:
    """Black or white, whichever is read better on this colour; one of them always has a contrast above 4.5."""
    return max(("#000000", "#ffffff"), key=lambda ink: contrast(ink, colour))


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2: 1 for equal colours, 21 for black and white; a text wants 4.5, a line 3."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2, 0 to 1."""
    red, green, blue = (_decode(value / 255) for value in rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def rgb(colour: str) -> tuple[int, int, int]:
    """Example: #0072b2 -> (0, 114, 178)"""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _linear(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    """OKLCH -> linear sRGB."""
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    small = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * small,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * small,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * small,
    )


def _encode(value: float) -> float:
    value = min(1.0, max(0.0, value))
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055


def _decode(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)
