"""Error bars that hold: levels of a posterior mended on galaxies with known truth, and conformal intervals.

`Recalibration` learns from the places of the truth in its posteriors (PIT) how often what the model calls "84 % lie
below" really happens, and `RecalibratedPosterior` answers accordingly. `ConformalIntervals` leave the posterior alone
and give intervals with a guarantee for finite samples. Both rest on an assumption, which they state in words, and both
take weights for galaxies of another mix. Neither looks at the truth of the domain they are meant for.
"""

from __future__ import annotations

from galineage.calibration.conformal import ConformalIntervals, conformal_quantile
from galineage.calibration.recalibrated import RecalibratedPosterior
from galineage.calibration.recalibration import Recalibration
from galineage.calibration.rows import FEWEST, effective_size

__all__ = [
    "FEWEST",
    "ConformalIntervals",
    "RecalibratedPosterior",
    "Recalibration",
    "conformal_quantile",
    "effective_size",
]
