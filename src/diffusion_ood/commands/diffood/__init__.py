"""The command lines of DiffOOD, the second system (Liu et al. 2022), as its authors call them."""
