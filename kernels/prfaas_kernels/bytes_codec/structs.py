"""The arguments of the compiled codecs as bytes, each the mirror of a struct in `native/codec_*.cpp`."""

from struct import Struct

INT8 = Struct("6q2q2q")
"""`Int8` of codec_int8.cpp."""
STATE16 = Struct("2q2q2q")
"""`State16` of codec_state16.cpp."""
EXACT = Struct("6q2q6q2q")
"""`Exact` of codec_exact.cpp."""
EXACT_HEADER = Struct("<2sBBIII")
"""Magic, version, mode, values, escapes, 0."""
