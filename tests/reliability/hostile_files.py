"""Files that a stranger could send to harm whoever opens them, made when the test runs.

Each maker writes into an empty folder and returns what a user would open. A canary is a file called ``canary`` in that
folder: if it exists after reading, code from the file was run.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import sys
import zipfile
from pathlib import Path

import h5py
import image_files
import numpy as np
import pyarrow as pa
from astropy.io import fits
from made_up_tables import MAPPING, made_up, write_as
from pyarrow import parquet
from safetensors.numpy import save as save_numpy

ITEMS: dict[str, tuple[str, object]] = {}
"""Name to (what it is opened as, maker)."""


def item(opened_as):
    """Register a maker under its own name."""

    def add(maker):
        ITEMS[maker.__name__] = (opened_as, maker)
        return maker

    return add


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / "canary"),)


def put(path, content):
    """Write bytes or text; return the path."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --- code in a file -----------------------------------------------------------------------------------------------


@item("table")
def pickle_called_a_table(folder):
    return put(folder / "t.parquet", pickle.dumps(Canary(folder)))


@item("table")
def pickle_of_the_first_protocol(folder):
    # no magic number: plain text that could pass as a table with one column
    return put(folder / "t.csv", pickle.dumps(Canary(folder), 0))


@item("table")
def torch_archive(folder):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Canary(folder), 2))
        archive.writestr("archive/version", "3\n")
    return put(folder / "t.pt", stream.getvalue())


@item("table")
def numpy_array_of_objects(folder):
    stream = io.BytesIO()
    np.save(stream, np.array([Canary(folder), 1.0], dtype=object), allow_pickle=True)
    return put(folder / "t.npy", stream.getvalue())


@item("table")
def numpy_archive_of_objects(folder):
    np.savez(folder / "t.npz", data=np.array([Canary(folder)], dtype=object))
    return folder / "t.npz"


@item("table")
def pandas_column_that_is_a_pickle(folder):
    with h5py.File(folder / "t.h5", "w") as file:
        group = file.create_group("data")
        group.attrs["pandas_type"], group.attrs["nblocks"] = "frame", 1
        group["axis1"], group["block0_items"] = np.arange(2), np.array([b"GalaxyID"])
        stream = np.frombuffer(pickle.dumps(np.array([[Canary(folder)], [2]], dtype=object)), np.uint8)
        node = group.create_dataset("block0_values", (1,), h5py.vlen_dtype(np.uint8))
        node[0] = stream
        node.attrs["PSEUDOATOM"] = "object"
    return folder / "t.h5"


@item("table")
def pandas_names_that_are_a_pickle(folder):
    with h5py.File(folder / "t.h5", "w") as file:
        group = file.create_group("data")
        group.attrs["pandas_type"] = "frame_table"
        values = np.zeros(3, [("index", "i8"), ("values_block_0", "f8", (1,))])
        node = group.create_dataset("table", data=values)
        node.attrs["values_block_0_kind"] = np.void(pickle.dumps([Canary(folder)], 2))
    return folder / "t.h5"


@item("table")
def parquet_type_that_is_a_pickle(folder):
    # CVE-2023-47248 of older pyarrow
    kind = {b"ARROW:extension:name": b"arrow.py_extension_type"}
    kind[b"ARROW:extension:metadata"] = pickle.dumps(Canary(folder))
    schema = pa.schema([pa.field("GalaxyID", pa.int64(), metadata=kind), pa.field("Age", pa.float64())])
    parquet.write_table(pa.table([pa.array([1, 2]), pa.array([1.0, 2.0])], schema=schema), folder / "t.parquet")
    return folder / "t.parquet"


def python_tags(folder):
    """YAML that a careless reader would execute."""
    return f"!!python/object/apply:os.mkdir ['{folder / 'canary'}']"


@item("table")
def ecsv_with_python_tags(folder):
    lines = ["%ECSV 1.0", "---", "datatype:", "- {name: GalaxyID, datatype: int64}", f"meta: {python_tags(folder)}"]
    return put(folder / "t.ecsv", "".join(f"# {line}\n" for line in lines) + "GalaxyID\n1\n")


