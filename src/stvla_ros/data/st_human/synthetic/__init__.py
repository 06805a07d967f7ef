"""RGB-D videos of a hand that does a task on a simulated table, with the truth about every frame."""
