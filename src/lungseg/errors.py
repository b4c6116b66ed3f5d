"""The one error that a user is meant to read."""


class UserError(Exception):
    """What is wrong, where, and what to do about it, in one sentence.

    The commands print it without a traceback and exit with its code; every other exception is a bug and keeps its traceback.
    """

    exit_code = 2
