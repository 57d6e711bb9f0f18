"""`penstock purge` refuses an index of which it could not erase everything."""

from __future__ import annotations

import pytest

from penstock.cli.purge import require_single_version
from penstock.config import Settings
from penstock.errors import ConfigError
from penstock.store.memory import MemoryStore
from penstock.versions import version_settings
from tests.serve.versions.worlds import OLD, REINDEX, fill_version


def test_a_purge_needs_one_version_of_the_index_and_says_how_to_get_there() -> None:
    settings, store = Settings(profile=OLD), MemoryStore()
    with pytest.raises(ConfigError, match=r"no index.*Check store\.uri"):
        require_single_version(store.aliases)
    fill_version(store, settings)
    require_single_version(store.aliases)
    fill_version(MemoryStore(beside=store), version_settings(settings, REINDEX, 2))
    with pytest.raises(ConfigError, match=r"versions 1, 2 of the index.*`penstock reindex drop`"):
        require_single_version(store.aliases)
