"""What is shown to a reader who was not there: `ood/report.html`, and logs that compare runs.

    assessment + pictures + history → content → one HTML file

Like detection it needs no torch.
"""
