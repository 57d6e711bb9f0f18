"""Values are read with their comments, and become a schema and a table."""

from __future__ import annotations

import pytest

from tools.chart.readme import BEGIN, END, with_values
from tools.chart.schema import values_schema
from tools.chart.values import leaves, read_values

_VALUES = """\
# A comment of the file.

# How many there are,
# at least.
# @schema {"minimum": 1}
count: 2
group:
  # Labels that | are given.
  # @schema "labels"
  labels: {a: b}
  # A name.
  name: ""
"""


def test_a_comment_belongs_to_the_value_below_it() -> None:
    values = list(leaves(read_values(_VALUES)))
    assert [(value.name, value.description) for value in values] == [
        ("count", "How many there are, at least."),
        ("group.labels", "Labels that | are given."),
        ("group.name", "A name."),
    ]


def test_the_schema_takes_no_other_names() -> None:
    schema = values_schema(read_values(_VALUES))
    assert schema["additionalProperties"] is False
    assert schema["properties"]["group"]["additionalProperties"] is False
    assert schema["properties"]["count"] == {
        "type": "integer",
        "minimum": 1,
        "description": "How many there are, at least.",
    }
    assert schema["properties"]["group"]["properties"]["labels"]["additionalProperties"] == {"type": "string"}


def test_a_value_without_a_description_is_refused() -> None:
    with pytest.raises(KeyError, match="count has no comment"):
        values_schema(read_values("count: 2\n"))


def test_an_unknown_fragment_is_refused() -> None:
    with pytest.raises(KeyError, match="lables"):
        values_schema(read_values('# Labels.\n# @schema "lables"\nlabels: {}\n'))


def test_the_table_replaces_what_is_between_the_marks() -> None:
    page = with_values(f"before\n{BEGIN}\nold\n{END}\nafter\n", read_values(_VALUES))
    assert '| `group.labels` | `{"a": "b"}` | Labels that \\| are given. |' in page
    assert "old" not in page
    assert with_values(page, read_values(_VALUES)) == page


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the marks"):
        with_values("nothing", read_values(_VALUES))
