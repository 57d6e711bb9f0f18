"""The query plane by import path: `penstock.serve.application:app` is what a RayService or `serve deploy` names.

The deployment states address, replicas and their resources; all else comes from the settings of the node.
"""

from __future__ import annotations

from collections.abc import Mapping

from ray import serve

from penstock.config import load_settings
from penstock.errors import ConfigError
from penstock.serve.deployment import check_running_serve, query_application
from penstock.serve.middleware.trusted_host import ANY


def app(args: Mapping[str, object]) -> serve.Application:
    """Builds the application, when Ray Serve deploys it. Takes no arguments: settings come from file and environment.

    Raises:
        ConfigError: there are arguments, or the settings are wrong, or others reach Serve while no
            request needs credentials.
    """
    if args:
        raise ConfigError(
            f"penstock.serve.application:app takes no args, and there are {', '.join(sorted(args))}: set them as "
            "settings of the Ray nodes, in a file (PENSTOCK_CONFIG) or in the environment"
        )
    settings = load_settings()
    check_running_serve(settings)  # again in the replicas: Ray may not be joined yet
    query = settings.query
    if not query.hosts:  # the deployment states the address, so that the one of the settings says nothing about names
        query = query.model_copy(update={"hosts": (ANY,)})
    return query_application(settings.model_copy(update={"query": query}))
