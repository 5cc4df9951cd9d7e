"""Picture formats: what a file declares of its pixels is read from its own tags, then decoded.

`base` is what they share; `png`, `jpeg`, `tiff` and `bmp` read one format each, `nifti` volumes and
slices. What is not tested against known values is refused by name.
"""
