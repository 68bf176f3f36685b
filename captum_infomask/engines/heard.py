# Reads what regions' views tell about all classes beside the target, from the same passes.
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from captum_infomask.engines.engine_protocol import Running
from captum_infomask.engines.passes import RegionPasses
from captum_infomask.scores.readings import Account, Reader, Reading
from captum_infomask.views.view_plan import Blank, ViewPlan, over_regions


@dataclass(frozen=True, eq=False)
class Heard:
    """An engine at work whose outputs for regions a further account reads too.

    Attributes:
        engine: The engine.
        account: The account.
    """

    engine: Running
    account: Account

    @property
    def name(self) -> str:
        """The engine that ran."""
        return self.engine.name

    def check(self, plan: ViewPlan, blank: Blank | None) -> None:
        """Refuse views that the engine cannot show."""
        self.engine.check(plan, blank)

    def run(self, plan: ViewPlan) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the engine's rows and outputs."""
        for rows, output in self.engine.run(plan):
            if plan.regions is not None:  # else the views show whole or blank pictures
                self.account.add(rows.to(output.device), output, None)
            yield rows, output


@dataclass(frozen=True, eq=False)
class HeardPasses:
    """Passes that are also read by a second reader, without a blank; the first reads as ever.

    Attributes:
        passes: The passes to run and read.
        account: The second reader's account.
    """

    passes: RegionPasses
    account: Account

    @classmethod
    def of(cls, passes: RegionPasses, reader: Reader) -> HeardPasses:
        """Let a second reader hear the outputs for the regions of these passes."""
        account = passes.account(reader, len(passes.plan))
        return cls(replace(passes, engine=Heard(passes.engine, account)), account)

    def reading(self) -> Reading:
        """What the second reader read of every region, (n, R, ...); after the run."""
        return over_regions(self.passes.plan, self.account.reading())
