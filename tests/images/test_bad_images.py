"""The table of bad images: each is refused with an error that says what is wrong, or skipped with its reason."""

from __future__ import annotations

import resource
import time
import zipfile

import image_files as made
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from galineage.errors import ConfigError, DataError, FileFormatError, GalineageError
from galineage.light import rebin_cutout
from galineage.sources.images import check_cutout, open_images, open_pictures, read_cutout

GRI = ("hsc-g", "hsc-r", "hsc-i")


def cut_off(path):
    made.mock(path).write_bytes(path.read_bytes()[:30_000])
    return path


def flipped_bits(path):
    content = bytearray(made.legacy(path).read_bytes())
    with fits.open(path, mode="update") as file:
        file[0].add_checksum()
    content = bytearray(path.read_bytes())
    content[9000] ^= 0xFF
    path.write_bytes(content)
    return path


def empty(path):
    path.write_bytes(b"")
    return path


def many_extensions(path):
    fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(np.zeros((2, 2))) for _ in range(140))]).writeto(path)
    return path


def compressed_inside(path):
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(made.blob().astype(np.float32))]).writeto(path)
    return path


def swapped_parts(path):
    made.mock(path)
    with fits.open(path, mode="update") as file:
        file[2].data = np.zeros((4, 4), np.float32)
    return path


def table_only(path):
    Table({"a": [1.0]}).write(path)
    return path


def mirrored(path):
    return made.hsc_band(path, mirrored=True)


