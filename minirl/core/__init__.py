"""What several algorithms share and no paper invented: networks, replay, rollout, evaluation, seeding, checkpoints."""
