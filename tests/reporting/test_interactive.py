"""The page to walk about in: complete in itself, safe with strangers' texts, small enough, and it runs."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galineage.errors import ConfigError, DataError
from galineage.reporting import interactive
from galineage.reporting.interactive import write_interactive

EVIL = "</script><script>document.title = 'bad'</script><!--"


def make(path, n=30, size=20, **changes):
    rng = np.random.default_rng(0)
    given = {
        "places": rng.standard_normal((n, 2)),
        "thumbnails": rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8),
        "columns": {"f_ex": np.where(np.arange(n) == 2, np.nan, rng.random(n)), "kind": np.full(n, "disc")},
        "domains": np.where(np.arange(n) % 2 == 0, "a", "b"),
        "title": "Map",
    } | changes
    write_interactive(path, **given)
    return path.read_text(encoding="utf-8")


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_holds_everything(tmp_path):
    page = make(tmp_path / "map.html", ids=np.array([f"g{k}" for k in range(30)]), start=4)
    data = data_of(page)
    assert data["ids"][:2] == ["g0", "g1"]
    assert data["domains"] == ["a", "b"]
    assert data["counts"] == [15, 15]
    assert data["columns"][0]["values"][2] is None
    assert data["columns"][1]["kind"] == "text"
    assert sorted(data["order"]) == list(range(30))
    assert data["start"] == 4
    assert len(data["sprites"]) == 1
    assert not re.search(r"(https?:)?//[\w.-]+\.\w+", page.replace("data:image", ""))
    assert "default-src 'none'" in page


def test_the_same_input_gives_the_same_bytes(tmp_path):
    assert make(tmp_path / "one.html") == make(tmp_path / "two.html")


def test_images_are_in_their_places(tmp_path):
    image = np.zeros((40, 64, 64, 3), dtype=np.uint8)
    image[33, :, :, 1] = 200  # the second tile of the second line is green
    data = data_of(make(tmp_path / "map.html", 40, thumbnails=image))
    from PIL import Image

    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(data["sprites"][0].partition(",")[2]))))
    assert sheet.shape == (2 * data["tile"], 32 * data["tile"], 3)
    tile = data["tile"]
    np.testing.assert_allclose(sheet[tile:, tile : 2 * tile].mean(axis=(0, 1)), [0, 200, 0], atol=4)
    assert sheet[:tile].max() < 30  # colours of a JPEG run over by a pixel


def test_images_of_floats_and_odd_shapes_are_cut_to_squares(tmp_path):
    images = np.full((30, 10, 24, 3), np.nan)
    images[:, :, 7:17] = 0.5
    data = data_of(make(tmp_path / "map.html", thumbnails=images))
    from PIL import Image

    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(data["sprites"][0].partition(",")[2]))))
    assert data["tile"] == 10
    assert abs(float(sheet[:10, :300].mean()) - 127.5) < 3


def test_images_shrink_until_the_page_is_small_enough(tmp_path, monkeypatch):
    whole = make(tmp_path / "one.html", 200, size=64)
    monkeypatch.setattr(interactive, "MOST_BYTES", 200_000)
    small = make(tmp_path / "two.html", 200, size=64)
    assert len(whole) > 600_000
    assert data_of(small)["tile"] < data_of(whole)["tile"]
    assert len(small) < 250_000
    monkeypatch.setattr(interactive, "MOST_BYTES", 9_000)
    with pytest.raises(DataError, match="do not fit"):
        make(tmp_path / "three.html", 200, size=64)
    assert not (tmp_path / "three.html").exists()


def test_no_text_of_a_stranger_becomes_html(tmp_path):
    page = make(
        tmp_path / "map.html",
        3,
        ids=np.array([EVIL, "<img src=x onerror=alert(1)>", "\u2028&\x00"], dtype=object),
        domains=np.array([EVIL, "a", "b"], dtype=object),
        columns={EVIL: np.arange(3.0), "note": np.array([EVIL, "b", "c"], dtype=object)},
        title=EVIL,
        lead=EVIL,
    )
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    assert "<img" not in page
    assert "<!--" not in page
    data = data_of(page)
    assert data["ids"][0] == EVIL
    assert data["columns"][0]["name"] == EVIL
    assert "\x00" not in data["ids"][2]


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=40))
def test_any_identifier_comes_back(text):
    data = interactive._numbers(np.zeros((1, 2)), {}, np.array(["a"]), np.array([text], dtype=object), None)
    written = interactive._json(data)
    assert not set("<>&") & set(written)
    written.encode("ascii")
    assert json.loads(written) == data


def test_without_images_and_with_infinite_values(tmp_path):
    data = data_of(make(tmp_path / "map.html", 3, thumbnails=None, columns={"x": np.array([np.inf, 1.0, -np.inf])}))
    assert data["sprites"] == []
    assert data["columns"][0]["values"] == [None, 1.0, None]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"places": np.zeros((0, 2))}, DataError, "places of shape"),
        ({"places": np.full((30, 2), np.nan)}, DataError, "not finite"),
        ({"domains": np.array(["a"])}, DataError, "'domains' has shape"),
        ({"ids": np.arange(3)}, DataError, "'ids' has shape"),
        ({"columns": {"f_ex": np.zeros(4)}}, DataError, "'f_ex' has shape"),
        ({"thumbnails": np.zeros((30, 8, 8))}, DataError, "images of shape"),
        ({"title": " "}, ConfigError, "no title"),
        ({"start": 30}, ConfigError, "row 30"),
    ],
)
def test_what_is_refused(tmp_path, changes, error, words):
    with pytest.raises(error, match=words):
        make(tmp_path / "map.html", **changes)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_ten_thousand_galaxies_fit(tmp_path):
    make(tmp_path / "map.html", 10_000, size=64)  # noise is the worst that there is to compress
    assert (tmp_path / "map.html").stat().st_size < 30e6


@pytest.mark.slow
def test_a_browser_runs_it(tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser")
    drive = """<script>setTimeout(() => {
      const map = document.getElementById("map");
      const press = (key) => map.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
      press("ArrowRight"); press("Enter"); press("+");
      document.getElementById("find").value = "galaxy 7";
      document.getElementById("controls").requestSubmit();
      press("Enter");
    }, 50)</script></body>"""
    page = tmp_path / "map.html"
    text = make(page, 30, ids=np.array([f"galaxy {k}" for k in range(30)]))
    page.write_text(text.replace("</body>", drive), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [browser, *options, "--virtual-time-budget=2000", "--dump-dom", f"file://{page}"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    body = shown.partition('<div id="pins">')[2]
    assert body.count('class="card"') == 2
    assert "Pinned galaxy 7" in shown
