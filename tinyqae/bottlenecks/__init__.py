"""Bottlenecks: how values become bits, and what gradient flows back. report.py has the report's four, variants.py others."""
from .base import Bottleneck
from .report import Commit, Fence, Naive, Vanilla
from .variants import Annealed, Clipped, Entropy, Stochastic

REPORT_KINDS: dict[str, type[Bottleneck]] = {kind.kind: kind for kind in (Vanilla, Naive, Fence, Commit)}
VARIANTS: dict[str, type[Bottleneck]] = {kind.kind: kind for kind in (Clipped, Stochastic, Annealed, Entropy)}
KINDS = REPORT_KINDS | VARIANTS

__all__ = ["KINDS", "REPORT_KINDS", "VARIANTS", "Annealed", "Bottleneck", "Clipped", "Commit", "Entropy", "Fence", "Naive",
           "Stochastic", "Vanilla", "make_bottleneck"]


def make_bottleneck(kind: str, **arguments) -> Bottleneck:
    """The bottleneck of this kind: "vanilla" (or "none"), "naive", "fence", "commit", or one of VARIANTS."""
    kind = "vanilla" if kind == "none" else kind
    if kind not in KINDS:
        raise ValueError(f"quantizer {kind!r} is unknown; choose one of {', '.join(KINDS)} (none means vanilla)")
    return KINDS[kind](**arguments)