ZEROS = np.zeros((60, 60))
NANS = np.full((60, 60), np.nan)
# name: how to make it, options of the reader, error, words of its message
TABLE = {
    "cut off": (cut_off, {}, FileFormatError, "truncated|cut off"),
    "bits flipped": (flipped_bits, {}, FileFormatError, "[Cc]hecksum|[Dd]atasum"),
    "empty": (empty, {}, FileFormatError, "no FITS file"),
    "a picture's bytes": (lambda p: p.write_bytes(b"\x89PNG....") and p, {}, FileFormatError, "no FITS file"),
    "a pickle": (lambda p: p.write_bytes(b"\x80\x04K\x01.") and p, {}, FileFormatError, "pickle"),
    "huge dimensions": (lambda p: made.lying_header(p, 10**6), {}, FileFormatError, "truncated"),
    "too long a side": (lambda p: fits.writeto(p, np.ones((2, 9000))) or p, {}, FileFormatError, "2 x 9000"),
    "huger dimensions": (made.lying_header, {}, FileFormatError, "cannot be read"),
    "more than it holds": (lambda p: made.lying_header(p, 8000), {}, FileFormatError, "ends before|truncated"),
    "packed bomb": (made.packed_bomb, {}, FileFormatError, "unpacks to more"),
    "packed and cut off": (lambda p: p.write_bytes(b"\x1f\x8b\x08\0\0\0\0\0") and p, {}, FileFormatError, "cut off"),
    "too many extensions": (many_extensions, {}, FileFormatError, "more than 128"),
    "compressed inside": (compressed_inside, {}, FileFormatError, "funpack"),
    "a table": (table_only, {}, (FileFormatError, DataError), "0 images"),
    "mock, zeros": (lambda p: made.mock(p, R=ZEROS), {}, FileFormatError, "hsc-r is 0 everywhere"),
    "mock, NaN": (lambda p: made.mock(p, I=NANS), {}, FileFormatError, "hsc-i is without a finite pixel"),
    "mock, bands swapped": (lambda p: made.mock(p, filters="RGIZY"), {}, FileFormatError, "Subaru_HSC.r"),
    "mock, band missing": (lambda p: made.mock(p, bands="GRZ"), {"bands": GRI}, DataError, "no image in hsc-i"),
    "mock, other zero point": (
        lambda p: made.mock(p, unit="AB nanomaggies, m_AB = 27.0-2.5log10(f)"),
        {},
        DataError,
        "zero point is 27",
    ),
    "mock, other unit": (lambda p: made.mock(p, unit="AB mag/arcsec2"), {}, FileFormatError, "AB mag/arcsec2"),
    "mock, other pixels": (lambda p: made.mock(p, field=16.0), {}, DataError, "pixel scale is 0.26"),
    "mock, parts of other sizes": (swapped_parts, {}, FileFormatError, "variance in hsc-g is of the shape"),
    "mock, no PSF": (made.mock, {"need_psf": True}, DataError, "no PSF"),
    "hsc, other zero point": (lambda p: made.hsc_band(p, flux=1e9), {}, DataError, "zero point is 22.5"),
    "hsc, no zero point": (lambda p: made.hsc_band(p, flux=None), {}, FileFormatError, "FLUXMAG0"),
    "hsc, other pixels": (lambda p: made.hsc_band(p, scale=0.2), {}, DataError, "pixel scale is 0.2 arcsec"),
    "hsc, mirrored": (mirrored, {}, DataError, "mirrored"),
    "hsc, no band": (lambda p: made.hsc_band(p, named=False), {}, FileFormatError, "does not say its band"),
    "hsc, no variance": (lambda p: made.hsc_band(p, planes=2), {}, GalineageError, "2 images"),
    "hsc, band missing": (made.hsc_band, {"bands": GRI}, DataError, "no image in hsc-g, hsc-i"),
    "legacy, order unclear": (lambda p: made.legacy(p, each="rgz"), {}, FileFormatError, "bands grz and rgz"),
    "legacy, too few bands": (lambda p: made.legacy(p, each="gr", BANDS="gr"), {}, FileFormatError, "3 images and 2"),
    "legacy, band missing": (made.legacy, {"bands": ("decam-i",)}, DataError, "no image in decam-i"),
    "legacy, band without data": (lambda p: made.legacy(p, empty="z"), {}, FileFormatError, "decam-z is 0 everywhere"),
    "legacy, other pixels": (lambda p: made.legacy(p, scale=0.5), {}, DataError, "pixel scale is 0.5"),
    "legacy, other zero point": (lambda p: made.legacy(p, MAGZERO=25.0), {}, DataError, "zero point is 25"),
    "legacy, PSF of even side": (made.legacy, {"psf": np.ones((3, 4, 4)) / 16}, DataError, "odd"),
    "legacy, PSF not normalised": (made.legacy, {"psf": np.ones((3, 3, 3))}, DataError, "sum is 9"),
    "legacy, PSF of one band": (made.legacy, {"psf": np.ones((1, 3, 3)) / 9}, DataError, "1 PSFs"),
    "silent cube": (lambda p: fits.writeto(p, made.blob()) or p, {}, DataError, "does not say its bands"),
    "silent cube, no zero point": (
        lambda p: fits.writeto(p, made.blob()) or p, {"bands": ("r",)}, DataError, "does not say its zero point"
    ),
    "silent cube, no pixels": (
        lambda p: fits.writeto(p, made.blob()) or p,
        {"bands": ("r",), "zero_point": 27.0},
        DataError,
        "does not say its pixel scale",
    ),
    "silent cube, other pixels": (
        lambda p: fits.writeto(p, made.blob(), made.sky_header(0.2)) or p,
        {"bands": ("r",), "zero_point": 27.0, "pixel_scale": 0.168},
        DataError,
        "pixel scale is 0.2",
    ),
    "silent cube, fewer bands": (
        lambda p: fits.writeto(p, np.stack([made.blob()] * 3)) or p,
        {"bands": ("g", "r"), "zero_point": 27.0, "pixel_scale": 0.168},
        DataError,
        "3 images",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_it_is_refused_and_says_why(tmp_path, name):
    make, options, error, words = TABLE[name]
    path = make(tmp_path / "x.fits")
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(error, match=words) as told:
        read_cutout(path, **options)
    assert isinstance(told.value, GalineageError)
    assert time.perf_counter() - start < 5  # 1 s where nothing else runs
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024  # KiB
    options = {name: value for name, value in options.items() if name != "need_psf"} | options
    (skip,) = open_images([path], **options)
    assert (skip.row, skip.field) == (0, "image")
    assert skip.reason


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileFormatError, match="no such file"):
        read_cutout(tmp_path / "none.fits")
    with pytest.raises(FileFormatError, match="no FITS file"):
        read_cutout(tmp_path)
    with pytest.raises(FileFormatError, match="no images"):
        open_images(tmp_path)
    with pytest.raises(ConfigError, match="unknown options: band"):
        open_images([], band="r")


def test_a_header_that_is_right_can_be_confirmed(tmp_path):
    found = read_cutout(made.hsc_band(tmp_path / "a.fits", flux=1e9), zero_point=22.5)
    np.testing.assert_allclose(found.flux[0], 63.0957 * np.nansum(made.blob(seed=0)), rtol=0.02)
    assert read_cutout(made.legacy(tmp_path / "b.fits", scale=0.5), pixel_scale=0.5).pixel_scale == 0.5


def test_bands_of_one_field_must_be_alike(tmp_path):
    files = {"hsc-g": made.hsc_band(tmp_path / "g.fits", "G"), "hsc-r": made.hsc_band(tmp_path / "r.fits", side=50)}
    with pytest.raises(DataError, match="different pixels"):
        read_cutout(files)
    with pytest.raises(FileFormatError, match="in hsc-r"):
        read_cutout({"hsc-i": tmp_path / "r.fits"})
    with pytest.raises(DataError, match="no band 'r'"):
        read_cutout({"r": tmp_path / "r.fits"})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bands": ("hsc-r", "hsc-g", "hsc-i")}, "order"),
        ({"bands": ("hsc-g", "hsc-r", "hsc-z")}, "no image in hsc-z"),
        ({"bands": ("hsc-g", "hsc-r")}, "more bands"),
        ({"pixel_scale": 0.262}, "pixels are 0.168"),
        ({"psf": True}, "no PSF"),
    ],
)
def test_a_cutout_is_checked_against_what_is_wanted(changes, words):
    image = made.cutout(made.blob())
    check_cutout(image, bands=GRI, pixel_scale=0.1681)
    with pytest.raises(DataError, match=words):
        check_cutout(image, **changes)
    if "pixel_scale" in changes:
        check_cutout(rebin_cutout(image, 0.262), **changes)


