"""Training: one loop for every network, its checkpoints, and the tasks that it trains."""
