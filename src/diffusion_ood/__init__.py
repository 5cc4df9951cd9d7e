"""Out-of-distribution detection for images with diffusion models.

    split CSV → data → diffusion model → trajectories → scores → score table
              → z-scores → metrics → report

Each stage is a folder of this package and reads what the stage before it wrote and nothing else:
`data`, `networks` and `diffusion`, `trajectories`, `scores`, `detection`. `training` fits the
model, `runtime` holds what touches the machine (devices, processes, files), and `commands` are the
programs that join the stages together.
"""

__version__ = "0.1.0"
