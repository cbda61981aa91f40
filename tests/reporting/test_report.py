"""A report: complete in itself, true to its numbers, safe with any text, the same every time, never half written."""

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from matplotlib.figure import Figure

import galineage.atomic
from galineage.errors import ConfigError, DataError, FileFormatError
from galineage.reporting import Grid, Panel, Section, write_report
from galineage.reporting.citing import PAPERS, bibtex
from galineage.tables import read_table

ROOT = Path(__file__).parents[2]
VOID = {"meta", "img", "br", "link", "hr", "input"}


@dataclass(frozen=True)
class Said:
    sentence: str
    passed: bool
    kind: str = ""


def figure(height=3.0, width=7.2, points=5):
    drawn = Figure(figsize=(width, height), layout="constrained")
    x = np.linspace(0, 1, points)
    drawn.add_subplot().plot(x, x**2, ".")
    return drawn


def table():
    made = Table(meta={"seed": np.int64(3)})
    made["pair"] = ["a → a", "a → b", "b & a"]
    made["mass"] = MaskedColumn([1e10, 2.5e11, 1.0], mask=[False, False, True], unit="Msun", description="stellar mass")
    made["r2"] = [0.743123456789, np.nan, -np.inf]
    made["n"] = [1500, 2, 3]
    made["own"] = [True, False, False]
    for name in ("pair", "r2", "n", "own"):
        made[name].description = f"what {name} is"
    return made


def sections(**changes):
    first = {"name": "fig01", "title": "Error bars", "caption": "Look at the diagonal.\n\nBelow: too narrow."}
    verdicts = (Said("68 % intervals hold 61 %: too narrow.", False, "too narrow"), Said("No bias.", True))
    one = Panel(**{**first, "figure": figure(), "verdicts": verdicts, "table": table(), **changes})
    two = Panel("fig02_wide", "Both", "Wide.", figure(width=11.0), wide=True)
    grid = Grid("tab1", "Scores", "One row per pair.", table())
    return [Section("Calibration", "Are they right?", (one, grid)), Section("Transfer to TNG100-1", "", (two,))]


def write(folder, made=None, **changes):
    words = {"title": "A study", "lead": "What we asked.", "facts": {"seed": "1", "data": "a.fits\nsha256 00ff"}}
    return write_report(folder, sections=sections() if made is None else made, progress=False, **{**words, **changes})


