"""The use cases behind the routes, which depend on neither HTTP nor Ray."""
