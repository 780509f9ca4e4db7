"""What can be wrong with a folder or with a question about it."""


class SearchError(Exception):
    """One line that names what is wrong and where."""
