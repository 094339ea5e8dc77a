"""The error tree: codes are unique, and survive the wire."""

from prfaas.core.errors import BY_CODE, PrfaasError, TicketError, from_code


def test_every_class_has_a_code_of_its_own() -> None:
    def classes(root: type[PrfaasError]) -> list[type[PrfaasError]]:
        return [root, *(c for child in root.__subclasses__() for c in classes(child))]

    # Layers above may have narrower classes of their own, which keep the code of their parent.
    found = [c for c in classes(PrfaasError) if c.__module__ == PrfaasError.__module__]
    assert len({c.code for c in found}) == len(found) == len(BY_CODE)


def test_from_code_restores_the_type() -> None:
    error = from_code("ticket_refused", "no")
    assert isinstance(error, TicketError)
    assert str(error) == "no"
    assert type(from_code("from_the_future", "x")) is PrfaasError
