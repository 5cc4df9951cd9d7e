"""The one exception that is the user's to correct."""


class UserError(ValueError):
    """A mistake in what the user gave: an option, a file, a row.

    Each argument is one sentence that names the file and row, what was found and what was expected.
    Names of options stand in backticks, as the fields of the options classes are called; a command
    shows them as its flags. The commands print the sentences on stderr without a traceback and end
    with exit code 2.
    """

    def __str__(self) -> str:
        return "\n".join(self.args)
