"""Language agents: one file per paper, and the baselines they are compared with."""
