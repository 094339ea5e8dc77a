"""Keys, and what each key may use."""

import hashlib
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from prfaas.config.sections import ApiKeySection
from prfaas.core.errors import ContendedError, EngineError, RateLimitError, RequestError
from prfaas.core.request import MAX_SALT_CHARACTERS
from prfaas.gateway.charge import charged
from prfaas.gateway.tenants import Tenant, Tenants
from prfaas.telemetry.admission_metrics import AdmissionMetrics
from tests.gateway.running_router import ManualClock


def section(name: str = "a", **options: Any) -> ApiKeySection:
    return ApiKeySection(name=name, sha256=hashlib.sha256(f"key of {name}".encode()).hexdigest(), **options)


def tenant(clock: ManualClock, **options: Any) -> Tenant:
    found = Tenants([section(**options)], clock).find(b"key of a")
    assert found
    return found


def test_a_key_belongs_to_one_tenant() -> None:
    tenants = Tenants([section("a"), section("b")], ManualClock())
    assert tenants.closed
    assert [found.name for found in (tenants.find(b"key of a"), tenants.find(b"key of b")) if found] == ["a", "b"]
    for wrong in (b"", b"key of c", b"key of a ", hashlib.sha256(b"key of a").hexdigest().encode()):
        assert tenants.find(wrong) is None
    assert not Tenants([], ManualClock()).closed


def test_salts_of_two_tenants_never_meet() -> None:
    a, b, again = (Tenant(name="a", digest=digest) for digest in (b"1", b"2", b"1"))
    salts = {t.cache_salt(salt) for t in (a, b) for salt in ("", "x", "a", "b")}
    assert len(salts) == 8
    assert max(map(len, salts)) <= MAX_SALT_CHARACTERS
    assert a.cache_salt("x") == again.cache_salt("x"), "the same on every router"
    assert Tenant().cache_salt("x") == "x", "nothing changes without keys"


def test_nobody_gets_above_the_class_of_the_key() -> None:
    clock = ManualClock()
    interactive, batch = tenant(clock), tenant(clock, priority="batch")
    assert [interactive.priority(p) for p in (None, "interactive", "batch")] == ["interactive", "interactive", "batch"]
    assert [batch.priority(p) for p in (None, "interactive", "batch")] == ["batch"] * 3


def test_requests_that_come_too_fast() -> None:
    clock = ManualClock()
    limited = tenant(clock, requests_per_s=0.5, burst=2)
    limited.count_request()
    limited.count_request()
    with pytest.raises(RateLimitError, match=r"'a' may send 0\.5 requests a second, and 2 at once") as refused:
        limited.count_request()
    assert refused.value.retry_after_s == 2
    clock.now_s += 2
    limited.count_request()


def use(limited: Tenant, generated: int = 0, error: Exception | None = None) -> AdmissionMetrics:
    """10 tokens of prompt, of which at most 20 are to follow."""
    metrics = AdmissionMetrics(CollectorRegistry())
    with charged(limited, "interactive", 10, 20, lambda: generated, metrics):
        if error:
            raise error
    return metrics


def holds(limited: Tenant, tokens: int) -> bool:
    """Whether it could use just so many now."""
    with pytest.raises(RateLimitError):
        limited.take_tokens(tokens + 1)
    limited.take_tokens(tokens)
    return True


def test_what_was_not_generated_is_given_back() -> None:
    limited = tenant(ManualClock(), tokens_per_s=1.0, token_burst=100)
    use(limited, generated=5)
    assert holds(limited, 85)


@pytest.mark.parametrize(("error", "left"), [(ContendedError("full"), 100), (EngineError("broke"), 90)])
def test_only_what_was_let_in_costs_its_prompt(error: Exception, left: int) -> None:
    limited = tenant(ManualClock(), tokens_per_s=1.0, token_burst=101)
    limited.take_tokens(1)
    with pytest.raises(type(error)):
        use(limited, error=error)
    assert holds(limited, left)


def test_tokens_that_are_not_there_now_or_ever() -> None:
    clock = ManualClock()
    limited = tenant(clock, tokens_per_s=2.0, token_burst=40)
    use(limited, generated=20)
    with pytest.raises(RateLimitError, match="may use 2 tokens a second; prompt and answer may take 30") as refused:
        use(limited)
    assert refused.value.retry_after_s == 10
    clock.now_s += 10
    use(limited)
    with pytest.raises(RequestError, match="may take 30 tokens, and API key 'a' may use 29 at once"):
        use(tenant(clock, tokens_per_s=2.0, token_burst=29))
