"""Training: one loop, and the averaged weights."""
