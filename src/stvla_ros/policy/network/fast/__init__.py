"""Fast inference of the keypose network: the same results from fewer and larger operations. Start with ``network``."""
