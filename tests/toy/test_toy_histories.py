"""The toy's merger histories: mass is conserved, and counts follow the published rate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from galineage.errors import ConfigError
from galineage.toy.compare import count_majors
from galineage.toy.cosmology import AGE_OF_UNIVERSE, redshift_at, time_grid
from galineage.toy.growth import draw_stellar_mass, halo_growth, insitu_growth, stellar_mass_of_halo
from galineage.toy.mergers import MAJOR, MU_MIN, _draw_ratios, _split, draw_histories, merger_rate, rate_above
from galineage.toy.suites import SUITES


@pytest.fixture(scope="module")
def histories():
    rng = np.random.default_rng(7)
    return draw_histories(draw_stellar_mass(8000, rng), SUITES["toy-a"], rng)


def test_time_grid_is_planck15():
    from astropy.cosmology import Planck15

    grid = time_grid()
    assert grid.lookback[-1] == pytest.approx(Planck15.lookback_time(8.0).value)
    assert Planck15.age(0).value == pytest.approx(AGE_OF_UNIVERSE, abs=1e-3)
    assert redshift_at(np.array([0.0, Planck15.lookback_time(1.5).value])) == pytest.approx([0.0, 1.5], abs=1e-4)
    assert grid.width.sum() == pytest.approx(grid.lookback[-1])
    with pytest.raises(ConfigError, match="time grid"):
        time_grid(-1.0)


def test_time_grid_is_shared_and_read_only():
    assert time_grid() is time_grid()
    with pytest.raises(ValueError, match="read-only"):
        time_grid().z[0] = 1.0


def test_moster_relation_peaks_where_published():
    # Moster+2013 section 5.1: at z = 0 the efficiency peaks near 10^11.8 Msun
    halos = np.logspace(10, 15, 2001)
    efficiency = stellar_mass_of_halo(halos, 0.0) / halos
    assert np.log10(halos[efficiency.argmax()]) == pytest.approx(11.77, abs=0.05)
    assert efficiency.max() == pytest.approx(0.036, abs=0.003)


def test_halo_growth_by_hand():
    assert halo_growth(np.array([1e12]), 0.0, 1.0) == pytest.approx([0.0461])
    assert halo_growth(np.array([1e13]), 1.0, 1.78) == pytest.approx([0.0461 * 10**0.1 * 2.11 * 1.78])


def test_star_formation_falls_with_halo_mass():
    growth = insitu_growth(np.logspace(9, 15, 30), 0.5, 0.1, 1.9, 1.0)
    assert (np.diff(growth) < 0).all()
    assert growth[0] == pytest.approx(1 + 1.376 - 0.826 / 3, rel=1e-3)


@given(log_mass=st.floats(6, 12.3), z=st.floats(0, 8), mu_min=st.sampled_from([1e-3, 0.1, 0.25, 0.9]))
@settings(max_examples=40, deadline=None)
def test_integrated_rate_equals_quadrature(log_mass, z, mu_min):
    mass = np.array([10**log_mass])
    norm, slope = merger_rate(mass, z)
    expected = integrate.quad(lambda u: norm[0] * np.exp(u * (slope[0] + 1)), np.log(mu_min), 0)[0]
    assert rate_above(mass, z, mu_min)[0] == pytest.approx(expected, rel=1e-6)


def test_rate_rises_with_redshift_as_published():
    # abstract of Rodriguez-Gomez+2015: (1 + z)^2.4 to 2.8; the slope at fixed mass includes alpha(z), delta(z)
    rates = [rate_above(np.array([3e10]), z)[0] for z in (0.0, 1.0)]
    assert 2.0 < np.log2(rates[1] / rates[0]) < 2.8
    assert rate_above(np.array([1e10]), 0.0)[0] == pytest.approx(0.0109, rel=0.05)


def test_ratios_follow_their_power_law(rng):
    slope = np.full(20_000, -1.3)
    ratios = _draw_ratios(slope, rng)
    assert ratios.min() >= MU_MIN
    assert ratios.max() <= 1
    low = MU_MIN**-0.3
    assert stats.kstest(ratios, lambda mu: (mu**-0.3 - low) / (1 - low)).pvalue > 0.01


def test_split_undoes_mergers_one_by_one():
    mass, count, ratios = np.array([8.0, 5.0, 9.0]), np.array([2, 0, 1]), np.array([1.0, 0.25, 0.5])
    primary, secondary = _split(mass, count, ratios)
    assert primary == pytest.approx([4.0, 3.2, 6.0])
    assert secondary == pytest.approx([4.0, 0.8, 3.0])


def test_insitu_and_exsitu_add_up(histories):
    total = histories.insitu.sum(axis=1) + histories.exsitu
    np.testing.assert_allclose(total, histories.mstar, rtol=1e-10)
    assert (histories.insitu > 0).all()
    assert (histories.mergers.mstar > 0).all()


def test_secondary_is_ratio_times_primary(histories):
    mergers = histories.mergers
    np.testing.assert_allclose(mergers.mstar, mergers.mu * mergers.primary)
    assert (mergers.primary + mergers.mstar <= histories.mstar[mergers.galaxy] * (1 + 1e-12)).all()


def test_mergers_go_back_in_time(histories):
    mergers = histories.mergers
    same = np.diff(mergers.galaxy) == 0
    assert (np.diff(mergers.galaxy) >= 0).all()
    assert (np.diff(mergers.lookback)[same] >= 0).all()
    assert (np.diff(mergers.primary)[same] < 0).all()


def test_counts_follow_the_integrated_rate(histories):
    """Chi-square of counts in cells of mass and redshift against the fit, with Poisson errors and 5 % for binning."""
    counted = count_majors(histories, np.array([9.5, 10, 10.5, 11, 11.5]), np.array([0, 0.5, 1, 1.5, 2, 3, 4.0]))
    used = counted.error > 0
    error = np.hypot(counted.error, 0.05 * counted.fit)[used]
    pull = (counted.rate - counted.fit)[used] / error
    assert used.sum() > 20
    assert stats.chi2.sf((pull**2).sum(), used.sum()) > 1e-3
    assert abs(pull.mean()) < 1


def test_satellites_stop_merging(histories):
    mergers = histories.mergers
    assert (mergers.lookback >= histories.infall[mergers.galaxy] - histories.grid.width.max()).all()
    assert 0.35 < (~histories.central).mean() < 0.42


def test_some_but_not_all_mass_comes_in_major_mergers(histories):
    # Rodriguez-Gomez+2016: half of the ex-situ mass from major mergers
    mergers = histories.mergers
    share = mergers.mstar[mergers.mu >= MAJOR].sum() / mergers.mstar.sum()
    assert 0.45 < share < 0.75
