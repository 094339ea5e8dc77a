"""What one call costs its tenant, from before it is placed until after its last token. Knows no HTTP."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prfaas.config.sections import Priority
from prfaas.core.errors import NotNowError, RateLimitError
from prfaas.gateway.tenants import Tenant
from prfaas.telemetry.admission_metrics import AdmissionMetrics


@contextmanager
def charged(
    tenant: Tenant,
    priority: Priority,
    prompt_tokens: int,
    max_tokens: int,
    generated: Callable[[], int],
    metrics: AdmissionMetrics,
) -> Iterator[None]:
    """Takes from the tenant's bucket, gives back what was not used, and counts what was.

    Raises RateLimitError or RequestError for more than the tenant may use now, or ever. What was not let into the fleet
    (NotNowError) costs nothing; a prompt that was does, whatever became of its answer.
    """
    try:
        tenant.take_tokens(prompt_tokens + max_tokens)
    except RateLimitError:
        metrics.refused("tokens_rate", priority)
        raise
    used = prompt_tokens
    try:
        yield
    except NotNowError:
        used = 0
        raise
    finally:
        used += generated()
        tenant.give_back_tokens(prompt_tokens + max_tokens - used)
        if tenant.name:
            metrics.tenant_tokens.labels(tenant.name).inc(used)
