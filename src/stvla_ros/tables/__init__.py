"""Tables of results by a protocol that is fixed before anything runs: rows of stacks, columns of scenes, paired."""

PROTOCOLS = ("table2", "table3", "realworld")
"""Protocols that come with the package, in ``protocols/``."""
