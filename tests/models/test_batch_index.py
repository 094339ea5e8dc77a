import pytest
import torch

from prfaas.core.decoder_spec import Rotary
from prfaas.models.batch import ForwardBatch
from prfaas.models.batch_index import index_batch


def batch(query_lens: tuple[int, ...], context_lens: tuple[int, ...], num_decodes: int) -> ForwardBatch:
    sequences = len(query_lens)
    return ForwardBatch(
        token_ids=torch.zeros(sum(query_lens), dtype=torch.int64),
        query_lens=query_lens,
        context_lens=context_lens,
        block_table=torch.arange(sequences * 5).view(sequences, 5) * 10,
        state_slots=torch.arange(sequences) + 100,
        num_decodes=num_decodes,
        logit_rows=torch.zeros(0, dtype=torch.int64),
    )


def test_places_every_token_of_a_mixed_batch() -> None:
    index = index_batch(batch((1, 1, 3, 1), (7, 2, 3, 0), num_decodes=2), page_tokens=4, frequencies={})
    assert index.token_pages.tolist() == [10, 50, 100, 110, 110, 150]
    assert index.token_offsets.tolist() == [3, 2, 3, 0, 1, 0]
    assert index.decode_lengths.tolist() == [8, 3]
    assert index.decode_pages.tolist() == [[0, 10], [50, 60]]
    assert index.decode_slots.tolist() == [100, 101]
    assert [(s.start, s.stop, s.context, s.length, s.slot) for s in index.prefills] == [
        (2, 5, 3, 6, 102),
        (5, 6, 0, 1, 103),
    ]
    assert [s.pages.tolist() for s in index.prefills] == [[100, 110], [150]]


def test_decodes_only() -> None:
    index = index_batch(batch((1, 1), (4, 3), num_decodes=2), page_tokens=4, frequencies={})
    assert index.token_pages.tolist() == [10, 50]
    assert index.token_offsets.tolist() == [0, 3]
    assert index.prefills == ()


@pytest.mark.parametrize(("lens", "contexts", "decodes"), [((2,), (3,), 1), ((1,), (0,), 1)])
def test_a_decode_is_one_token_after_others(lens: tuple[int, ...], contexts: tuple[int, ...], decodes: int) -> None:
    with pytest.raises(AssertionError):
        index_batch(batch(lens, contexts, decodes), page_tokens=4, frequencies={})


def test_angles_are_those_of_every_token_s_position() -> None:
    rotary = Rotary(4, 100.0)
    inverse = torch.tensor([1.0, 0.1])
    cos, sin = index_batch(batch((1, 2), (7, 3), 1), page_tokens=4, frequencies={rotary: inverse}).angles[rotary]
    angles = torch.tensor([[7.0, 0.7], [3.0, 0.3], [4.0, 0.4]])
    torch.testing.assert_close(cos, angles.cos())
    torch.testing.assert_close(sin, angles.sin())
