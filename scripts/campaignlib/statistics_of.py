"""Means, spreads and the uncertainty of differences."""
import random
import statistics

RESAMPLES, SEED, LEVEL = 10000, 1, 0.95


def describe(values):
  """{n, mean, sd, min, max, median}; None for no values. sd is None for one value."""
  values = [value for value in values if value is not None]
  if not values:
    return None
  return {'n': len(values), 'mean': statistics.mean(values),
          'sd': statistics.stdev(values) if len(values) > 1 else None, 'min': min(values),
          'max': max(values), 'median': statistics.median(values)}


def bootstrap(values):
  """The mean's 95 % interval by the percentile bootstrap (Efron and Tibshirani 1993, chapter 13), as
  (low, high). None for fewer than three values: resampling one or two says nothing."""
  if len(values) < 3:
    return None
  chance = random.Random(SEED)
  means = sorted(statistics.fmean(chance.choices(values, k=len(values))) for _ in range(RESAMPLES))
  edge = int((1 - LEVEL) / 2 * RESAMPLES)
  return means[edge], means[-edge - 1]


def paired(blocks):
  """Of [(left alone, with migrations)], one pair a block: the mean difference in the values' unit and in
  percent of those left alone, each with its interval."""
  if not blocks:
    return None
  absolute = [moved - alone for alone, moved in blocks]
  percent = [100 * (moved / alone - 1) for alone, moved in blocks]
  return {'pairs': len(blocks), 'mean_s': statistics.fmean(absolute), 'interval_s': bootstrap(absolute),
          'mean_percent': statistics.fmean(percent), 'interval_percent': bootstrap(percent)}
