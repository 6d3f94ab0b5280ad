"""With which scores a caption is done, so that few images keep most of best-of-k's gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthvlm.estimates import Estimate, ratio_interval

__all__ = ["Stopping", "choose_stopping", "falling_thresholds", "held_out_gain"]

#: The decays that are tried, in standard deviations of the scores of a caption's candidates.
_DECAYS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)

#: Parts of the sample, each of which is held out once.
_FOLDS = 10


@dataclass(frozen=True, slots=True)
class Stopping:
    """When a caption is done, and what that costs and gains on the captions it was found on.

    Attributes:
        threshold: Best score so far with which a caption is done at its first candidate.
        decay: How much lower that is for every further one.
        images: Images per caption.
        gain: Share of what best-of-k gains in mean score over one candidate.
    """

    threshold: float
    decay: float
    images: float
    gain: float


def choose_stopping(scores: np.ndarray, keep_gain: float) -> Stopping:
    """The thresholds that need the fewest images to keep a share of best-of-k's gain.

    They fall from candidate to candidate: low scores mean that a caption is hard, and that further
    candidates gain little. A caption's candidates could have come in any order, so all
    rotations of their order count.

    Args:
        scores: float64, shape (captions, k), in the order of generation; NaN for a failure.
        keep_gain: Share (above 0, at most 1) of the gain in mean score.

    Raises:
        ValueError: No candidate has a score.
    """
    filled = _filled(scores)
    if not len(filled):
        raise ValueError("no candidate has a score")
    count = filled.shape[1]
    rotations = _rotations(filled)
    first, best = float(filled.mean()), float(filled.max(axis=1).mean())
    choices = []
    for share in _DECAYS:
        decay = share * float(filled.std(axis=1).mean())
        values = np.unique(filled)
        levels = np.unique(np.concatenate([values + decay * index for index in range(count)]))
        low, high = 0, len(levels) - 1
        while low < high:  # bisection: the gain grows with the threshold
            middle = (low + high) // 2
            score, _ = _outcome(rotations, levels[middle], decay)
            if score >= first + keep_gain * (best - first):
                high = middle
            else:
                low = middle + 1
        score, images = _outcome(rotations, levels[low], decay)
        gain = (score - first) / (best - first) if best > first else 1.0
        choices.append(Stopping(float(levels[low]), decay, images, gain))
    return min(choices, key=lambda stopping: stopping.images)


def held_out_gain(scores: np.ndarray, keep_gain: float) -> Estimate:
    """The share of best-of-k's gain that is kept on captions other than those of the sample.

    Each tenth of the sample is held out once: thresholds are found on the others. The interval is
    that of the captions held out.

    Args:
        scores: As in ``choose_stopping``.
        keep_gain: Likewise.

    Returns:
        The share; without an interval where the sample is too small to tell.
    """
    filled = _filled(scores)
    folds = min(_FOLDS, len(filled))
    if folds < 2:
        return Estimate(1.0, None, None)
    gains = np.zeros(len(filled))
    fold = np.arange(len(filled)) % folds
    for held_out in range(folds):
        stopping = choose_stopping(filled[fold != held_out], keep_gain)
        winners, _ = _winners(
            _rotations(filled[fold == held_out]), stopping.threshold, stopping.decay
        )
        gains[fold == held_out] = winners.reshape(filled.shape[1], -1).mean(axis=0)
    first = filled.mean(axis=1)
    return ratio_interval(gains - first, filled.max(axis=1) - first)


def _filled(scores: np.ndarray) -> np.ndarray:
    """The scores of captions that have any; a failure counts as the worst score there is.

    So it never wins, and stops nothing.
    """
    usable = scores[~np.isnan(scores).all(axis=1)]
    worst = np.nanmin(usable) if len(usable) else 0.0
    return np.asarray(np.where(np.isnan(usable), worst, usable))


def _rotations(scores: np.ndarray) -> np.ndarray:
    """The candidates of each caption in all rotations of their order, one after another."""
    return np.concatenate([np.roll(scores, turn, axis=1) for turn in range(scores.shape[1])])


def _outcome(scores: np.ndarray, threshold: float, decay: float) -> tuple[float, float]:
    """Mean score of the winners, and images per caption."""
    winners, images = _winners(scores, threshold, decay)
    return float(winners.mean()), float(images.mean())


def _winners(scores: np.ndarray, threshold: float, decay: float) -> tuple[np.ndarray, np.ndarray]:
    """Score of each caption's winner, and its images."""
    count = scores.shape[1]
    so_far = np.maximum.accumulate(scores, axis=1)
    reached = so_far >= np.array(falling_thresholds(threshold, decay, count))
    stops = np.where(reached.any(axis=1), reached.argmax(axis=1), count - 1)
    return so_far[np.arange(len(scores)), stops], stops + 1


def falling_thresholds(threshold: float, decay: float, count: int) -> tuple[float, ...]:
    """The threshold of each candidate's number, 0 .. count - 1: ``threshold - decay * number``."""
    return tuple(threshold - decay * index for index in range(count))
