"""Which sequences to work on together; knows their lengths only."""

from collections.abc import Sequence


def group_by_length(lengths: Sequence[int], max_tokens: int, max_padding: int) -> list[list[int]]:
    """Indices of `lengths`, longest first, in groups that are padded to their longest.

    A group, padding included, has at most `max_tokens` tokens unless it is a single sequence, and each of its
    sequences is at most `max_padding` tokens shorter than the longest.
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups:
            longest = lengths[groups[-1][0]]
            if longest - lengths[i] <= max_padding and longest * (len(groups[-1]) + 1) <= max_tokens:
                groups[-1].append(i)
                continue
        groups.append([i])
    return groups
