"""The routes of the HTTP API, one router a file."""
