"""Theory: what can be computed, proved and measured exactly."""
