"""Where the time of a plan goes."""
