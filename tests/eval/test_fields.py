"""Fields of another shape are named, and figures are counted under the groups that records name."""

import pytest

from instar.config import InputError
from instar.eval import fields


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda record: fields.text(record, "query", "{...}"), r"the keys list, none, number, half; wanted \{\.\.\.\}"),
        (lambda record: fields.text(record, "none", "{...}"), '"none" is null, wanted a string'),
        (lambda record: fields.text(record, "list", "{...}"), '"list" is list of 2, wanted a string'),
        (lambda record: fields.texts(record, "list", "{...}", least=3), 'wanted a list of at least 3'),
        (lambda record: fields.texts(record, "half", "{...}"), '"half" is list of 2, wanted a list of'),
        (lambda record: fields.texts(record, "none", "{...}"), '"none" is null, wanted a list'),
        (lambda record: fields.place(record, "number", "{...}", "ab"), r'"number" is int \(.2.\), wanted .* 0 to 1'),
        (lambda record: fields.place({"gold": True}, "gold", "{...}", "ab"), '"gold" is bool'),
        (lambda record: fields.place({"gold": -1}, "gold", "{...}", "ab"), "from 0 to 1"),
    ],
)  # fmt: skip
def test_a_field_of_another_shape(read, message):
    """What was found and what was wanted."""
    with pytest.raises(InputError, match=message):
        read({"list": ["a", "b"], "none": None, "number": 2, "half": ["a", 1]})


def test_figures_by_groups():
    """Each group by its values; a record without the group counts in all alone."""
    rows = [{"acc": 1.0}, {"acc": 0.0}, {"acc": 0.0}]
    grouped = [{"term": "a", "field": "x"}, {"term": "b", "field": "x"}, {}]
    assert fields.by_groups(rows, grouped, ("term", "field", "none"), fields.means) == {
        "records": 3,
        "acc": pytest.approx(1 / 3),
        "groups": {
            "term": {"a": {"records": 1, "acc": 1.0}, "b": {"records": 1, "acc": 0.0}},
            "field": {"x": {"records": 2, "acc": 0.5}},
        },
    }


def test_by_groups_as_documented():
    """The example of the docstring."""
    found = fields.by_groups([1, 2], [{"lang": "en"}, {}], ["lang"], lambda part: {"sum": sum(part)})
    assert found == {"sum": 3, "groups": {"lang": {"en": {"sum": 1}}}}
