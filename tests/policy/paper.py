"""The case study of the PrfaaS paper (s4): tables 4 to 6, and what they imply."""

from prfaas.policy.lengths import Lognormal
from prfaas.policy.profile import DecodeCurve, PrefillCurve, Profile
from prfaas.policy.throughput import Deployment

MIB = 2**20
LENGTHS = Lognormal(9.90, 1.00, 128, 131_072)
DECODE = DecodeCurve(points=((20, 0.025),), max_batch=20)
"""The batch and the step that give all three decode throughputs of table 6."""
KV_BYTES_PER_TOKEN = (2316.3 - 190.8) * MIB / (131_072 - 1024)
STATE_BYTES = 190.8 * MIB - 1024 * KV_BYTES_PER_TOKEN
H200 = Profile(
    "8xH200",
    PrefillCurve(0.4, 3e-5, 2e-10, ((1024, 0.44), (8192, 0.72), (32_768, 1.84), (131_072, 7.40))),
    DECODE,
    KV_BYTES_PER_TOKEN,
    STATE_BYTES,
    cache_bytes=1e12,
)
H20 = Profile(
    "8xH20",
    # Through 1.83 s at 10,224 tokens, 4.27 s at 27,486 and 9.73 s at 62,410.
    PrefillCurve(0.46554, 1.305201e-4, 2.87214e-10),
    DECODE,
    KV_BYTES_PER_TOKEN,
    STATE_BYTES,
    cache_bytes=1e12,
)
PRFAAS_PD = Deployment(H200, H20, n_prfaas=4, n_pd=8, egress_bytes_s=100e9 / 8, output_tokens=1024)
HOMOGENEOUS = Deployment(None, H20, n_prfaas=0, n_pd=12, egress_bytes_s=0.0, output_tokens=1024)
