"""The chart runs a second driver, which fills a new version of the index, only where that is switched on."""

from __future__ import annotations

from typing import Any

from tests.helm.rendering import render

_CONTAINER = "StatefulSet/reindex:spec.template.spec.containers.0"


def started(**reindex: Any) -> str:
    command: str = render({"reindex": {"enabled": True, **reindex}}).at(f"{_CONTAINER}.args.0")
    return command.strip().splitlines()[-1].strip()


def test_without_a_reindex_there_is_no_second_driver() -> None:
    names = [manifest["metadata"]["name"] for manifest in render({}).all if manifest["kind"] == "StatefulSet"]
    assert not any(name.endswith("-reindex") for name in names)


def test_the_second_driver_fills_with_the_profile_at_the_rate_that_is_given() -> None:
    assert started() == "exec penstock reindex start"
    assert started(profile="small") == "exec penstock reindex start --profile 'small'"
    assert started(profile="small", maxRate=50) == "exec penstock reindex start --profile 'small' --max-rate 50"


def test_the_second_driver_joins_the_ray_of_ingest_and_is_scraped_as_a_part_of_it() -> None:
    rendered = render({"reindex": {"enabled": True}})
    labels = rendered.at("StatefulSet/reindex:spec.template.metadata.labels")
    assert labels["penstock/plane"] == "ingest"
    assert labels["app.kubernetes.io/component"] == "reindex-driver"
    own, driver = (
        {variable["name"]: variable.get("value") for variable in rendered.at(f"StatefulSet/{name}:{path}")}
        for name, path in (
            ("reindex", _CONTAINER.partition(":")[2] + ".env"),
            ("driver", "spec.template.spec.containers.0.env"),
        )
    )
    assert own["RAY_HEAD"] == driver["RAY_HEAD"]
