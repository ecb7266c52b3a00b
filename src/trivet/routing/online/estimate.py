"""What another way to choose would have earned, from choices that were made by chance, with the chances written down.

    weight = wanted / logged                                     of the target that was asked
    ips    = mean(weight * reward)                               Horvitz & Thompson 1952
    snips  = sum(weight * reward) / sum(weight)                  Swaminathan & Joachims 2015
    robust = mean(guess of the policy + weight * (reward - guess of the target))
                                                                 doubly robust: Dudik, Langford & Li 2011, 1103.4601

A reward that is not known (NaN) counts as drawn away: those that are known stand for as many as their chance of being
known says. `robust` is right on average where either the chances or the guesses are; the others need the chances.

Weights above a limit are cut to it, which makes an estimate surer and wrong by what was cut: `robust` leans on the
guesses there, `ips` comes out too low, so `clipped` says how much of the other policy is not seen. A policy that wants
what was never chosen cannot be estimated by any of them, but `robust` by its guesses.

Not here: where choices come from (`thompson.py`). Standard errors are of the mean of independent requests: where
choices were learned from rewards they are still about right, as what is summed less its mean is a martingale, but look
once, not at each request.
Invariants: where wanted is what was logged, weights are 1; numbers that make no sense are refused.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivet.routing.pool.logistic import Floats

CLIP = 50.0
"""Weights above it are cut; `thompson.TRIED` makes none that is larger, but where a promise had no room."""


class Estimate(NamedTuple):
    """What a policy would have earned for each request."""

    mean: float
    error: float
    """Standard error; infinite for fewer than two requests."""
    equal: float
    """So many requests of equal weight would tell as much (Kish 1965)."""
    clipped: float
    """Share of the other policy's requests that was cut away, in [0, 1]: what is not seen."""

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Give the interval; 95 % at 1.96."""
        return self.mean - z * self.error, self.mean + z * self.error


def ips(
    rewards: Floats, logged: Floats, wanted: Floats, *, known: Floats | float = 1.0, clip: float = CLIP
) -> Estimate:
    """Weigh each reward by how much likelier the other policy was to choose the same.

    Args:
        rewards: [n], of the target that was asked; NaN: not known.
        logged: [n], the chance of that choice when it was made, in (0, 1].
        wanted: [n], its chance by the other policy, in [0, 1].
        known: the chance that the reward came to be known, in (0, 1], [n] or one for all.
        clip: largest weight, at least 1; infinite: none is cut.

    Raises:
        ValueError: not in these ranges, or not of one length.
    """
    weights, seen, clipped = _weights(rewards, logged, wanted, known, clip)
    terms = weights * np.where(seen, rewards, 0.0)
    return _told(terms, weights, clipped)


def snips(
    rewards: Floats, logged: Floats, wanted: Floats, *, known: Floats | float = 1.0, clip: float = CLIP
) -> Estimate:
    """Estimate as `ips` does, over the sum of the weights: surer, and wrong by a little where there are few.

    Raises:
        ValueError: as `ips`, or nothing that the other policy wants is known.
    """
    weights, seen, clipped = _weights(rewards, logged, wanted, known, clip)
    total = float(weights.sum())
    if total <= 0.0:
        raise ValueError("Nothing that the other policy would have chosen is known.")
    mean = float((weights * np.where(seen, rewards, 0.0)).sum() / total)
    around = weights * np.where(seen, rewards - mean, 0.0) * (len(rewards) / total)
    return _told(around, weights, clipped)._replace(mean=mean)


def robust(
    rewards: Floats,
    logged: Floats,
    wanted: Floats,
    *,
    guess: Floats,
    guess_policy: Floats,
    known: Floats | float = 1.0,
    clip: float = CLIP,
) -> Estimate:
    """Estimate by guesses, and put them right by the rewards.

    Args:
        guess: [n], the reward that the target that was asked was thought to bring.
        guess_policy: [n], what the other policy was thought to earn: the mean over the targets, by its chances.

    Raises:
        ValueError: as `ips`, or a guess is no number.
    """
    weights, seen, clipped = _weights(rewards, logged, wanted, known, clip)
    if guess.shape != rewards.shape or guess_policy.shape != rewards.shape:
        raise ValueError("There is not a guess for each request.")
    if not (np.isfinite(guess).all() and np.isfinite(guess_policy).all()):
        raise ValueError("A guess is not a number.")
    terms = guess_policy + weights * np.where(seen, rewards - guess, 0.0)
    return _told(terms, weights, clipped)


def _weights(
    rewards: Floats, logged: Floats, wanted: Floats, known: Floats | float, clip: float
) -> tuple[Floats, NDArray[np.bool_], float]:
    n, share = len(rewards), np.broadcast_to(np.asarray(known, float), rewards.shape)
    if not n or logged.shape != rewards.shape or wanted.shape != rewards.shape:
        raise ValueError(f"There are {n} rewards, {len(logged)} chances and {len(wanted)} others: one of each, please.")
    if not (((logged > 0.0) & (logged <= 1.0)).all() and ((share > 0.0) & (share <= 1.0)).all()):
        raise ValueError("A choice that was made has a chance above 0 and at most 1.")
    if not ((wanted >= 0.0) & (wanted <= 1.0)).all() or np.isinf(rewards).any() or not clip >= 1.0:
        raise ValueError("Chances are from 0 to 1, rewards numbers or NaN, and the largest weight at least 1.")
    seen = ~np.isnan(rewards)
    whole = np.where(seen, wanted / logged / share, 0.0)
    cut = np.minimum(whole, clip)
    lost = float((whole - cut).sum() / whole.sum()) if whole.any() else 0.0
    return cut, seen, lost


def _told(terms: Floats, weights: Floats, clipped: float) -> Estimate:
    n, square = len(terms), float((weights**2).sum())
    error = float(terms.std(ddof=1) / np.sqrt(n)) if n > 1 else float("inf")
    return Estimate(float(terms.mean()), error, float(weights.sum() ** 2 / square) if square else 0.0, clipped)
