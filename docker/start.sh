#!/bin/sh
# What the container has, on stderr; then the command takes this process's place.
python -m tools.health >&2
exec "$@"
