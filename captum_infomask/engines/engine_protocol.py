# The protocol of engines, the call that an engine runs, and the passes that are read.
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, runtime_checkable

from torch import Tensor

from captum_infomask._outputs import read_logits
from captum_infomask._process import libraries_state, users_default
from captum_infomask._random import LibraryDraws, OwnGenerators
from captum_infomask.engines.traced import traced
from captum_infomask.engines.traced_network import StandsAside, TracedNetwork
from captum_infomask.scores.readings import Reader, Reading
from captum_infomask.scores.score import Score
from captum_infomask.views.view_plan import Blank, ViewPlan

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from captum_infomask.results.info_map import InfoMap


@dataclass(frozen=True, eq=False)
class Call:
    """The parts of an attribute call that its engine runs.

    Attributes:
        forward_func: The user's forward function.
        additional_forward_args: Further arguments. Those with one entry per image follow their
            image's views; all others are passed as they are.
        perturbations_per_eval: The most views per image in one forward pass, as in Captum's
            methods. None takes a size that suits the device.
        seed: The seed that chooses the views to compare if a copy stands for the network.
        libraries: The network's draws from Python and NumPy, and its own generators of PyTorch.
        per_example: Whether each further argument has one entry per image.
        is_guess: Whether lengths alone decided ``per_example``.
    """

    forward_func: Callable[..., Any]
    additional_forward_args: tuple[Any, ...] = ()
    perturbations_per_eval: int | None = None
    seed: int = 0
    libraries: LibraryDraws = field(default_factory=lambda: LibraryDraws(0, OwnGenerators(0)))
    per_example: tuple[bool, ...] = ()
    is_guess: bool = False

    @property
    def generators(self) -> OwnGenerators:
        """The generators from which a network draws that draws by itself."""
        return self.libraries.generators

    def forward(self, *inputs: Any) -> Tensor:
        """Run the user's function, and read its output.

        Raises:
            ArgumentError: It returns no tensor, and nothing whose logits are (N, M).
        """
        with users_default():
            return read_logits(self.forward_func(*inputs))

    def run(self, *inputs: Any) -> Tensor:
        """Do the same; the function's own draws are the call's."""
        with self.generators:
            return self.forward(*inputs)

    @contextmanager
    def drawing_nothing(self) -> Iterator[None]:
        """Inside, a network that draws is refused, and the numbers that it draws are its own.

        Raises:
            StandsAside: The network draws random numbers. Or another thread draws some from Python
                or NumPy, and it is not known yet that the network does not.
        """
        before = libraries_state()
        with OwnGenerators(0) as generators:
            yield
        moved = self.libraries.found is not False and libraries_state() != before
        if generators.drew or moved:
            raise StandsAside("it draws random numbers")

    def traced(self, given: tuple[Any, ...]) -> TracedNetwork:
        """Return the user's network as operations; it is traced once in a call.

        Args:
            given: The arguments that it will be called with.

        Raises:
            StandsAside: The network cannot be traced, or random numbers are drawn meanwhile.
        """
        if self.libraries.found:
            raise StandsAside("it draws random numbers")
        form = tuple(isinstance(value, Tensor) for value in given)
        if form not in self._traces:
            try:
                with self.drawing_nothing():
                    self._traces[form] = traced(self.forward_func, given)
            except StandsAside as reason:
                self._traces[form] = str(reason)
        found = self._traces[form]
        if isinstance(found, str):
            raise StandsAside(found)
        return found

    @cached_property
    def _traces(self) -> dict[tuple[bool, ...], TracedNetwork | str]:
        return {}


class Running(Protocol):
    """An engine at work on one call."""

    @property
    def name(self) -> str:
        """The engine that ran, and why no other did, for the results; known after the run."""
        ...

    def check(self, plan: ViewPlan, blank: Blank | None) -> None:
        """Refuse views that it cannot show at all, before anything of the user's runs."""
        ...

    def run(self, plan: ViewPlan) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the rows of the plan in a chunk, long (B,), and the network's output for them.

        Every row comes once, in any order.
        """
        ...


@runtime_checkable
class Engine(Protocol):
    """An engine turns views into the network's outputs, chunk by chunk. It holds settings only."""

    def start(self, call: Call) -> Running:
        """Begin a call; nothing of the user's has run when this returns."""
        ...


class ReadBy(TypedDict):
    """How regions are read, for the results; see :class:`InfoMap`."""

    unit: str
    score: Score
    overlap: str
    is_tuple: bool
    contrast: Tensor | None


class Passes(Protocol):
    """The forward passes of one call, and how their outputs are read."""

    @property
    def outputs(self) -> int:
        """M, the number of classes in the outputs; known when the whole images are read."""
        ...

    def running(self, name: str, show_progress: bool) -> AbstractContextManager[Any]:
        """Show a progress bar and keep the user's model as it is; all reading happens inside."""
        ...

    def read_whole(
        self, reader: Reader, table: Tensor | None, bar: Any, *, as_regions: bool = False
    ) -> Reading:
        """Return i(y; x) of the whole images, (n, ...); this comes first.

        Args:
            reader: How outputs are read.
            table: Each image's target or classes, (n, k), or None.
            bar: The progress bar.
            as_regions: Whether the regions will be read by the same reader and table.
        """
        ...

    def read_blank(self, reader: Reader, table: Tensor | None, bar: Any) -> Reading | None:
        """Return i(y; all-imputed view) that each region is counted from, (n, R, ...), if it is."""
        ...

    def read_regions(
        self, reader: Reader, table: Tensor | None, bar: Any, total: Reading, blank: Reading | None
    ) -> Reading:
        """Return the information of every region, (n, R, ...); NaN if an image does not have it."""
        ...

    def doubt_lone_parts(
        self, score: Score, classes: Tensor, total: Reading, found: Reading
    ) -> None:
        """Warn if parts shown alone contradict the class that their own picture surely shows.

        Args:
            score: How outputs were read.
            classes: Each image's classes, long (n, K).
            total: i(y; x), (n, K), or (n,) for one class.
            found: Each region's reading, (n, R, K), or (n, R).
        """
        ...

    def info_map(
        self, found: Reading, total: Reading, blank: Reading | None, **read_by: Unpack[ReadBy]
    ) -> InfoMap:
        """Return the readings, with the settings that produced them."""
        ...
