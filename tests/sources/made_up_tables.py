"""Synthetic tables for the tests of sources."""

import numpy as np
from astropy.table import Table

MAPPING = """
name = "made-up"
domain = "MadeUp"
id = "GalaxyID"
snapshot = "Snapshot"
root = "id"
default_filter = "z0"
[filters.z0]
column = "Snapshot"
equals = [99]
[filters.all]
[columns]
mstar = { column = "Stellar_Mass", unit = "Msun" }
r_half = { column = "HMSR", unit = "kpc" }
age = { column = "Age", unit = "Gyr" }
metallicity = { column = "Metallicity", relative_to = "solar" }
f_ex = "ExsituF"
t_last_major = { column = "Lookback", unit = "Gyr", sentinel = -1 }
central = "Central"
"""
UNITS = {"Stellar_Mass": "Msun", "HMSR": "kpc", "Age": "Gyr", "Lookback": "Gyr"}


def made_up(n=60, seed=3):
    rng = np.random.default_rng(seed)
    table = Table()
    table["GalaxyID"] = np.arange(n) * 7 + 2**53 + 1  # not exact as floats
    table["Snapshot"] = np.where(np.arange(n) % 3 == 2, 91, 99)
    table["Stellar_Mass"] = 10 ** rng.uniform(10, 12, n)
    table["HMSR"] = 10 ** rng.uniform(0, 1.5, n).astype(np.float32)
    table["Age"] = rng.uniform(4, 12, n)
    table["Metallicity"] = rng.uniform(0.5, 2, n)
    table["ExsituF"] = rng.uniform(0, 1, n)
    table["Lookback"] = np.where(np.arange(n) % 5 == 0, -1.0, rng.uniform(0, 13, n))
    table["Central"] = rng.uniform(size=n) < 0.6
    table["Note"] = np.array(["plain text"] * n)
    return table


def write_as(table, path, form, units=None):
    """Write a table as an ordinary program of its field would."""
    import h5py
    import pyarrow as pa
    from pyarrow import parquet

    table = table.copy()
    for name, unit in (units or {}).items():
        table[name].unit = unit
    if form in ("csv", "ecsv"):
        table.write(path, format=f"ascii.{form}", overwrite=True)
    elif form == "parquet":
        plain = pa.table({name: np.asarray(table[name]) for name in table.colnames})
        if units:
            table.write(path, format="parquet", overwrite=True)
        else:
            parquet.write_table(plain, path)
    elif form == "hdf5":
        with h5py.File(path, "w") as file:
            for name in table.colnames:
                values = np.asarray(table[name])
                values = values.astype("S") if values.dtype.kind == "U" else values
                file[f"data/{name}"] = values
                if units and name in units:
                    file[f"data/{name}"].attrs["unit"] = units[name]
    else:
        table.write(path, format=form, overwrite=True)
    return path
