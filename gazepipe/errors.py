"""The one exception for what a user can cause; `gazepipe.cli` prints it as one line and exits with status 2."""

import os


class UserError(Exception):
    """Bad input. The message is one line that names the file (or key), the value found, and the correction."""


class StorageError(UserError, OSError):
    """A file could not be stored: the disk is full, or the folder may not be written."""

    def __init__(self, code: int, line: str) -> None:
        super().__init__(code, os.strerror(code))
        self.line = line

    def __str__(self) -> str:
        return self.line
