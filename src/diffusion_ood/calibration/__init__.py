"""From measurements to one score an image: heads, fitted on in-distribution images alone.

    score table → features (`base`) → a head's score → p-values (`conformal`)

A higher score means more out of distribution. NumPy, pandas, SciPy and scikit-learn; no torch.
"""
