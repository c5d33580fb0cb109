"""The errors a person may see.

Everything the lab refuses (a text, a clip, a configuration, a worker that died) is a `LabError` whose text says what is wrong and what to do about
it, in plain words and without markup. The command line prints it and exits with 2; a page shows it. Any other exception is a defect of the lab.
"""


class LabError(Exception):
    """Something a person can mend; `str(error)` is the message for them."""
