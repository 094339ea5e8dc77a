"""The fixed decays of lightning attention against the published formulas, written out."""

import math

import pytest

from prfaas.core.decoder_spec import DecoderSpec, Lightning
from prfaas.core.families.registry import decoder_spec
from prfaas.core.families.ring import alibi_slopes
from tests.core.configs import CONFIGS


def lightning(spec: DecoderSpec, layer: int) -> Lightning:
    mixer = spec.layers[layer].mixer
    assert isinstance(mixer, Lightning)
    return mixer


@pytest.mark.parametrize("heads", [1, 2, 4, 8, 16, 64, 128])
def test_slopes_of_a_power_of_two_are_a_geometric_series(heads: int) -> None:
    start = 2 ** (-(2 ** -(math.log2(heads) - 3)))
    assert alibi_slopes(heads) == pytest.approx([start ** (i + 1) for i in range(heads)], rel=1e-12)


@pytest.mark.parametrize(
    ("heads", "exponents"),
    [
        (3, [4, 8, 2]),
        (6, [2, 4, 6, 8, 1, 3]),
        (12, [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5]),
    ],
)
def test_other_numbers_of_heads_borrow_from_the_next_power_of_two(heads: int, exponents: list[float]) -> None:
    assert alibi_slopes(heads) == pytest.approx([2**-e for e in exponents], rel=1e-12)


@pytest.mark.parametrize("layer", [0, 1, 38, 78])
def test_ring_decays_less_the_deeper_a_layer_is(layer: int) -> None:
    expected = [-slope * (1 - (layer - 1) / 79 + 1e-5) for slope in alibi_slopes(64)]
    assert lightning(decoder_spec(CONFIGS["ring"]), layer).log_decay == pytest.approx(expected, rel=1e-12)


def test_ring_has_latent_attention_last_in_each_group_and_where_no_group_is_filled() -> None:
    spec = decoder_spec(CONFIGS["ring"] | {"num_hidden_layers": 19})
    assert [i for i, layer in enumerate(spec.layers) if not isinstance(layer.mixer, Lightning)] == [7, 15, 16, 17, 18]


@pytest.mark.parametrize("layer", [0, 6])
def test_minimax_decays_by_its_own_series(layer: int) -> None:
    factor = 1 - layer / (7 + 1e-5) + 1e-5
    expected = [-factor * (1 / 2 ** (8 / 64)) ** (head + 1) for head in range(64)]
    assert lightning(decoder_spec(CONFIGS["minimax"]), layer).log_decay == pytest.approx(expected, rel=1e-12)
