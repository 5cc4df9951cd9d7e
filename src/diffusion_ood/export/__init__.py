"""Export: a detector in the form of other tools."""
