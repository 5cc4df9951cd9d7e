"""Scores: how far a reconstruction is from its image. Adding one is a file and a line in `build`.

Higher means more out of distribution, for every score of this package.
"""
