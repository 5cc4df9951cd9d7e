"""Screening: a detector is asked about images, whatever comes, and its decisions are kept."""
