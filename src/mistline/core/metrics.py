"""What tables and the report agree on about metrics: which direction is better, which come first, when to test."""

from __future__ import annotations

HIGHER_IS_BETTER = frozenset(
    [
        *("accuracy", "ami", "ari", "auc", "f1", "homogeneity", "moved_inside", "nmi", "pcc", "pearson", "precision"),
        *("psnr", "r", "r2", "recall", "silhouette", "spearman", "ssim", "top2", "within_one_ring"),
    ]
)
LOWER_IS_BETTER = frozenset(
    [
        *("brier", "copies", "distance", "ece", "fid", "js", "kid", "kl", "log_loss", "mae", "moran_difference"),
        *("mse", "rmse"),
    ]
)
_FIRST = (
    *("ari", "macro_f1", "pcc", "auc", "pearson", "recall", "kl", "balanced_accuracy", "accuracy", "ring_accuracy"),
    *("nmi", "ami", "macro_precision", "spearman", "interior_accuracy", "within_one_ring", "log_loss", "ece"),
    # Of generated images: what neither a blurred nor a foreign image can win comes first.
    *("readback_pearson", "psnr", "ssim", "fid", "kid", "copies"),
)
_PLAIN = ("linear", "ridge")  # of several ways to read a representation out, the plainest is told of first
FEWEST_PAIRS = 6  # below, the smallest p that a signed-rank test can give is above 0.06: nothing could be shown


def direction(metric: str) -> int:
    """Return 1 where higher is better, -1 where lower is better, 0 where it is not known.

    A name may carry a cut-off or a qualifier on either side: `recall_at_5`, `pcc_top50`, `linear_macro_f1`.
    """
    for known, sign in ((HIGHER_IS_BETTER, 1), (LOWER_IS_BETTER, -1)):
        if any(_holds(metric, name) for name in known):
            return sign
    return 0


def place(metric: str) -> tuple[bool, int, bool, str]:
    """Return a key that sorts metrics: those to quote first come first, and what has a qualifier comes later."""
    alike = next((number for number, name in enumerate(_FIRST) if _holds(metric, name)), len(_FIRST))
    rank = _FIRST.index(metric) if metric in _FIRST else alike
    return metric not in _FIRST, rank, not metric.startswith(_PLAIN), metric


def _holds(metric: str, name: str) -> bool:
    return f"_{name}_" in f"_{metric}_"
