"""The programs: each joins stages together, and is called by the script of its name."""
