"""How many requests an instance takes on at once, where its file does not say. Knows nothing of memory."""

from prfaas.config.deployment import PlannedEngineSection
from prfaas.core.errors import ConfigError
from prfaas.policy.profile import Profile
from prfaas.policy.view import Role

PREFILL_RUNNING = 64
DECODE_BATCHES = 2
"""Of requests on an instance that decodes. Each holds its place from its reservation on, while its prompt is prefilled
and crosses: with places for one batch only, prompts that wait would leave decode without work."""


def max_running(engine: PlannedEngineSection, profile: Profile, role: Role) -> int:
    """Raises ConfigError where a step would have no token for each."""
    default = DECODE_BATCHES * profile.decode.max_batch if role == "decode" else PREFILL_RUNNING
    running = engine.max_running_requests or default
    if running >= engine.step_tokens:
        raise ConfigError(
            f"engine.step_tokens is {engine.step_tokens}, and {running} requests run at once on a {role} instance of "
            f"profile {profile.name}; raise engine.step_tokens above that, or lower engine.max_running_requests"
        )
    return running
