"""How long the keypose network takes, in use and in training, beside the published code."""
