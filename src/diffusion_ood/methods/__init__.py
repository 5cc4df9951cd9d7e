"""Methods: what is measured of an image. Adding one is a file here and a line in `METHODS`.

A method gives raw numbers and fits nothing; `calibration` turns them into scores.
"""
