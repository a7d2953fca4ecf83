"""Records at fault are counted and told, and too many of them are an error."""

import pytest

from instar.config import InputError
from instar.data.faults import SHOWN, Fault, Faults


def test_the_first_of_each_reason_are_told(document):
    """Of many records at fault a few are shown, of every reason, with where they stand."""
    told = []
    faults = Faults(1.0, told.append)
    for number in range(10):
        faults.add(document("x", number), Fault("empty", "nothing in it"))
    faults.add(document("x", 99), InputError("another shape"))
    assert told == [f"left out here, record {n}: nothing in it" for n in range(SHOWN)] + [
        "left out here, record 99: another shape"
    ]
    assert faults.counts == {"empty": 10, "malformed": 1}


@pytest.mark.parametrize(("limit", "bad", "records", "fine"), [
    (0.01, 1, 20, True), (0.01, 2, 200, True), (0.01, 3, 200, False), (0.0, 1, 1000, False), (1.0, 5, 5, True),
])  # fmt: skip
def test_more_than_may_be_is_an_error_that_names_them(document, limit, bad, records, fine):
    """A run is never lost to one record, unless none may be at fault; beyond the limit each reason is named."""
    faults = Faults(limit)
    for number in range(bad):
        faults.add(document("x", number + 4), Fault("identical", "twice the same"))
    if fine:
        faults.check(records)
        return
    with pytest.raises(InputError, match=rf"{bad} of {records} records .* {bad} identical, first here, record 4"):
        faults.check(records)


@pytest.mark.parametrize("limit", [-0.1, 1.5, float("nan")])
def test_a_limit_is_a_share(limit):
    """Anything outside 0 to 1 is no share."""
    with pytest.raises(InputError, match=r"bad_records=.* wanted a share"):
        Faults(limit)
