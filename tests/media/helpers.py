"""Topics and rejections for the tests of this folder."""

from __future__ import annotations

import pytest

from penstock.errors import BadInputError
from penstock.media.fetch import Fetcher
from penstock.records import Event, Modality

TOPICS = {modality: f"media.{modality}" for modality in Modality}


def rejection_of(fetcher: Fetcher, event: Event) -> BadInputError:
    """Fetches an event and returns the error that this must raise."""
    with pytest.raises(BadInputError) as caught:
        fetcher.fetch(event)
    return caught.value
