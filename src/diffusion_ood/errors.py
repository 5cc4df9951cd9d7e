"""The one exception that is the user's to mend."""


class UserError(ValueError):
    """A mistake in what the user gave: a flag, a file, a row.

    Each argument is one sentence that names the file and row, what was found and what was expected.
    The commands print them on stderr without a traceback and leave with exit code 2.
    """

    def __str__(self) -> str:
        return "\n".join(self.args)
