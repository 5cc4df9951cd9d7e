"""Faults of acquisition: what goes wrong in a scanner or on the way from it, by severity 1 to 5.

Lesions are among them, which are no faults: their places are known, and maps should show them.

A fault is one function and one line in `registries.FAULTS`. It takes an image (C, *S) of float64
in [0, 1], a severity and a generator, and returns an image of this shape; what it gives outside
[0, 1] is clipped. *S has two or three sides. A fault draws the same numbers at every severity, so
that a higher one is the same accident, but worse.

They are NumPy and SciPy, not TorchIO or MONAI. TorchIO would add SimpleITK and eight more packages.
MONAI's transforms would load torch into every process that writes images, and their strengths are
in units of the data (`KSpaceSpikeNoise` takes a log-intensity, `RandBiasField` coefficients), not a
share of the range. The same operators take a few lines; tests hold the bias field and gamma against
MONAI's.
"""
