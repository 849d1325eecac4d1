"""Diversity by what somebody finds alike: MAP-Elites on a robot arm, whose cells are learned from triplets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from heedful.reproductions import Criterion, Figure, Reproduction, Result

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

JOINTS, CELLS, STEP = (
    10,
    50,
    0.1,
)  # angles of a solution; of each of two measures; how far a child is
ITERATIONS, BATCH = 400, 200
TRIPLETS = 1000
LEARNED_AT = (
    0.0,
    0.1,
    0.25,
    0.5,
)  # of the iterations: the measures, each time from as many triplets more
WIDE, FITS = 64, 400
ARMS = ("true", "triplets", "PCA", "PCA once", "random")
Places = Callable[["NDArray[Any]"], "NDArray[Any]"]  # angles [N, JOINTS] → measures [N, 2]


def run(seed: int, folder: Path, quick: bool) -> Result:
    """Coverage of where the hand can be, by measures that are given, learned from triplets, by PCA, or of chance."""
    import numpy as np

    iterations = 40 if quick else ITERATIONS
    found: dict[str, Any] = {}
    for arm in ARMS:
        rng = np.random.default_rng([seed, ARMS.index(arm)])
        archive, places, over_time = illuminated(learner(arm, rng), rng, iterations)
        elites = archive.elites()
        found[f"{arm}: coverage"] = coverage(elites)
        found[f"{arm}: quality"] = float(-elites.std(1).mean())
        found[f"{arm}: coverage by iteration"] = over_time
        if arm == "triplets":
            held = triplets(elites, 2000, rng)
            found["triplets as people say"] = fmean(closer(places, held) > 0)
    own, again, once = (found[f"{arm}: coverage"] for arm in ARMS[1:4])
    return found | {
        "coverage, of PCA's": own / again,
        "coverage, of the better PCA's": own / max(again, once),
    }


def hand(angles: NDArray[Any]) -> NDArray[Any]:
    """`[N, 2]`: where an arm of length 1 with equal links ends, each angle relative to the link before."""
    import numpy as np

    turned = angles.cumsum(1)
    return np.stack([np.cos(turned).mean(1), np.sin(turned).mean(1)], 1)


def features(angles: NDArray[Any]) -> NDArray[Any]:
    """`[..., 2 JOINTS]` of `[..., JOINTS]`: where each link points, which is what one sees of an arm."""
    import numpy as np

    turned = angles.cumsum(-1)
    return np.concatenate([np.cos(turned), np.sin(turned)], -1)


def coverage(angles: NDArray[Any]) -> float:
    """The share of the cells of the square around the arm in which a hand is; those outside its reach count, too."""
    return len(set(cell_of(hand(angles), -1.0, 1.0).tolist())) / CELLS**2


def cell_of(places: NDArray[Any], low: Any, high: Any) -> NDArray[Any]:
    """The cell of each place `[N, 2]`; who is outside the bounds is in the cell at the border."""
    import numpy as np

    steps = np.floor((places - low) / (np.asarray(high) - low) * CELLS).astype(int)
    return np.clip(steps, 0, CELLS - 1) @ (CELLS, 1)


class Archive:
    """Of each cell the solution of the highest quality: angles that differ least."""

    def __init__(self, places: Places, seen: NDArray[Any]) -> None:
        import numpy as np

        self.places = places
        self.low, self.high = places(seen).min(0), places(seen).max(0)
        self.angles = np.zeros((CELLS**2, JOINTS))
        self.quality = np.full(CELLS**2, -np.inf)
        self.add(seen)

    def add(self, angles: NDArray[Any]) -> None:
        """Those that are better than what their cell has."""
        quality = -angles.std(1)
        order = quality.argsort()  # of several in a cell the best is written last
        cells = cell_of(self.places(angles), self.low, self.high)[order]
        better = quality[order] > self.quality[cells]
        cells, order = cells[better], order[better]
        self.angles[cells], self.quality[cells] = angles[order], quality[order]

    def elites(self) -> NDArray[Any]:
        import numpy as np

        return self.angles[np.isfinite(self.quality)]


Learner = Callable[["NDArray[Any]"], Places]


def illuminated(
    learn: Learner, rng: Generator, iterations: int
) -> tuple[Archive, Places, list[tuple[int, float]]]:
    """MAP-Elites (Mouret and Clune 2015), whose measures are learned anew from what the archive has so far."""
    import numpy as np

    seen = rng.uniform(-np.pi, np.pi, (5 * BATCH, JOINTS))
    archive, over_time = None, []
    for i in range(iterations):
        if i in [round(at * iterations) for at in LEARNED_AT]:
            elites = archive.elites() if archive else seen
            archive = Archive(learn(elites), elites)
        assert archive
        elites = archive.elites()
        parents = elites[rng.integers(len(elites), size=BATCH)]
        archive.add(parents + STEP * rng.standard_normal(parents.shape))
        if i % (iterations // 20) == 0:
            over_time.append((i, coverage(archive.elites())))
    assert archive
    return archive, archive.places, over_time


def learner(arm: str, rng: Generator) -> Learner:
    """How an arm comes to its measures."""
    import numpy as np

    heard: list[NDArray[Any]] = []

    def by_triplets(elites: NDArray[Any]) -> Places:
        heard.append(triplets(elites, TRIPLETS // len(LEARNED_AT), rng))
        return fitted(np.concatenate(heard), seed=int(rng.integers(1 << 31)))

    def pca(elites: NDArray[Any]) -> Places:
        middle = features(elites).mean(0)
        axes = np.linalg.svd(features(elites) - middle, full_matrices=False)[2][:2]
        return lambda angles: (features(angles) - middle) @ axes.T

    first: list[Places] = []

    def pca_once(elites: NDArray[Any]) -> Places:
        if not first:
            first.append(pca(elites))
        return first[0]

    axes = rng.standard_normal((2 * JOINTS, 2))
    return {
        "true": lambda elites: hand,
        "triplets": by_triplets,
        "PCA": pca,
        "PCA once": pca_once,
        "random": lambda elites: lambda angles: features(angles) @ axes,
    }[arm]


def triplets(solutions: NDArray[Any], count: int, rng: Generator) -> NDArray[Any]:
    """`[count, 3, JOINTS]`: a solution, another whose hand is closer to its own, and one that is farther away."""
    import numpy as np

    drawn = solutions[rng.integers(len(solutions), size=(count, 3))]
    nearer = closer(hand, drawn) > 0
    return np.where(nearer[:, None, None], drawn, drawn[:, [0, 2, 1]])


def closer(places: Places, drawn: NDArray[Any]) -> NDArray[Any]:
    """How much closer the second of each triplet is to the first than the third is, squared."""
    anchor, near, far = (places(drawn[:, k]) for k in range(3))
    return ((anchor - far) ** 2).sum(1) - ((anchor - near) ** 2).sum(1)


def fitted(drawn: NDArray[Any], seed: int) -> Places:
    """A network from features to two measures, by the loss of `heedful.evals.similarity`."""
    import torch

    from heedful.evals.similarity import triplet_loss

    torch.manual_seed(seed)
    net = torch.nn.Sequential(
        torch.nn.Linear(2 * JOINTS, WIDE), torch.nn.Tanh(),
        torch.nn.Linear(WIDE, WIDE), torch.nn.Tanh(), torch.nn.Linear(WIDE, 2),
    )  # fmt: skip
    sides = torch.tensor(features(drawn), dtype=torch.float32)
    adam = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=1e-2)
    for _ in range(FITS):
        adam.zero_grad()
        anchor, near, far = net(sides).unbind(1)
        triplet_loss(anchor, near, far).mean().backward()
        adam.step()

    def places(angles: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            return net(torch.tensor(features(angles), dtype=torch.float32)).double().numpy()

    return places


def figure(seeds: Sequence[Result]) -> Figure:
    """Coverage by iteration, means over seeds."""
    names = [f"{arm}: coverage by iteration" for arm in ARMS]
    return Figure(
        title="Cells in which the hand is, MAP-Elites by five kinds of measures",
        x="iterations",
        y="coverage in the true measure",
        lines={
            arm: [
                (point[0], fmean(s[name][k][1] for s in seeds))
                for k, point in enumerate(seeds[0][name])
            ]
            for arm, name in zip(ARMS, names, strict=True)
        },
    )


REPRODUCTION = Reproduction(
    name="qdhf",
    claim="What is different can be learned from what people find alike: a search for good solutions that differ, in "
    "measures that are learned from triplets, covers more of what really differs than in measures that are learned "
    "without people.",
    source="Ding et al. 2024 (QDHF, arXiv:2310.12103), the robotic arm; Mouret and Clune 2015 (MAP-Elites)",
    what=f"A planar arm of {JOINTS} joints; where its hand is counts as what really differs, how little its angles "
    f"differ as quality. MAP-Elites of {CELLS}×{CELLS} cells, {ITERATIONS} times {BATCH} children by normal noise of "
    f"{STEP}. Measures: the true ones; a network of two layers on the links' directions, by {TRIPLETS:,} triplets that "
    "a simulated rater answers by the hands' distance, a quarter of them at the beginning and after 10, 25 and 50 % of "
    "the iterations, about what the archive has then; PCA of the same features at the same times; PCA of the beginning "
    "alone, which is reported; a projection by chance. Coverage: the share of cells of the true measures' square with "
    "a hand in it, some of which no arm reaches; 2,000 triplets of the last archive for how often the network is "
    "right. Piloted on seeds 98 and 99.",
    frozen="2026-11-30",
    criteria=(
        Criterion("of new triplets as people say", "triplets as people say", "at least", 0.9),
        Criterion("coverage in the true measure, of PCA's", "coverage, of PCA's", "at least", 1.5),
    ),
    run=run,
    minutes=2,
    figure=figure,
)  # fmt: skip
