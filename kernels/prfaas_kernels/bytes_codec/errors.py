"""What is wrong with encoded bytes; does not know where they came from."""


class CodecError(ValueError):
    """Bytes are not what their format says, or values are not what a format takes."""
