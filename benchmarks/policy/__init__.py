"""How long the keypose network takes, in use and in training, compared with the published code."""
