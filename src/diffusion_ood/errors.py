"""The one exception that is the user's to mend."""


class UserError(ValueError):
    """A mistake in what the user gave: a flag, a file, a row.

    The message is one sentence that names the file and row, what was found and what was expected.
    The commands print it on stderr without a traceback and leave with exit code 2.
    """
