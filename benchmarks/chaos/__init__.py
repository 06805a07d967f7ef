"""Random faults during real tasks: what the stack notices, how it ends, and whether the next goal succeeds."""
