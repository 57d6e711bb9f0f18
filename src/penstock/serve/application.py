"""The query plane by import path: `penstock.serve.application:app` is what a RayService or `serve deploy` names.

The deployment states address, replicas and their resources; all else comes from the settings of the node.
"""

from __future__ import annotations

from collections.abc import Mapping

from ray import serve

from penstock.config import load_settings
from penstock.errors import ConfigError
from penstock.serve.deployment import query_application


def app(args: Mapping[str, object]) -> serve.Application:
    """Builds the application, when Ray Serve deploys it. Takes no arguments: settings come from file and environment.

    Raises:
        ConfigError: there are arguments, or the settings are wrong.
    """
    if args:
        raise ConfigError(
            f"penstock.serve.application:app takes no args, and there are {', '.join(sorted(args))}: set them as "
            "settings of the Ray nodes, in a file (PENSTOCK_CONFIG) or in the environment"
        )
    return query_application(load_settings())
