"""What holds for all tests: no property fails for being slow, on a machine that has other things to do."""

from hypothesis import HealthCheck, settings

settings.register_profile("prfaas", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("prfaas")
