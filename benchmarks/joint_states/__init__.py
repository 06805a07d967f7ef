"""How old joint states are where they arrive, while tasks run."""
