"""From score tables to metrics and decisions, with pandas and NumPy alone.

    score table → z-scores (`calibration`) → metrics with intervals (`metrics`)
                                           → p-values and decisions (`decisions`)

A higher score means more out of distribution, and out of distribution is the positive class: in
every score, table, metric and decision of this package.
"""
