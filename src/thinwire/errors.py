"""The one exception that a user's mistake becomes."""


class ThinwireError(Exception):
    """A user's mistake or a missing resource, told in one sentence that names the value and the way out.

    The command line prints the sentence and exits with a non-zero code; a traceback means a bug of ours.
    """
