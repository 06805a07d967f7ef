"""The Panda: one source of facts for physics, rendering, planning and self-masking."""
