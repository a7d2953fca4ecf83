"""Numbers as a person reads them."""

import pytest

from instar.text.figures import NONE, count, label, number, percent, seconds, short, size


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (12500.0, "12,500"), (1e-05, "1e-5"), (0.015, "0.015"), (0.1 + 0.2, "0.3"), (2e12, "2e+12")],
)
def test_labels(value, shown):
    """A number as one would write it."""
    assert label(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1234567, "1.23 MB"), (999_960, "1 MB"), (2.5e12, "2.5 TB"),
     (-1500, "-1.5 kB"), (None, NONE), ("many", NONE)],
)  # fmt: skip
def test_sizes(value, shown):
    """Bytes in powers of a thousand with three digits, and never 1000 of a unit."""
    assert size(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0 %"), (1, "100 %"), (0.6789, "67.9 %"), (0.5, "50.0 %"), (1e-6, "<0.1 %"), (0.99999, ">99.9 %"),
     (-0.02, "-2.0 %"), (float("nan"), NONE)],
)  # fmt: skip
def test_shares(value, shown):
    """What is little is not nothing, and what is nearly all is not all."""
    assert percent(value) == shown


def test_what_is_no_number_is_a_dash():
    """Neither NaN nor a truth nor a text is shown as one."""
    assert [number(value) for value in (float("nan"), float("inf"), True, "1", None, 1e200)] == [None] * 6
    assert count(None) == seconds(float("nan")) == NONE
    assert (count(1234567), short(1234567), seconds(384)) == ("1,234,567", "1.23 M", "6.4 min")
