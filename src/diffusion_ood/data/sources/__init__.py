"""The data sets that `get_datasets.py` prepares: one file and a line of `SOURCES` each."""
