"""Which weight map a family has; its keys are those of the config readers."""

from prfaas.models.weight_maps.family_map import FamilyMap
from prfaas.models.weight_maps.kimi_linear import KIMI_LINEAR
from prfaas.models.weight_maps.mimo_v2_flash import MIMO_V2_FLASH
from prfaas.models.weight_maps.minimax import MINIMAX, MINIMAX_M2
from prfaas.models.weight_maps.qwen import QWEN
from prfaas.models.weight_maps.ring import RING

WEIGHT_MAPS: dict[str, FamilyMap] = {
    "kimi_linear": KIMI_LINEAR,
    "mimo_v2_flash": MIMO_V2_FLASH,
    "minimax": MINIMAX,
    "minimax_m2": MINIMAX_M2,
    "qwen3": QWEN,
    "qwen3_5": QWEN,
    "qwen3_5_moe": QWEN,
    "qwen3_moe": QWEN,
    "qwen3_next": QWEN,
    "ring": RING,
}