@item("table")
def ecsv_that_names_a_class(folder):
    made = "{__class__: subprocess.Popen, args: !astropy.table.SerializedColumn {name: Age}}"
    columns = f"__serialized_columns__: {{Age: {made}}}"
    lines = ["%ECSV 1.0", "---", "datatype:", "- {name: Age, datatype: float64}", f"meta: {{{columns}}}"]
    return put(folder / "t.ecsv", "".join(f"# {line}\n" for line in lines) + "Age\n1\n")


@item("table")
def parquet_with_python_tags(folder):
    table = pa.table({"GalaxyID": [1, 2], "Age": [1.0, 2.0]})
    table = table.replace_schema_metadata({"table_meta_yaml": f"meta: {python_tags(folder)}"})
    parquet.write_table(table, folder / "t.parquet")
    return folder / "t.parquet"


@item("table")
def hdf5_with_python_tags(folder):
    with h5py.File(folder / "t.h5", "w") as file:
        file["data"] = np.zeros(3, [("GalaxyID", "i8"), ("Age", "f8")])
        file["data.__table_column_meta__"] = np.array([f"meta: {python_tags(folder)}".encode()])
    return folder / "t.h5"


@item("bundle")
def bundle_with_a_pickle_for_weights(folder):
    return bundle(folder, weights=pickle.dumps(Canary(folder)))


# --- too large ----------------------------------------------------------------------------------------------------


