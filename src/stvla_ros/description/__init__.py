"""The Panda as one source of facts for physics, rendering, planning and self-masking."""
