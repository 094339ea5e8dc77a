"""The certificates that a process shows and trusts, read again when the files change."""


class Credentials:
    """One process's certificate, key and authority."""
