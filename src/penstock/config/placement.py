"""Settings of the Ray nodes on which actors run."""

from __future__ import annotations

from pydantic import Field

from penstock.config.section import Section


class PlacementSettings(Section):
    """Labels that a Ray node must have (`ray start --labels`). Actors wait until there is such a node."""

    workers: dict[str, str] = Field(
        {},
        description='labels of the nodes for lanes, writers, fetch, decode and OCR workers, such as {"penstock/role": '
        '"cpu"}, so that nodes with GPUs hold encoders only; empty: any node',
    )
    encoders: dict[str, str] = Field(
        {}, description='labels of the nodes for encoders, such as {"penstock/role": "gpu"}; empty: any node'
    )
