"""Training of the keypose policies on episodes."""
