"""Samplers: from x_t to x_s. Adding one is a file here and a line in `registries.SAMPLERS`.

A sampler keeps nothing between steps: whatever it wants to remember it returns, and the trajectory
hands it back. So trajectories of any age, at any times, can share one network call.
"""
