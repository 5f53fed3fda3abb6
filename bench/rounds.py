"""Ours and the baseline by turns, so that what else the machine does meets both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from bench.load import Job, Result
from bench.processes import Load, Process
from bench.report import middle


@dataclass(frozen=True)
class Side:
    """One of those compared: where its load goes, and the process that bears it."""

    name: str
    job: Job
    process: Process


@dataclass
class Measured:
    """A side's rounds."""

    name: str
    results: list[Result] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)

    def of(self, pick: Callable[[Result], float]) -> list[float]:
        return [pick(result) for result in self.results]

    @property
    def per_second(self) -> float:
        return middle(self.of(lambda result: result.per_second))

    @property
    def p50_ms(self) -> float:
        return middle(self.of(lambda result: result.p50_ms))

    @property
    def p99_ms(self) -> float:
        return middle(self.of(lambda result: result.p99_ms))

    @property
    def cpu(self) -> float:
        """Microseconds of processor time a request costs its server."""
        return middle(self.cpu_us)

    def row(self) -> tuple[str, float, float, float, float]:
        """Return the line of a table with `COLUMNS`."""
        return self.name, self.per_second, self.p50_ms, self.p99_ms, self.cpu


COLUMNS = ("", "req/s", "p50 ms", "p99 ms", "server CPU µs/req")


def alternate(load: Load, sides: Sequence[Side], rounds: int) -> list[Measured]:
    """Run every side once a round, in an order that turns around each time."""
    measured = [Measured(side.name) for side in sides]
    for number in range(rounds):
        order = list(zip(sides, measured, strict=True))
        for side, into in order if number % 2 == 0 else reversed(order):
            before = side.process.cpu_seconds()
            result = load.run(replace(side.job, first_number=side.job.first_number + number * 10_000_000))
            into.results.append(result)
            into.cpu_us.append((side.process.cpu_seconds() - before) / result.sent * 1e6)
    return measured


def ratio(one: Measured, other: Measured, pick: Callable[[Result], float]) -> float:
    """Return the median of the rounds' own ratios: what slowed a whole round down slowed both."""
    pairs = zip(one.of(pick), other.of(pick), strict=True)
    return middle([mine / theirs for mine, theirs in pairs])
