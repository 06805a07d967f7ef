"""How long the arm takes to stand still after a cancel or the operator's stop."""
