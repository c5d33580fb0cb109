"""What will be measured, and in which order: randomised ABBA blocks over all configurations, with an A/A arm that is always on.

A block is one text read by every arm twice, in a random order and then in the same order backwards (A B C C B A). A drift that is linear over the block
meets every arm alike, whatever its place, so each pair of arms can be compared within the block. The A/A arm is the first configuration once more, in
a worker process of its own: what it differs from itself is the harness's own noise. Other configurations are compared with both of its processes, so that
the arm is not measured for the check alone. Pure functions; knows nothing about engines.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab.bench.text_sets import BenchText
from lab.config import EngineConfig
from lab.errors import LabError

AA_SUFFIX = " (A/A)"


@dataclass(frozen=True)
class Arm:
    """One configuration as it takes part: the A/A arm is the reference once more, in another process."""

    label: str
    config: EngineConfig
    instance: int = 0  # which worker process of the configuration's kind


@dataclass(frozen=True)
class Block:
    """Samples that belong together: one text, one seed, every arm twice."""

    number: int
    round: int
    launch: int  # which set of worker processes; a new one starts from nothing
    text: int  # index into the plan's texts
    seed: int
    order: tuple[int, ...]  # indices into the plan's arms: a permutation, and its mirror image


@dataclass(frozen=True)
class Plan:
    """Everything that decides a benchmark's schedule."""

    arms: tuple[Arm, ...]  # the first is the reference
    texts: tuple[BenchText, ...]
    rounds: int
    warmup: int = 1
    launches: int = 1
    concurrency: int = 1
    seed: int = 1

    @property
    def sets(self) -> tuple[str, ...]:
        """The text sets, in order."""
        return tuple(dict.fromkeys(text.set for text in self.texts))

    @property
    def renders(self) -> int:
        """How many utterances the plan asks for, warm-ups included (at least; a compiling configuration may need more)."""
        warmups = self.warmup * len(self.arms) * len(self.texts) * self.launches
        return warmups + self.rounds * len(self.sets) * 2 * len(self.arms) * self.concurrency


def make_plan(
    configs: Sequence[EngineConfig],
    texts: Sequence[BenchText],
    *,
    rounds: int = 30,
    warmup: int = 1,
    launches: int = 1,
    concurrency: int = 1,
    seed: int = 1,
) -> Plan:
    """Check the numbers and add the A/A arm.

    Raises:
        LabError: a number is out of range, or there is nothing to measure.
    """
    for name, value, least, most in (
        ("rounds", rounds, 1, 10_000),
        ("warmup", warmup, 0, 100),
        ("launches", launches, 1, rounds),
        ("concurrency", concurrency, 1, 64),
    ):
        if not least <= value <= most:
            raise LabError(f"--{name} {value} has to be from {least} to {most}.")
    if not 0 <= seed < 2**31:
        raise LabError(f"--seed {seed} has to be from 0 to 2147483647.")
    if not configs or not texts:
        raise LabError("A benchmark needs a configuration and a text at least.")
    arms = [Arm(config.name, config) for config in configs]
    arms.insert(1, Arm(configs[0].name + AA_SUFFIX, configs[0], instance=1))
    return Plan(tuple(arms), tuple(texts), rounds, warmup, launches, concurrency, seed)


def blocks(plan: Plan) -> Iterator[Block]:
    """The blocks in the order in which they are measured; the same plan gives the same schedule.

    A round has one block for every text set, in random order; the texts of a set take turns from round to round.
    """
    rng = random.Random(plan.seed)
    members = {name: [index for index, text in enumerate(plan.texts) if text.set == name] for name in plan.sets}
    number = 0
    for round_ in range(plan.rounds):
        for name in rng.sample(plan.sets, len(plan.sets)):
            order = rng.sample(range(len(plan.arms)), len(plan.arms))
            yield Block(
                number=number,
                round=round_,
                launch=round_ * plan.launches // plan.rounds,
                text=members[name][round_ % len(members[name])],
                seed=plan.seed + round_,
                order=(*order, *reversed(order)),
            )
            number += 1


def start_order(plan: Plan, launch: int) -> list[int]:
    """The arms in the order in which their processes are started and warmed up in `launch`.

    Random, so that who starts first is not who is the reference, and in every second launch the order of the one before backwards: when a process was
    started may matter for as long as it lives, and chance alone leaves one arm early in most of a few launches.
    """
    order = list(range(len(plan.arms)))
    random.Random(f"{plan.seed} {launch // 2}").shuffle(order)
    return order[::-1] if launch % 2 else order
