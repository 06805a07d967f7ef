"""The keypose network's fast path: the same results from fewer and larger operations. Start reading in ``network``."""
