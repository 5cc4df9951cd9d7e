"""From score tables to metrics and decisions, with pandas and NumPy alone.

    score tables → image scores by fitted heads (`image_scores`) → metrics with intervals, decisions

A higher score means more out of distribution, and out of distribution is the positive class: in
every score, table, metric and decision of this package.
"""
