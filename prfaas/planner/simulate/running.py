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
    """Requests that hold memory at once."""
    default = DECODE_BATCHES * profile.decode.max_batch if role == "decode" else PREFILL_RUNNING
    return engine.max_running_requests or default


def step_running(engine: PlannedEngineSection, profile: Profile, role: Role) -> int:
    """`max_running` of an instance that works in steps. Raises ConfigError where one would have no token for each."""
    running = max_running(engine, profile, role)
    if running >= engine.step_tokens:
        raise ConfigError(
            f"engine.step_tokens is {engine.step_tokens}, and {running} requests run at once on a {role} instance of "
            f"profile {profile.name}; raise engine.step_tokens above that, or lower engine.max_running_requests"
        )
    return running
