"""Results for a reader: printed tables, `ood/report.html`, and logs that compare runs.

    assessment + pictures + history → content → one HTML file

It needs no torch.
"""
