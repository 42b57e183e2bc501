"""The one exception for what a user can cause; `gazepipe.cli` prints it as one line and exits with status 2."""


class UserError(Exception):
    """Bad input. The message is one line that names the file (or key), the value found, and the mend."""
