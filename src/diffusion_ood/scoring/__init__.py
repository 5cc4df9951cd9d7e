"""Scoring sets of images: which sets, their tables, and the pictures of them."""
