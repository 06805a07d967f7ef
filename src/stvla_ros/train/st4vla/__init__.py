"""Training of ST4VLA's second stage: actions under a spatial prompt, with grounding beside them."""