class Trap:
    """Runs something when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.array([Trap()], dtype=object), "filters": np.array(["g"])}, "claims|Object"),
        ({"pictures": np.ones((3, 4, 4))}, "holds pictures"),
        ({"images": np.ones((2, 5, 5)), "filters": np.array(["g", "r", "i"])}, "2 images"),
        ({"images": np.ones((3, 5, 5)), "filters": np.array(["g", "r", "i"])}, "everywhere"),
        ({"images": np.ones((2, 5, 5)), "filters": np.array(["g", "r"])}, "no image in hsc-i"),
    ],
)
def test_a_bad_archive_is_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(GalineageError, match=words):
        read_cutout(tmp_path / "a.npz", bands=GRI, zero_point=27.0, pixel_scale=0.168)


def test_an_archive_bomb_is_refused(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("images.npy", "w") as out,
    ):
        np.lib.format.write_array_header_1_0(out, {"descr": "<f8", "fortran_order": False, "shape": (3, 5000, 5000)})
        for _ in range(600):
            out.write(bytes(2**20))
    with pytest.raises(FileFormatError, match="would take 600 MiB"):
        read_cutout(tmp_path / "a.npz", bands=GRI, zero_point=27.0, pixel_scale=0.168)


def test_a_lying_array_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open("images.npy", "w") as out:
        np.lib.format.write_array_header_1_0(out, {"descr": "<f8", "fortran_order": False, "shape": (3, 10**6, 10**6)})
    with pytest.raises(FileFormatError, match="claims"):
        read_cutout(tmp_path / "a.npz", bands=GRI, zero_point=27.0, pixel_scale=0.168)


def _folder(path, name="0.png", **columns):
    Table({"id": [1], "file": [name], **columns}).write(path / "t.csv", overwrite=True)
    return {"table": "t.csv", "bands": ("i", "r", "g"), "pixel_scale": 0.4}


@pytest.mark.parametrize("name", ["../x.png", "/etc/x.png", "a/../../x.png", "..\\x.png"])
def test_pictures_stay_below_their_folder(tmp_path, name):
    with pytest.raises(DataError, match="not below the folder"):
        open_pictures(tmp_path, **_folder(tmp_path, name))


def _large(path):
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def _grey(path):
    from PIL import Image

    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)


def _black(path):
    from PIL import Image

    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: None, "cannot be read"),
        (lambda p: p.write_bytes(b"no picture"), "no picture"),
        (_large, "60000 x 60000|3600000000 pixels"),
        (_grey, "kind L"),
        (_black, "0 everywhere"),
    ],
)
def test_a_bad_picture_is_refused(tmp_path, make, words):
    make(tmp_path / "0.png")
    folder = open_pictures(tmp_path, **_folder(tmp_path))
    with pytest.raises(FileFormatError, match=words):
        folder.read(0)


def test_settings_of_pictures_fit_their_table(tmp_path):
    given_ = _folder(tmp_path)
    with pytest.raises(ConfigError, match="no column 'name'"):
        open_pictures(tmp_path, **given_, id="name")
    with pytest.raises(ConfigError, match="bands are"):
        open_pictures(tmp_path, **{**given_, "bands": ("r", "r", "g")})
    with pytest.raises(FileFormatError, match="neither a folder"):
        open_pictures(tmp_path / "t.csv", **given_)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 11_519), bit=st.integers(0, 7), end=st.integers(1, 11_520))
def test_no_damage_gets_past_as_another_error(tmp_path, place, bit, end):
    good = made.psf_file(tmp_path / "good.fits", side=31).read_bytes()
    content = bytearray(good[:end])
    content[place % end] ^= 1 << bit
    (tmp_path / "bad.fits").write_bytes(content)
    found, said = None, ""
    try:
        found = read_cutout(tmp_path / "bad.fits", bands=("r",), zero_point=22.5, pixel_scale=0.2)
    except GalineageError as error:
        said = str(error)
    # a spoiled pixel or comment is not to be seen; nothing else may have changed
    assert "bad.fits" in said if found is None else (found.bands, found.pixel_scale) == (("r",), 0.2)


MAKERS = {
    "mock": (made.mock, {}),
    "hsc": (made.hsc_band, {}),
    "legacy": (lambda path: made.legacy(path, inverse=np.ones((3, 60, 60), np.float32)), {}),
    "cube": (made.psf_file, {"bands": ("r",), "zero_point": 22.5, "pixel_scale": 0.2}),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_file_cut_anywhere_or_with_spoiled_bytes_is_read_or_refused(tmp_path, rng, kind):
    make, options = MAKERS[kind]
    good = make(tmp_path / "good.fits").read_bytes()
    headers = [k for k in range(0, len(good), 80) if good[k : k + 8].strip().isascii() and b"=" in good[k : k + 10]]
    spoiled = [good[:end] for end in np.linspace(0, len(good) - 2880, 40).astype(int)]
    for _ in range(60):
        content = bytearray(good)
        place = int(rng.choice(headers)) + int(rng.integers(0, 40))
        content[place] = int(rng.integers(32, 127))
        spoiled.append(bytes(content))
    bad = tmp_path / "bad.fits"
    refused = 0
    for content in spoiled:
        bad.write_bytes(content)
        try:
            read_cutout(bad, **options)
        except GalineageError:
            refused += 1
    assert refused >= 39  # a cut in the mask's padding may leave whole images
