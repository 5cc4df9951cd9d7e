"""Trajectories: which noise levels an image starts from, its noise, and how the batch is filled."""
