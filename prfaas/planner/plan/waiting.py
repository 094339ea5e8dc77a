"""How much longer a prompt takes on a busy instance than alone: M/G/c queues as formulas. Knows no fleets."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Station:
    """`servers` equal instances, the least busy of which takes each arrival: Poisson, `service_s` each on average."""

    servers: int
    service_s: float
    rate_req_s: float

    @property
    def utilisation(self) -> float:
        return self.rate_req_s * self.service_s / self.servers if self.servers else 0.0

    @property
    def stable(self) -> bool:
        return self.utilisation < 1

    @property
    def busy_chance(self) -> float:
        """Erlang C: the chance that an arrival finds all servers busy, 1 where they cannot keep up."""
        return erlang_c(self.servers, self.rate_req_s * self.service_s) if self.stable else 1.0

    @property
    def stretch(self) -> float:
        """Mean time in the system over the service time, under processor sharing: 1 + C / (c (1 - rho)).

        An instance works on all its prompts in turn (`prfaas.scheduler.shares`). Processor sharing does not care for
        the mix's variance, so the factor (1 + scv) / 2 of Allen and Cunneen, which waiting in line needs, is 1; and a
        prompt is held up in proportion to its own length.
        """
        return 1 + self.busy_chance * self.busy_stretch

    @property
    def busy_stretch(self) -> float:
        """What is added to it where all servers are found busy."""
        return 1 / (self.servers * (1 - self.utilisation))

    def wait_s(self, scv: float) -> float:
        """Mean wait in line, first come, first served, by Allen and Cunneen: C / (c mu - lambda) * (1 + scv) / 2.

        `scv`: variance of the service time over its squared mean.
        """
        return self.busy_chance * self.service_s * self.busy_stretch * (1 + scv) / 2


def erlang_c(servers: int, offered: float) -> float:
    """The chance that M/M/c keeps an arrival waiting; `offered` = rate times mean service, below `servers`."""
    assert 0 <= offered < servers
    if offered == 0:
        return 0.0
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = offered * blocked / (n + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))
