"""The comparison with published relations: numbers, axes, and the real tables behind the embedded medians."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from galineage.errors import DataError
from galineage.fields import SOLAR_METALLICITY, field
from galineage.galaxy import Catalogue
from galineage.toy import compare
from galineage.toy.suites import make_toy


def test_bands_by_hand():
    values = np.arange(11.0)
    catalogue = Catalogue({"mstar": np.full(11, 10**10.1), "age": values}, np.arange(11), np.asarray("x"))
    found = compare.bands(catalogue, "age")
    assert found.quantiles[:, 0] == pytest.approx([1.6, 5.0, 8.4])
    assert np.isnan(found.quantiles[:, 1:]).all()
    assert found.log_mass[0] == pytest.approx(10.125)


def test_bands_refuse_what_is_not_there():
    catalogue = Catalogue({"mstar": np.array([1e10])}, np.arange(1), np.asarray("x"))
    with pytest.raises(DataError, match="age"):
        compare.bands(catalogue, "age")


def test_draw_functions_return_their_axes_with_labels():
    catalogue = make_toy("toy-a", 400, 0)
    axes = Figure().subplots()
    assert compare.draw_bands(axes, {"toy-a": compare.bands(catalogue, "r_half")}) is axes
    assert axes.get_ylabel() == field("r_half").axis
    assert axes.get_xlabel() == field("mstar").axis
    axes = Figure().subplots()
    assert compare.draw_times(axes, {"toy-a": catalogue["t_last_major"]}) is axes
    assert "Gyr" in axes.get_xlabel()


def test_figure_has_six_labelled_panels():
    page = compare.figure(n=600, seed=1)
    assert len(page.axes) == 6
    for axes in page.axes:
        assert axes.get_xlabel()
        assert axes.get_ylabel()
        assert axes.get_legend() is not None


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "snapshot", "medians"),
    [("properties_tng.h5py", 99, compare.TNG100), ("properties_eagle.h5py", 28, compare.EAGLE)],
)
def test_embedded_medians_are_those_of_the_tables(catalogs, file, snapshot, medians):
    import pandas as pd

    table = pd.read_hdf(catalogs / file)
    table = table[table.Snapshot == snapshot].apply(pd.to_numeric)
    where = np.digitize(np.log10(table.Stellar_Mass), compare.LOG_MASS_EDGES) - 1
    real = {
        "f_ex": table.ExsituF,
        "age": table.Age,
        "r_half": table.HMSR,
        "metallicity": SOLAR_METALLICITY * 10**table.Metallicity,
    }
    for name, values in real.items():
        found = values.groupby(where).median().to_numpy()[:7]
        np.testing.assert_allclose(found, medians[name], rtol=0.02, err_msg=name)
