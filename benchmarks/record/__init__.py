"""What a recording costs the stack, and what is left of it when its recorder is killed or its disk is full."""