@item("table")
def zip_bomb(folder):
    with zipfile.ZipFile(folder / "t.csv", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("t.csv", bytes(2**26))
    return folder / "t.csv"


def gzipped(content, zeros=2**29):
    """Gzip a head and half a gigabyte of zeros into half a megabyte."""
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=1, mtime=0) as out:
        out.write(content)
        for _ in range(zeros // 2**20):
            out.write(b" " * 2**20)
    return stream.getvalue()


@item("table")
def gzip_bomb_called_ecsv(folder):
    return put(folder / "t.ecsv", gzipped(b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, datatype: int64}\na\n"))


@item("table")
def gzip_bomb_called_votable(folder):
    return put(folder / "t.vot", gzipped(b'<?xml version="1.0"?><VOTABLE version="1.4">'))


@item("table")
def gzip_bomb_called_fits(folder):
    return put(folder / "t.fits", gzipped(fits_head(rows=2**22, width=128)))


def fits_head(rows, width=16, columns=("1K", "1D"), heap=0):
    """Headers of a FITS file with one table, as bytes."""
    primary = fits.PrimaryHDU().header.tostring().encode()
    cards = ["XTENSION= 'BINTABLE'", "BITPIX  =                    8", "NAXIS   =                    2"]
    cards += [f"NAXIS1  = {width:>20}", f"NAXIS2  = {rows:>20}", f"PCOUNT  = {heap:>20}", f"GCOUNT  = {1:>20}"]
    cards += [f"TFIELDS = {len(columns):>20}"]
    for number, (form, name) in enumerate(zip(columns, ("GalaxyID", "Age"), strict=False), 1):
        cards += [f"TTYPE{number}  = '{name}'", f"TFORM{number}  = '{form}'"]
    text = "".join(card.ljust(80) for card in (*cards, "END"))
    return primary + text.ljust(-(-len(text) // 2880) * 2880).encode()


@item("table")
def fits_that_claims_a_trillion_rows(folder):
    return put(folder / "t.fits", fits_head(rows=10**12) + bytes(2880))


@item("table")
def fits_of_rows_without_width(folder):
    return put(folder / "t.fits", fits_head(rows=10**10, width=0, columns=("0K", "0D")) + bytes(2880))


@item("table")
def fits_with_a_lying_heap(folder):
    row = struct.pack(">qii", 1, 2**30, 8)
    return put(
        folder / "t.fits", fits_head(rows=1, columns=("1K", "1PD(1073741824)"), heap=64) + row.ljust(2880, b"\0")
    )


@item("table")
def hdf5_that_claims_a_terabyte(folder):
    with h5py.File(folder / "t.h5", "w") as file:
        for name in ("GalaxyID", "Age"):
            file.create_dataset(f"data/{name}", (2**37,), "f8", chunks=(2**16,), compression="gzip")
    return folder / "t.h5"


@item("table")
def hdf5_bomb(folder):
    with h5py.File(folder / "t.h5", "w") as file:
        for name in made_up(3).colnames:
            file.create_dataset(f"data/{name}", (10**8,), "f8", chunks=(2**16,), fillvalue=1.0)
    return folder / "t.h5"


@item("table")
def parquet_bomb(folder):
    rows = 50_000_000
    index = pa.array(np.zeros(rows, np.int8))
    columns = {name: pa.DictionaryArray.from_arrays(index, pa.array([1.0])) for name in ("GalaxyID", "Age")}
    parquet.write_table(pa.table(columns), folder / "t.parquet", compression="zstd", store_schema=False)
    return folder / "t.parquet"


@item("table")
def parquet_garbage(folder):
    return put(folder / "t.parquet", b"PAR1" + bytes(range(256)) * 8 + struct.pack("<I", 2**31 - 1) + b"PAR1")


@item("table")
def csv_with_one_long_cell(folder):
    rows = "".join(f"{number},1\n" for number in range(20_000))
    return put(folder / "t.csv", f"GalaxyID,Age\n{'x' * 100_000},1\n{rows}")


@item("table")
def csv_with_a_million_columns(folder):
    return put(
        folder / "t.csv", ",".join(f"c{number}" for number in range(10**6)) + "\n" + ",".join("1" * 10**6) + "\n"
    )


def votable(body, head=""):
    """A VOTable around a table's inside."""
    return (
        f'<?xml version="1.0"?>\n{head}<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        f"<RESOURCE><TABLE{body}</TABLE></RESOURCE></VOTABLE>\n"
    )


FIELDS = '<FIELD name="GalaxyID" datatype="long"/><FIELD name="Age" datatype="double"/>'


@item("table")
def votable_with_a_billion_laughs(folder):
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    head = f'<!DOCTYPE VOTABLE [<!ENTITY l0 "ha">{laughs}]>\n'
    body = f"><DESCRIPTION>&l9;</DESCRIPTION>{FIELDS}<DATA><TABLEDATA/></DATA>"
    return put(folder / "t.vot", votable(body, head))


@item("table")
def votable_with_quadratic_entities(folder):
    head = f'<!DOCTYPE VOTABLE [<!ENTITY a "{"a" * 50_000}">]>\n'
    body = f"><DESCRIPTION>{'&a;' * 50_000}</DESCRIPTION>{FIELDS}<DATA><TABLEDATA/></DATA>"
    return put(folder / "t.vot", votable(body, head))


@item("table")
def votable_with_a_foreign_entity(folder):
    secret = put(folder / "secret.txt", "1")
    head = f'<!DOCTYPE VOTABLE [<!ENTITY s SYSTEM "{secret.as_uri()}">]>\n'
    row = "<TR><TD>&s;</TD><TD>5</TD></TR>"
    return put(folder / "t.vot", votable(f">{FIELDS}<DATA><TABLEDATA>{row}</TABLEDATA></DATA>", head))


@item("table")
def votable_that_fetches(folder):
    secret = put(folder / "secret.bin", struct.pack(">qd", 1, 5.0))
    stream = f'<DATA><BINARY><STREAM href="{secret.as_uri()}"/></BINARY></DATA>'
    return put(folder / "t.vot", votable(f' nrows="1">{FIELDS}{stream}'))


@item("table")
def votable_that_claims_a_trillion_rows(folder):
    row = "<TR><TD>1</TD><TD>5</TD></TR>"
    return put(folder / "t.vot", votable(f' nrows="1000000000000">{FIELDS}<DATA><TABLEDATA>{row}</TABLEDATA></DATA>'))


@item("table")
def votable_of_wide_cells(folder):
    wide = FIELDS.replace('"double"', '"double" arraysize="100000000"')
    row = "<TR><TD>1</TD><TD>5</TD></TR>"
    return put(folder / "t.vot", votable(f' nrows="9">{wide}<DATA><TABLEDATA>{row * 9}</TABLEDATA></DATA>'))


@item("table")
def ecsv_of_nested_names(folder):
    levels = "".join(f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 12))
    yaml = f"%ECSV 1.0\n---\ndatatype:\n- {{name: GalaxyID, datatype: int64}}\nmeta:\n  l0: &l0 [ha]\n{levels}"
    return put(folder / "t.ecsv", "".join(f"# {line}\n" for line in yaml.splitlines()) + "GalaxyID\n1\n")


@item("table")
def ecsv_of_deep_brackets(folder):
    yaml = "%ECSV 1.0\n---\ndatatype:\n- {name: GalaxyID, datatype: int64}\nmeta: " + "[" * 50_000
    return put(folder / "t.ecsv", "".join(f"# {line}\n" for line in yaml.splitlines()) + "GalaxyID\n1\n")


# --- other files, loops, devices ----------------------------------------------------------------------------------


def plain_hdf5(path, skip=()):
    """A readable table without the columns ``skip``."""
    table = made_up()
    table.remove_columns(list(skip))
    return write_as(table, path, "hdf5")


@item("table")
def hdf5_with_external_links(folder):
    plain_hdf5(folder / "other.h5")
    with h5py.File(plain_hdf5(folder / "t.h5", ["Age"]), "a") as file:
        file["data/Age"] = h5py.ExternalLink(str(folder / "other.h5"), "/data/Age")
    return folder / "t.h5"


@item("table")
def hdf5_that_reads_another_file(folder):
    secret = put(folder / "secret.bin", np.linspace(4, 12, 60).tobytes())
    with h5py.File(plain_hdf5(folder / "t.h5", ["Age"]), "a") as file:
        file.create_dataset("data/Age", (60,), "f8", external=[(str(secret), 0, 480)])
    return folder / "t.h5"


@item("table")
def hdf5_with_a_virtual_column(folder):
    plain_hdf5(folder / "other.h5")
    with h5py.File(plain_hdf5(folder / "t.h5", ["Age"]), "a") as file:
        layout = h5py.VirtualLayout((60,), "f8")
        layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "data/Age", (60,))
        file.create_virtual_dataset("data/Age", layout)
    return folder / "t.h5"


@item("table")
def hdf5_with_a_loop_of_links(folder):
    with h5py.File(plain_hdf5(folder / "t.h5", ["Age"]), "a") as file:
        file["data/Age"], file["data/Ring"] = h5py.SoftLink("/data/Ring"), h5py.SoftLink("/data/Age")
    return folder / "t.h5"


@item("table")
def named_pipe(folder):
    os.mkfifo(folder / "t.csv")
    return folder / "t.csv"


@item("bundle")
def bundle_with_a_named_pipe(folder):
    out = bundle(folder)
    (out / "bundle.json").unlink()
    os.mkfifo(out / "bundle.json")
    return out


# --- text that is read as settings --------------------------------------------------------------------------------


@item("mapping")
def mapping_of_deep_brackets(folder):
    return put(folder / "m.toml", MAPPING + "\nmatch = " + "[" * 100_000)


@item("mapping")
def mapping_of_deep_brackets_in_many_lines(folder):
    return put(folder / "m.toml", MAPPING + "\nmatch = " + ("[" * 1000 + "\n") * 100)


@item("mapping")
def mapping_with_a_long_number(folder):
    return put(folder / "m.toml", MAPPING.replace("[99]", "[\n" + "9" * 3900 + "\n]"))


@item("mapping")
def mapping_with_a_tower_of_a_unit(folder):
    return put(folder / "m.toml", MAPPING.replace('unit = "kpc"', f'unit = "{"(" * 3000}kpc{")" * 3000}"'))


@item("mapping")
def mapping_with_a_huge_power(folder):
    return put(folder / "m.toml", MAPPING.replace('unit = "kpc"', 'unit = "kpc**9999999999(9999999999)"'))


@item("mapping")
def mapping_with_a_slow_pattern(folder):
    return put(folder / "m.toml", MAPPING.replace("id =", f'match = ["{"*a" * 3000}*b"]\nid =', 1) + '\nformat = "pdf"')


@item("study")
def study_of_deep_brackets(folder):
    return put(folder / "s.toml", "x = " + "{a=" * 50_000)


@item("study")
def study_with_a_long_key(folder):
    return put(folder / "s.toml", ".".join("a" * 100_000) + " = 1\n")


@item("run")
def run_of_deep_brackets(folder):
    put(folder / "study.json", '{"study": ' + "[" * 200_000)
    return folder


@item("run")
def run_that_is_something_else(folder):
    put(folder / "study.json", json.dumps({"study": [1], "data": {"a": 1}}))
    return folder


# --- images -------------------------------------------------------------------------------------------------------


@item("image")
def image_that_is_a_pickle(folder):
    return put(folder / "g.fits", pickle.dumps(Canary(folder)))


@item("image")
def image_that_claims_a_terapixel(folder):
    return image_files.lying_header(folder / "g.fits", 10**6)


@item("image")
def image_whose_sides_overflow(folder):
    return image_files.lying_header(folder / "g.fits", 2**62)


@item("image")
def gzip_bomb_called_an_image(folder):
    return put(folder / "g.fits.gz", gzipped(fits.PrimaryHDU().header.tostring().encode()))


@item("image")
def image_archive_of_objects(folder):
    np.savez(folder / "g.npz", images=np.array([Canary(folder)], dtype=object), filters=np.array(["g"]))
    return folder / "g.npz"


@item("image")
def image_archive_bomb(folder):
    np.savez_compressed(folder / "g.npz", images=np.zeros((1, 6000, 6000)), filters=np.array(["g"]))
    return folder / "g.npz"


@item("image")
def image_of_endless_extensions(folder):
    head = fits.PrimaryHDU().header.tostring().encode()
    return put(folder / "g.fits", head + fits.ImageHDU().header.tostring().encode() * 300)


@item("image")
def image_that_is_a_named_pipe(folder):
    os.mkfifo(folder / "g.fits")
    return folder / "g.fits"


# --- stores -------------------------------------------------------------------------------------------------------


ROW = {"id": "1", "domain": "made", "view": 0, "views": 1, "snapshot": 1, "root": None, "redshift": 0.1, "r_half": 4.0}


def image_store(folder, settings=None, plan=None, card=None, array=None):
    """A store of one image, with whatever else is asked for."""
    out = folder / "store"
    shard = out / "parts" / "made" / "shards" / "000000"
    shard.mkdir(parents=True)
    made = {"images": {"bands": ["g"], "pixels": 4}, "images_per_shard": 1, "number": "float16"}
    put(out / "store.json", json.dumps({"format": 1, "settings": made}) if settings is None else settings)
    put(out / "parts" / "made" / "plan.json", json.dumps({"ids": ["1"]}) if plan is None else plan)
    stream = io.BytesIO()
    np.save(stream, np.zeros((1, 1, 4, 4), np.float16))
    content = stream.getvalue() if array is None else array
    put(shard / "images.npy", content)
    found = {"format": 1, "rows": [{**ROW, "truth": {"f_ex": 0.5}, "measured": {}}], "skipped": []}
    found |= {"files": {"images.npy": hashlib.sha256(content).hexdigest()}, **(card or {})}
    put(shard / "card.json", json.dumps(found))
    return out


@item("store")
def store_of_deep_brackets(folder):
    return image_store(folder, settings='{"settings": ' + "[" * 200_000)


@item("store")
def store_with_a_plan_of_deep_brackets(folder):
    return image_store(folder, plan='{"ids": ' + "[" * 200_000)


@item("store")
def store_whose_images_are_a_pickle(folder):
    stream = io.BytesIO()
    np.save(stream, np.array([Canary(folder)], dtype=object), allow_pickle=True)
    return image_store(folder, array=stream.getvalue())


@item("store")
def store_that_claims_a_terabyte(folder):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f2", "fortran_order": False, "shape": (1, 1, 2**20, 2**19)}
    )
    return image_store(folder, array=stream.getvalue())


@item("store")
def store_whose_images_lie_elsewhere(folder):
    np.save(folder / "secret.npy", np.ones((1, 1, 4, 4), np.float16))
    digest = hashlib.sha256((folder / "secret.npy").read_bytes()).hexdigest()
    return image_store(folder, card={"files": {"../../../../../secret.npy": digest}})


@item("store")
def store_of_rows_without_facts(folder):
    return image_store(folder, card={"rows": [{}]})


@item("store")
def store_of_text_for_numbers(folder):
    return image_store(folder, card={"rows": [{**ROW, "truth": {"f_ex": "[" * 9}, "measured": {}}]})


# --- bundles ------------------------------------------------------------------------------------------------------


def safetensors(header, body=b"", length=None):
    """Bytes of a safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def bundle(folder, weights=None, name="weights-0.safetensors", description=None, card=None, **settings):
    """A bundle with a right checksum and whatever else is asked for."""
    out = folder / "bundle"
    out.mkdir()
    content = safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4))
    content = content if weights is None else weights
    put(out / "weights-0.safetensors", content)
    found = {
        "format": 1,
        "kind": settings.pop("kind", "perceptron"),
        "settings": {"features": ["mstar", "age"], "target": "f_ex", **settings},
        "weights": {"file": name, "sha256": hashlib.sha256(content).hexdigest()},
        "card": {} if card is None else card,
    }
    put(out / "bundle.json", json.dumps(found) if description is None else description)
    return out


@item("bundle")
def bundle_of_deep_brackets(folder):
    return bundle(folder, description='{"format": 1, "card": ' + "[" * 500_000)


@item("bundle")
def bundle_with_a_long_number(folder):
    return bundle(folder, description='{"format": ' + "1" * 500_000 + "}")


@item("bundle")
def bundle_whose_weights_lie_elsewhere(folder):
    put(folder / "other.safetensors", "secret")
    return bundle(folder, name="../other.safetensors")


@item("bundle")
def bundle_whose_weights_have_no_name(folder):
    return bundle(folder, name="..\0")


@item("bundle")
def bundle_of_a_giant_header(folder):
    return bundle(folder, weights=safetensors({}, length=2**60))


@item("bundle")
def bundle_of_a_giant_tensor(folder):
    header = {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    return bundle(folder, weights=safetensors(header, bytes(8)))


@item("bundle")
def bundle_of_overlapping_tensors(folder):
    header = {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in "ab"}
    return bundle(folder, weights=safetensors(header, bytes(8)))


@item("bundle")
def bundle_of_repeated_tensors(folder):
    one = b'"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}'
    return bundle(folder, weights=safetensors(b"{" + one + b", " + one + b"}", bytes(8)))


@item("bundle")
def bundle_of_a_shape_that_overflows(folder):
    header = {"a": {"dtype": "F32", "shape": [2**33, 2**33], "data_offsets": [0, 0]}}
    return bundle(folder, weights=safetensors(header))


@item("bundle")
def bundle_of_a_million_names(folder):
    header = {f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(200_000)}
    return bundle(folder, weights=safetensors(header))


@item("bundle")
def bundle_of_a_hole(folder):
    out = bundle(folder)
    with (out / "weights-0.safetensors").open("wb") as stream:
        stream.truncate(3_900_000_000)  # takes no room on the disk
    return out


@item("bundle")
def bundle_of_wide_layers(folder):
    return bundle(folder, hidden=[10**6, 10**6], members=5)


@item("bundle")
def bundle_of_many_layers(folder):
    return bundle(folder, weights=one_tensor(10**6), hidden=[1] * 500_000, members=1)


@item("bundle")
def bundle_of_many_members(folder):
    return bundle(folder, hidden=[1], members=10**12)


@item("bundle")
def bundle_of_a_giant_head(folder):
    return bundle(folder, hidden=[8], head={"kind": "bounded", "components": 10**10})


@item("bundle")
def bundle_of_a_giant_flow(folder):
    return bundle(folder, hidden=[8], head={"kind": "flow", "bins": 10**10, "transforms": 10**10})


def one_tensor(count):
    """Weights of ``count`` zeros."""
    header = {"a": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}
    return safetensors(header, bytes(4 * count))


@item("bundle")
def bundle_of_endless_trees(folder):
    """Nodes that are each other's children: a walk down the tree would never end."""
    from galineage.models import make_estimator

    forest = make_estimator("boosting", ["mstar", "age"]).state_dict()
    rows = 3000
    changed = {"feature": np.zeros((1, rows), np.int16), "threshold": np.zeros((1, rows)), "value": np.zeros((1, rows))}
    changed |= {name: np.zeros((1, rows), np.int32) for name in ("left", "right")}
    tensors = {name: changed.get(name.rpartition(".")[2], value.numpy()) for name, value in forest.items()}
    return bundle(folder, weights=save_numpy(tensors), kind="boosting")


@item("bundle")
def bundle_with_text_for_numbers(folder):
    from safetensors.torch import save

    from galineage.models import make_estimator

    estimator = make_estimator("mdn", ["mstar", "age"], members=1, hidden=(8,))
    card = {"domains": 3, "ranges": {"mstar": {"p01": "x", "p99": None}, "age": 7}, "prior_width": "wide"}
    weights = save(estimator.state_dict())
    return bundle(
        folder, weights=weights, card=card, **{k: v for k, v in estimator.settings().items() if k[:4] != "feat"}
    )


FIXTURE = Path(__file__).parents[1] / "fixtures" / "bundles" / "format-1" / "mdn"


def good_bundle(folder, arrays=None, **changes):
    """A bundle that can be read, with changes to its description, and a shift score's file of any content."""
    out = Path(shutil.copytree(FIXTURE, folder / "bundle"))
    description = json.loads((out / "bundle.json").read_text())
    if arrays is not None:
        put(out / "shift-0.safetensors", arrays)
        digest = hashlib.sha256(arrays).hexdigest()
        changes["shift"] = {"kind": "neighbours", "file": "shift-0.safetensors", "sha256": digest}
    put(out / "bundle.json", json.dumps({**description, "format": 2, **changes}))
    return out


@item("bundle")
def bundle_with_a_pickle_for_a_shift_score(folder):
    return good_bundle(folder, arrays=pickle.dumps(Canary(folder)))


@item("bundle")
def bundle_whose_shift_score_lies_elsewhere(folder):
    put(folder / "other.safetensors", "secret")
    return good_bundle(folder, shift={"kind": "neighbours", "file": "../other.safetensors", "sha256": "0"})


@item("bundle")
def bundle_with_an_unknown_shift_score(folder):
    return good_bundle(folder, shift={"kind": "os.system", "file": "x", "sha256": "0"})


@item("bundle")
def bundle_with_a_shift_score_of_other_shapes(folder):
    return good_bundle(folder, arrays=one_tensor(7))


@item("bundle")
def bundle_with_a_shift_score_that_never_ends(folder):
    shapes = {
        "reference": (3, 2),
        "center": (2,),
        "spread": (2,),
        "radius": (3,),
        "unit": (1,),
        "k": (1,),
        "own": (201,),
    }
    tensors = {name: np.full(shape, np.nan if name != "k" else 1e18) for name, shape in shapes.items()}
    return good_bundle(folder, arrays=save_numpy(tensors))


@item("bundle")
def bundle_with_a_recalibration_of_text(folder):
    return good_bundle(folder, recalibration={"knots": "abc", "values": [1], "slopes": {}, "size": "x"})


@item("bundle")
def bundle_with_a_recalibration_that_goes_back(folder):
    knots = [-1.0, 1.0, 0.0]
    settings = {"knots": knots, "values": [float("nan")] * 3, "slopes": [-1e300] * 3, "size": 5, "departure": 0.1}
    return good_bundle(folder, recalibration={**settings, "weighted": False})


@item("bundle")
def bundle_with_conformal_intervals_of_text(folder):
    return good_bundle(folder, conformal={"kind": ["x"], "levels": [5], "corrections": "abc", "support": [1]})


# --- representations ----------------------------------------------------------------------------------------------


def representation(folder, weights=None, name="weights-0.safetensors", description=None, card=None, **settings):
    """A saved representation with a right checksum and whatever else is asked for."""
    out = folder / "representation"
    out.mkdir()
    content = one_tensor(1) if weights is None else weights
    put(out / "weights-0.safetensors", content)
    found = {
        "format": 1,
        "settings": {"channels": ["g", "r", "i"], "pixels": 16, "widths": [8, 8], "projection": 8, **settings},
        "weights": {"file": name, "sha256": hashlib.sha256(content).hexdigest()},
        "card": {} if card is None else card,
    }
    put(out / "representation.json", json.dumps(found) if description is None else description)
    return out


def good_weights():
    """Weights that fit what `representation` describes."""
    from safetensors.torch import save

    from galineage.models.contrastive import ContrastiveNetwork

    return save(ContrastiveNetwork(("g", "r", "i"), 16, widths=(8, 8), projection=8).state_dict())


@item("representation")
def representation_with_a_pickle_for_weights(folder):
    return representation(folder, weights=pickle.dumps(Canary(folder)))


@item("representation")
def representation_with_a_named_pipe(folder):
    out = representation(folder)
    (out / "representation.json").unlink()
    os.mkfifo(out / "representation.json")
    return out


@item("representation")
def representation_of_deep_brackets(folder):
    return representation(folder, description='{"format": 1, "card": ' + "[" * 500_000)


@item("representation")
def representation_with_a_long_number(folder):
    return representation(folder, description='{"format": ' + "1" * 500_000 + "}")


@item("representation")
def representation_that_is_a_list(folder):
    return representation(folder, description="[1, 2]")


@item("representation")
def representation_whose_weights_lie_elsewhere(folder):
    put(folder / "other.safetensors", "secret")
    return representation(folder, name="../other.safetensors")


@item("representation")
def representation_whose_weights_have_no_name(folder):
    return representation(folder, name="..\0")


@item("representation")
def representation_of_a_giant_header(folder):
    return representation(folder, weights=safetensors({}, length=2**60))


@item("representation")
def representation_of_a_giant_tensor(folder):
    header = {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    return representation(folder, weights=safetensors(header, bytes(8)))


@item("representation")
def representation_of_a_hole(folder):
    out = representation(folder)
    with (out / "weights-0.safetensors").open("wb") as stream:
        stream.truncate(3_900_000_000)
    return out


@item("representation")
def representation_of_wide_stages(folder):
    return representation(folder, widths=[1024] * 50)


@item("representation")
def representation_of_many_stages(folder):
    return representation(folder, weights=one_tensor(10**6), widths=[8] * 500_000)


@item("representation")
def representation_of_many_stages_of_huge_images(folder):
    return representation(folder, weights=one_tensor(10**6), widths=[1024] * 13, pixels=2**16)


@item("representation")
def representation_of_many_residual_stages(folder):
    return representation(folder, weights=one_tensor(10**6), encoder="resnet18", widths=[2048] * 4, pixels=64)


@item("representation")
def representation_of_a_giant_projection(folder):
    return representation(folder, projection=10**10)


@item("representation")
def representation_of_many_bands(folder):
    return representation(folder, channels=[f"b{number}" for number in range(100_000)])


@item("representation")
def representation_with_an_encoder_that_grows_with_the_image(folder):
    return representation(folder, weights=one_tensor(10**6), encoder="table-a2", pixels=16_384, widths=[])


@item("representation")
def representation_with_an_unknown_encoder(folder):
    return representation(folder, weights=good_weights(), encoder="os.system")


@item("representation")
def representation_with_text_for_numbers(folder):
    return representation(folder, weights=good_weights(), pixels="16", projection="8")


@item("representation")
def representation_with_text_for_widths(folder):
    return representation(folder, weights=good_weights(), widths=["eight", "8"])


@item("representation")
def representation_with_a_list_for_a_recipe(folder):
    return representation(folder, weights=good_weights(), recipe=[1, 2, 3])


@item("representation")
def representation_with_text_for_a_card(folder):
    return representation(folder, weights=good_weights(), card="a card")


@item("representation")
def representation_with_settings_of_its_own(folder):
    return representation(folder, weights=good_weights(), device="cuda", hook="os.system")


# --- checkpoints --------------------------------------------------------------------------------------------------


@item("checkpoint")
def checkpoint_of_deep_brackets(folder):
    header = {"__metadata__": {"galineage": "[" * 200_000, "sha256": "0"}}
    put(folder / "checkpoint.safetensors", safetensors(header))
    return folder


@item("checkpoint")
def checkpoint_of_deep_brackets_with_its_checksum(folder):
    facts = "[" * 200_000
    header = {"__metadata__": {"galineage": facts, "sha256": hashlib.sha256(facts.encode()).hexdigest()}}
    put(folder / "checkpoint.safetensors", safetensors(header))
    return folder


@item("checkpoint")
def checkpoint_that_is_a_pickle(folder):
    put(folder / "checkpoint.safetensors", pickle.dumps(Canary(folder)))
    return folder


@item("checkpoint")
def checkpoint_of_a_giant_tensor(folder):
    header = {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    put(folder / "checkpoint.safetensors", safetensors(header, bytes(8)))
    return folder


def make(name, folder):
    """Write one item into a new folder; return (what it is opened as, path)."""
    opened_as, maker = ITEMS[name]
    folder.mkdir(parents=True)
    return opened_as, maker(folder)


if __name__ == "__main__":
    for name in ITEMS:
        print(*make(name, Path(sys.argv[1]) / name))
