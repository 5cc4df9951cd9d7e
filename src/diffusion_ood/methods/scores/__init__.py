"""Scores of reconstructions: how far they are from their images; higher is more unusual.

Adding one is a file here, a subclass of `PairScore`, and a line in `SCORES`.
"""
