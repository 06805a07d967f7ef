"""What the guidance of one frame costs, stage by stage, and how well it fills."""