class Outline(HTMLParser):
    """What a browser would make of the page: elements, attributes, headings; fails on elements that do not nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.sources, self.ids, self.images = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.links += [found["href"]] if "href" in found else []
        self.sources += [found["src"]] if "src" in found else []
        self.ids += [found["id"]] if "id" in found else []
        self.images += [found] if tag == "img" else []
        assert not any(name.startswith("on") for name in found)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    page = write(folder, warning="Toy universe: not nature.")
    return folder, page.read_text(encoding="utf-8")


class TestPage:
    def test_files(self, written):
        assert set(hashes(written[0])) == {
            *("report.html", "numbers.json"),
            *("figures/fig01.pdf", "figures/fig01.png", "figures/fig02_wide.pdf", "figures/fig02_wide.png"),
            *("tables/fig01.ecsv", "tables/fig01.json", "tables/tab1.ecsv", "tables/tab1.json"),
        }

    def test_it_loads_nothing_from_elsewhere(self, written):
        folder, text = written
        outline = Outline(text)
        assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(outline.tags)
        assert all(source.startswith("data:image/") for source in outline.sources)
        assert "default-src 'none'" in text
        style = text.partition("<style>")[2].partition("</style>")[0]
        assert "url(" not in style
        assert "@import" not in style
        cited = {paper.link for paper in PAPERS}
        for link in outline.links:
            if link.startswith("#"):
                assert link[1:] in outline.ids
            else:
                assert link in cited or (folder / link).is_file()

    def test_structure(self, written):
        outline = Outline(written[1])
        levels = [int(tag[1]) for tag in outline.tags if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
        assert len(outline.ids) == len(set(outline.ids))
        assert '<html lang="en">' in written[1]
        assert [image["alt"] for image in outline.images] == ["Look at the diagonal. Below: too narrow.", "Wide."]

    def test_images_have_the_size_of_the_figure_and_little_weight(self, written):
        images = Outline(written[1]).images
        assert [(image["width"], image["height"]) for image in images] == [("691", "288"), ("1056", "288")]
        assert all(len(image["src"]) < 150_000 for image in images)

    def test_dense_drawings_are_embedded_as_png(self, tmp_path):
        dense = Panel("dense", "Dense", "Many points.", figure(points=20_000))
        [image] = Outline(write(tmp_path, [Section("One", "", (dense,))]).read_text(encoding="utf-8")).images
        assert image["src"].startswith("data:image/png;base64,")

    def test_verdicts_come_first_and_in_words(self, written):
        text = written[1]
        headline = text.partition('id="report.verdicts"')[2].partition("</section>")[0]
        assert text.index('id="report.verdicts"') < text.index("<nav")
        assert "One of 2 checks passes" in headline
        assert headline.index("Does not pass (1)") < headline.index("too narrow") < headline.index("Passes (1)")
        assert text.count("68 % intervals hold 61 %: too narrow.") == 2

    @pytest.mark.parametrize(
        ("outcomes", "summary"),
        [
            ([True], "The one check passes"),
            ([True, True], "All 2 checks pass"),
            ([False], "The one check does not pass"),
            ([False, False], "None of 2 checks passes"),
            ([True, True, False], "2 of 3 checks pass"),
        ],
    )
    def test_summary(self, tmp_path, outcomes, summary):
        made = sections(verdicts=tuple(Said("So.", passed) for passed in outcomes))
        assert f"<h2>{summary}</h2>" in write(tmp_path, made).read_text(encoding="utf-8")

    def test_no_headline_without_checks(self, tmp_path):
        assert "report.verdicts" not in write(tmp_path, sections(verdicts=())).read_text(encoding="utf-8")

    def test_warning_is_on_the_page_and_on_every_printed_page(self, written, tmp_path):
        assert '<div class="warning" role="note">' in written[1]
        assert '@top-left { content: "Toy universe\\00003a  not nature\\00002e "' in written[1]
        text = write(tmp_path).read_text(encoding="utf-8")
        assert 'class="warning"' not in text
        assert "@top-left" not in text

    def test_numbers_on_the_page(self, written):
        text = written[1]
        assert '<td class="n">2.5 × 10¹¹</td>' in text
        assert '<td class="n">–</td>' in text
        assert '<td class="n">−∞</td>' in text
        assert '<span class="unit">M☉</span>' in text
        assert "stellar mass [M☉]" in text

    def test_long_tables_are_cut_on_the_page_only(self, tmp_path):
        long = Table({"x": np.arange(1000.0)})
        text = write(tmp_path, sections(table=long)).read_text(encoding="utf-8")
        assert "The first 60 of 1,000 rows" in text
        assert len(read_table(tmp_path / "tables" / "fig01.ecsv")) == 1000

    def test_an_empty_table(self, tmp_path):
        write(tmp_path, sections(table=Table({"x": np.zeros(0)})))
        assert json.loads((tmp_path / "tables" / "fig01.json").read_text())["columns"][0]["values"] == []


class TestNumbers:
    @pytest.mark.parametrize("name", ["fig01", "tab1"])
    def test_both_forms_hold_every_number(self, written, name):
        ecsv = read_table(written[0] / "tables" / f"{name}.ecsv")
        value = json.loads((written[0] / "tables" / f"{name}.json").read_text(encoding="utf-8"))
        want = table()
        assert ecsv.colnames == [column["name"] for column in value["columns"]] == want.colnames
        assert value["rows"] == len(ecsv) == 3
        for column in value["columns"]:
            held = ecsv[column["name"]]
            assert column["unit"] == (str(held.unit) if held.unit else None)
            assert column["description"] == held.description
            masked = np.broadcast_to(getattr(held, "mask", False), 3)
            for got, expected, gone in zip(column["values"], held.tolist(), masked, strict=True):
                if gone or expected != expected:
                    assert got is None
                else:
                    assert (float(got) if isinstance(expected, float) else got) == expected
        np.testing.assert_array_equal(ecsv["r2"], want["r2"])
        assert ecsv["mass"].mask.tolist() == [False, False, True]

    def test_provenance_is_in_both_forms(self, written):
        meta = read_table(written[0] / "tables" / "fig01.ecsv").meta
        assert meta == json.loads((written[0] / "tables" / "fig01.json").read_text(encoding="utf-8"))["meta"]
        assert meta["data"] == "a.fits sha256 00ff"
        assert meta["seed"] == 3  # the table's own entry wins
        assert meta["title"] == "Error bars"

    def test_verdicts_and_facts(self, written):
        numbers = json.loads((written[0] / "numbers.json").read_text(encoding="utf-8"))
        assert numbers["facts"] == {"seed": "1", "data": "a.fits\nsha256 00ff"}
        assert (numbers["passed"], numbers["failed"]) == (1, 1)
        assert numbers["verdicts"][0] == {
            "section": "Calibration",
            "figure": "fig01",
            "passed": False,
            "kind": "too narrow",
            "sentence": "68 % intervals hold 61 %: too narrow.",
        }
        for name in numbers["figures"] + numbers["tables"]:
            assert (written[0] / name).is_file()

    def test_papers_are_those_of_the_citation_file(self):
        cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
        for paper in PAPERS:
            assert paper.title in cited
            assert paper.arxiv in cited
            assert f"year: {paper.year}" in cited
            assert all(author.partition(",")[0] in cited for author in paper.authors)
            assert paper.title in bibtex()


HOSTILE = "<script>alert(\"1\")</script> & '$title' </style> \x00\ud800"


class TestAnyText:
    @pytest.fixture
    def text(self, tmp_path):
        words = Table({"<b>name": ["</td><script>", "$css"], "x": [1.0, 2.0]})
        words["x"].description = HOSTILE[:-2]
        words["x"].unit = None
        one = Panel("one", HOSTILE[:-1], HOSTILE[:-1], figure(), (Said(HOSTILE, True),), words)
        made = [Section(HOSTILE, HOSTILE, (one,))]
        page = write(tmp_path, made, title=HOSTILE, lead=HOSTILE, warning=HOSTILE, facts={"<i>": "</table>"})
        return page.read_text(encoding="utf-8")

    def test_nothing_becomes_markup(self, text):
        outline = Outline(text)
        assert not {"script", "b", "i"} & set(outline.tags)
        assert text.count("<style>") == text.count("</style>") == 1
        assert "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#x27;$title&#x27;" in text
        assert "\x00" not in text

    def test_names_stay_on_one_line(self, written):
        assert '<h2>Transfer to <span class="whole">TNG100-1</span></h2>' in written[1]


def test_the_same_input_gives_the_same_bytes(tmp_path, written):
    write(tmp_path, warning="Toy universe: not nature.")
    assert hashes(tmp_path) == hashes(written[0])


def test_another_process_gives_the_same_bytes(tmp_path, written):
    code = (
        "import sys, matplotlib; matplotlib.use('agg'); sys.path.insert(0, sys.argv[1])\n"
        "import test_report; test_report.write(sys.argv[2], warning='Toy universe: not nature.')"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code, Path(__file__).parent, tmp_path], check=True, env=environment)
    assert hashes(tmp_path) == hashes(written[0])


class TestFigures:
    def test_pyplot_figures_are_closed(self, tmp_path):
        opened = plt.figure(figsize=(4, 3))
        write(tmp_path, sections(figure=opened))
        assert plt.get_fignums() == []

    def test_closed_after_a_failure_too(self, tmp_path):
        opened = plt.figure(figsize=(4, 3))
        with pytest.raises(ConfigError, match="are called 'fig01'"):
            write(tmp_path, sections(figure=opened) + sections())
        assert plt.get_fignums() == []

    def test_a_figure_that_cannot_be_drawn_is_named(self, tmp_path):
        broken = Figure()
        broken.text(0.5, 0.5, r"$\nonsense{$")
        with pytest.raises(DataError, match="cannot be drawn") as failure:
            write(tmp_path, sections(figure=broken))
        assert "fig01" in str(failure.value)
        assert not (tmp_path / "report.html").exists()

    def test_settings_of_matplotlib_are_left_alone(self, tmp_path):
        before = dict(plt.rcParams)
        write(tmp_path)
        assert dict(plt.rcParams) == before


@pytest.mark.parametrize("fails_at", range(10))
def test_a_write_that_fails_leaves_no_half_file(tmp_path, monkeypatch, written, fails_at):
    """The disk is full at the n-th file: what is there is whole, and the old page is as it was."""
    old = tmp_path / "report.html"
    old.write_text("the page of last week", encoding="utf-8")
    files = itertools.count()

    def sync(path):
        if path.is_file() and next(files) == fails_at:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(galineage.atomic, "_sync", sync)
    with pytest.raises(FileFormatError, match="No space left"):
        write(tmp_path, warning="Toy universe: not nature.")
    whole = hashes(written[0])
    there = hashes(tmp_path)
    assert old.read_text(encoding="utf-8") == "the page of last week"
    assert len(there) == fails_at + 1
    assert all(there[name] == whole[name] for name in there if name != "report.html")


class TestWrongInput:
    @pytest.mark.parametrize("name", ["", "../up", "a/b", "a b", ".hidden", "ü", "a.b", "x" * 81])
    def test_names_that_are_no_file_names(self, name):
        with pytest.raises(ConfigError, match="cannot name a file"):
            Grid(name, "t", "c", table())

    @pytest.mark.parametrize("changes", [{"title": " "}, {"caption": ""}])
    def test_empty_texts(self, changes):
        with pytest.raises(ConfigError, match="is empty"):
            sections(**changes)

    @pytest.mark.parametrize(
        ("changes", "what"),
        [({"figure": None}, "figure"), ({"verdicts": ("fine",)}, "verdict"), ({"table": {"x": [1]}}, "table")],
    )
    def test_wrong_parts(self, changes, what):
        with pytest.raises(ConfigError, match=f"the {what} is a"):
            sections(**changes)

    def test_names_are_unique_whatever_their_case(self, tmp_path):
        with pytest.raises(ConfigError, match="are called 'TAB1'"):
            write(tmp_path, [*sections(), Section("More", "", (Grid("TAB1", "t", "c", table()),))])
        assert list(tmp_path.iterdir()) == []

    def test_a_report_has_a_title(self, tmp_path):
        with pytest.raises(ConfigError, match="no title"):
            write(tmp_path, title=" ")

    def test_facts_are_text(self, tmp_path):
        with pytest.raises(ConfigError, match="the fact 'seed' is 3"):
            write(tmp_path, facts={"seed": 3})

    def test_a_report_has_sections(self, tmp_path):
        with pytest.raises(ConfigError, match="no section"):
            write(tmp_path, [])

    def test_items_of_a_section(self):
        with pytest.raises(ConfigError, match="the item is a Table"):
            Section("One", "", (table(),))
