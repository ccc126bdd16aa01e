"""Language-model reasoning: one file per paper."""
