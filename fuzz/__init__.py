"""Hostile bytes for everything that reads bytes of strangers: `make fuzz`.

Each module but `run` is a target: `seeds()` gives well-formed inputs to start from, and `check(data)`
raises only when a promise is broken.
"""
