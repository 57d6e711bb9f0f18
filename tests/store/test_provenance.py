"""Collections of another release are refused in one line that names both schemas and what to do."""

from __future__ import annotations

import pytest

from penstock.errors import ConfigError
from penstock.records import Field
from penstock.store import provenance
from penstock.store.provenance import SCHEMA, SCHEMA_PROPERTY, check_schema, properties_of


def test_a_new_collection_records_the_schema_of_this_release() -> None:
    assert properties_of((Field.LEXICAL,), {})[SCHEMA_PROPERTY] == str(SCHEMA)
    check_schema("text__a__v1", properties_of((), {}))


def test_a_collection_of_a_release_before_schemas_has_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"text__a__v1 has schema 1, and this Penstock needs schema 2") as refused:
        check_schema("text__a__v1", {})
    assert "penstock reindex start" in str(refused.value)
    assert "\n" not in str(refused.value)
    monkeypatch.setattr(provenance, "SCHEMA", 1)
    check_schema("text__a__v1", {})


@pytest.mark.parametrize("recorded", [str(SCHEMA + 1), "99", "x", "", "-1"])
def test_a_collection_of_a_newer_release_is_refused(recorded: str) -> None:
    with pytest.raises(ConfigError, match=r"text__a__v1 has schema .* use the release that created it"):
        check_schema("text__a__v1", {SCHEMA_PROPERTY: recorded})
