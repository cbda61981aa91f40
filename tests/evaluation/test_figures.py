"""Comparisons between scores and catalogues, and what the figures show: numbers in artists, units in labels."""

import subprocess
import sys
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from astropy import units
from known import gaussian, scores, universe
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from galineage.errors import ConfigError, DataError
from galineage.evaluation import (
    DIAGNOSTICS,
    balance,
    boxes,
    coverage,
    figure_of,
    inputs,
    pit,
    prediction,
    relation,
    sbc,
    sharpness,
    style,
    transfer,
    trend,
)
from galineage.evaluation.style import INK, PALETTE, axis_label, colour, new_figure
from galineage.galaxy import Catalogue


@pytest.fixture(scope="module")
def known():
    return scores("right", 2000, 1, model="cnn", train="a", test="b")


def labelled(train, test, model="cnn", *, bias=0.0, noise=0.08, width=None, n=800, seed=0):
    rng = np.random.default_rng(seed)
    truth, mstar = universe(n, rng)
    centre = truth + bias + noise * rng.standard_normal(n)
    return gaussian(truth, centre, width or noise, mstar, rng, train=train, test=test, model=model)


def catalogue(n=400, seed=0, age=8.0, latest=99):
    rng = np.random.default_rng(seed)
    f_ex, mstar = universe(n, rng)
    snapshot = np.where((f_ex > 0.2) & (rng.random(n) < 0.5), latest - 8, latest)
    columns = {"f_ex": f_ex, "mstar": mstar, "age": age + 0.5 * rng.standard_normal(n), "snapshot": snapshot}
    return Catalogue(columns, np.arange(n), "a")


def drawn_axes(drawn):
    return [drawn] if isinstance(drawn, Axes) else list(drawn)


@pytest.mark.parametrize("name", DIAGNOSTICS)
class TestEveryDiagnostic:
    def test_trio(self, name, known):
        item = DIAGNOSTICS[name]
        result = item.compute(known, n_boot=10, seed=3)
        verdict = item.judge(result)
        assert verdict.passed, verdict.sentence
        assert any(character.isdigit() for character in verdict.sentence)
        table = result.to_table()
        assert len(table) > 0
        assert all(table[column].description for column in table.colnames)
        again = item.compute(known, n_boot=10, seed=3).to_table()
        for column in table.colnames:
            np.testing.assert_array_equal(table[column], again[column])

    def test_figure(self, name, known, tmp_path):
        item = DIAGNOSTICS[name]
        figure = item.figure(item.compute(known, n_boot=10))
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / "f.png")
        assert 600 <= figure.get_figwidth() * figure.dpi <= 900
        for ax in figure.axes:
            assert ax.get_ylabel()
        assert figure.axes[-1].get_xlabel()
        assert item.caption.endswith(".")
        assert item.title

    def test_small_samples(self, name):
        item = DIAGNOSTICS[name]
        tiny = scores("right", 3, 1)
        if name == "sharpness":
            with pytest.raises(DataError):
                item.compute(tiny.select([0]))
        else:
            assert not item.judge(item.compute(tiny.select([0]), n_boot=5)).passed
        result = item.compute(tiny, n_boot=5)
        item.figure(result).canvas.draw()
        result.to_table()
        with pytest.raises(DataError):
            item.compute(tiny.select([]))

    def test_constant_predictions(self, name):
        item = DIAGNOSTICS[name]
        rng = np.random.default_rng(0)
        truth, mstar = universe(300, rng)
        result = item.compute(gaussian(truth, 0.3, 0.2, mstar, rng), n_boot=5)
        assert item.judge(result).sentence
        item.figure(result).canvas.draw()
        assert len(result.to_table()) > 0


def test_style_is_local_and_given_axes_keep_their_own(known):
    before = mpl.rcParams["xtick.direction"]
    with style():
        assert mpl.rcParams["xtick.direction"] == "in"
    assert mpl.rcParams["xtick.direction"] == before
    ax = new_figure().add_subplot()
    assert coverage.draw(coverage.compute(known, n_boot=5), ax) is ax
    assert figure_of(ax) is ax.figure
    whole = new_figure()
    assert figure_of([whole.subfigures(1, 2)[1].add_subplot()]) is whole
    assert colour(len(PALETTE)) == PALETTE[0]
    assert axis_label("mstar", "True").startswith("True $")


def test_axis_labels_carry_units(known):
    ax = trend.draw(trend.compute(known, n_boot=5))
    assert r"\log_{10}" in ax.get_xlabel()
    assert "M_\\odot" in ax.get_xlabel()
    times = replace(known, target="t_last_major")
    _, lower = prediction.draw(prediction.compute(times, n_boot=5))
    assert "Gyr" in lower.get_xlabel()


def test_coverage_curve_is_drawn_as_computed(known):
    result = coverage.compute(known, n_boot=5)
    ax = coverage.draw(result)
    lines = [line for line in ax.lines if line.get_color() == PALETTE[0]]
    np.testing.assert_array_equal(lines[0].get_xydata(), np.column_stack([result.nominal, result.observed]))
    coverage.draw(result, ax, index=1)
    assert len(ax.get_legend().get_texts()) == 3


def test_pit_and_sharpness_draw_their_counts(known):
    histogram = pit.compute(known, n_boot=5)
    assert any(np.array_equal(p.get_data().values, histogram.density) for p in pit.draw(histogram).patches[1:])
    sharp = sharpness.compute(known, n_boot=5)
    ax = sharpness.draw(sharp)
    assert ax.lines[0].get_xdata()[0] == sharp.ratio
    assert sharp.counts.sum() == len(known)
    reach = sbc.draw(sbc.compute(known, n_boot=5)).get_ylim()
    assert reach[0] == -reach[1]


def test_prediction_panels(known):
    result = prediction.compute(known, n_boot=50, bins=10)
    upper, lower = prediction.draw(result)
    median = next(line for line in upper.lines if "running median" in str(line.get_label()))
    keep = result.error.filled
    np.testing.assert_allclose(median.get_ydata(), result.error.x[keep] + result.error.p50[keep])
    assert "Predicted" in upper.get_ylabel()
    assert upper.get_shared_x_axes().joined(upper, lower)
    assert len(result.shown) == len(set(result.shown)) == 128
    figure = new_figure()
    assert prediction.draw(result, figure.subplots(2, 1))[0].figure is figure
    assert prediction.draw(result, new_figure().subfigures(1, 2)[0])[0] is not None
    assert result.to_table()["n"].sum() == len(known)


def test_running_percentiles_equal_their_twin(known):
    result = trend.compute(known, along="truth", bins=[0, 0.2, 0.5, 1], n_boot=300)
    inside = (known.truth >= 0.2) & (known.truth < 0.5)
    error = (known.mean - known.truth)[inside]
    run = result.curves[0]
    assert run.n[1] == inside.sum()
    np.testing.assert_allclose([run.p16[1], run.p50[1], run.p84[1]], np.percentile(error, [16, 50, 84]))
    assert run.p50_error[1] == pytest.approx(error.std() * np.sqrt(np.pi / 2 / inside.sum()), rel=0.3)


def test_trend_compares_with_baselines():
    good = labelled("a", "a", "cnn", noise=0.05, seed=1)
    poor = labelled("a", "a", "spline", noise=0.15, seed=2)
    result = trend.compute([good, poor], n_boot=30)
    verdict = trend.judge(result)
    assert verdict.passed
    assert "best baseline (spline)" in verdict.sentence
    assert not trend.judge(trend.compute([poor, good], n_boot=30)).passed
    assert trend.judge(trend.compute([poor, good], n_boot=30)).kind == "beaten by a baseline"
    ax = trend.draw(result)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["cnn", "spline"]
    assert len(result.to_table()) == 24
    assert result.to_table()["mstar_low"].unit == units.Msun
    table = result.to_table()
    assert table["rmse_all"][0] == pytest.approx(np.sqrt(np.mean((good.mean - good.truth) ** 2)))
    biased = labelled("a", "a", bias=0.3, seed=3)
    assert trend.judge(trend.compute(biased)).kind == "biased in places"
    assert trend.compute([good, replace(good, test="b")], n_boot=5).names == ("a → a", "a → b")
    with pytest.raises(DataError):
        trend.compute([])
    with pytest.raises(DataError):
        trend.compute([good, replace(good, target="age")])


def test_a_biased_model_of_small_scatter_does_not_beat_a_baseline():
    rng = np.random.default_rng(1)
    fair = labelled("a", "a", "spline", noise=0.1, n=3000, seed=2)
    offset = replace(fair, mean=fair.truth + 0.03 + 0.1 * rng.standard_normal(3000), model="cnn")
    judged = trend.judge(trend.compute([offset, fair], n_boot=50))
    assert judged.kind == "beaten by a baseline"
    assert "RMSE 0.10" in judged.sentence
    # half of the scatter in a well-filled bin is too much, in a bin of 40 galaxies it is not judged
    shifted = replace(fair, mean=fair.mean + 0.08)
    assert trend.judge(trend.compute(shifted, bins=4)).kind == "biased in places"
    assert trend.judge(trend.compute(shifted.select(slice(40)), bins=1)).passed
    assert not trend.judge(trend.compute(shifted.select(slice(60)), bins=1)).passed


def test_rmse_is_compared_galaxy_by_galaxy_where_both_have_the_same():
    one = labelled("a", "a", "cnn", noise=0.1, n=2000, seed=1)
    rng = np.random.default_rng(3)
    other = replace(one, mean=one.mean + 0.01 * rng.standard_normal(2000), model="spline")
    paired = trend.compute([one, other.select(rng.permutation(2000))], n_boot=400)
    alone = trend.compute([one, replace(other, ids=np.char.add(other.ids, "x"))], n_boot=400)
    difference = (one.mean - one.truth) ** 2 - (other.mean - other.truth) ** 2
    twin = difference.std() / np.sqrt(2000) / (2 * paired.rmse[0][0])
    assert paired.behind[1][1] == pytest.approx(twin, rel=0.2)
    assert alone.behind[1][1] == pytest.approx(np.hypot(alone.rmse[0][1], alone.rmse[1][1]))
    assert alone.behind[1][1] > 5 * paired.behind[1][1]
    assert paired.behind[0] == (0, 0)


def test_offsets_of_opposite_sign_do_not_cancel():
    known = scores("right", 4000, 2, width=0.04)
    mass = np.log10(known.mstar)
    factor = np.select([mass < 10.25, mass < 10.5, mass < 10.6], [1.3, 0.7, 1.5], 1.0)
    wrong = replace(known, mean=(factor + 0.01 * np.sin(np.arange(4000))) * known.truth)
    result = relation.compute(wrong, point="mean", bins=[10, 10.25, 10.5, 11, 11.5], n_boot=50)
    assert abs(result.below[1]) == pytest.approx(0.3, abs=0.02)
    verdict = relation.judge(result)
    assert verdict.kind == "distorted"
    assert "below 10^10.5 Msun (at 10^10." in verdict.sentence
    few = np.flatnonzero(mass > 11.5)[:19]
    factor[few] = 3
    alone = replace(known, mean=np.where(np.isin(np.arange(4000), few), 3, 1) * known.truth)
    rows = np.concatenate([few, np.flatnonzero(mass < 11.5)])
    sparse = relation.compute(alone.select(rows), point="mean", bins=[10, 10.5, 11.5, 12.3], n_boot=50)
    assert sparse.offset[-1] == pytest.approx(2)
    assert relation.judge(sparse).passed
    assert "right within its errors above" in relation.judge(sparse).sentence


def test_relation_offset_is_known():
    known = scores("right", 4000, 2, width=0.04, model="cnn", train="a", test="b")
    right = relation.compute(known, n_boot=50)
    assert relation.judge(right).kind == "recovered"
    low = replace(known, mean=0.8 * known.truth)
    result = relation.compute(low, point="mean", n_boot=50, bins=6)
    assert result.above[1] == pytest.approx(-0.2, abs=1e-6)
    assert result.below[1] == pytest.approx(-0.2, abs=1e-6)
    assert result.above[2] < 0.01
    assert result.below[0] < 10.5 < result.above[0]
    verdict = relation.judge(result)
    assert not verdict.passed
    assert "-20" in verdict.sentence
    ax = relation.draw(result)
    dashed = next(line for line in ax.lines if line.get_color() == INK and line.get_linestyle() == "--")
    np.testing.assert_allclose(dashed.get_ydata(), result.truth.p50[result.truth.filled])
    relation.draw(right, ax, index=1)
    assert len(ax.get_legend().get_texts()) == 3


def test_relation_of_whole_posteriors_is_right_where_that_of_their_means_is_not():
    known = scores("right", 20_000, 5, width=0.12)
    whole, means = (
        relation.compute(known, point=point, n_boot=50, bins=[10, 10.5, 11]) for point in ("posterior", "mean")
    )
    assert np.abs(whole.offset / whole.offset_error).max() < 3.5
    assert means.offset[0] < -0.1
    np.testing.assert_allclose(whole.predicted.p84, whole.truth.p84, atol=0.02)


def test_importing_diagnostics_loads_no_heavy_library():
    code = "import sys, galineage.evaluation; print({'torch', 'matplotlib', 'astropy', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


class TestTransfer:
    def cells(self, names="ab", **cross):
        return [
            labelled(a, b, **({} if a == b else cross), seed=10 * i + j)
            for i, a in enumerate(names)
            for j, b in enumerate(names)
        ]

    def test_matrix_equals_single_accuracies(self):
        cells = self.cells("abc", bias=0.1, width=0.05)
        result = transfer.compute(cells, n_boot=20)
        assert result.train == result.test == ("a", "b", "c")
        cell = cells[5]
        assert (cell.train, cell.test) == ("b", "c")
        assert result.values["bias_median"][0][1, 2] == pytest.approx(np.median(cell.mean - cell.truth))
        assert result.values["bias_median"][1][1, 2] > 0
        assert len(result.to_table()) == 9

    def test_what_transfers_and_what_does_not(self):
        good = transfer.judge(transfer.compute(self.cells(), n_boot=50))
        assert good.passed
        assert good.sentence.startswith("2 of 2 transfers hold")
        bad = transfer.judge(transfer.compute(self.cells(bias=0.1), n_boot=50))
        assert not bad.passed
        assert "it fails for" in bad.sentence
        assert "b → a (bias +0.09" in bad.sentence
        narrow = transfer.judge(transfer.compute(self.cells(width=0.05), n_boot=50))
        assert not narrow.passed
        many = transfer.judge(transfer.compute(self.cells("abcd", bias=0.1), n_boot=10))
        assert "and 9 more" in many.sentence
        assert transfer.judge(transfer.compute(self.cells()[:1], n_boot=10)).kind == "not tested"

    def test_holes_and_rows_that_are_no_columns(self):
        cells = [*self.cells()[:3], labelled("a+b", "c", seed=9)]
        result = transfer.compute(cells, n_boot=5)
        assert result.train == ("a", "b", "a+b")
        assert result.test == ("a", "b", "c")
        assert np.isnan(result.values["rmse"][0][1, 1])
        assert len(result.to_table()) == 4
        transfer.judge(result)
        axes = transfer.draw(result)
        assert len(axes) == len(transfer.PANELS)
        assert all(len(ax.texts) == 4 for ax in axes)

    def test_refusals(self):
        cells = self.cells()
        with pytest.raises(DataError, match="twice"):
            transfer.compute([*cells, cells[0]])
        with pytest.raises(DataError, match="no scores of model"):
            transfer.compute(cells, model="mlp")
        with pytest.raises(DataError, match="targets"):
            transfer.compute([cells[0], replace(cells[1], target="age")])

    @pytest.mark.parametrize("names", ["ab", "abc", "abcdef"])
    def test_numbers_in_cells_stay_inside_their_cells(self, names):
        result = transfer.compute(self.cells(names, bias=0.05), n_boot=5)
        axes = transfer.draw(result)
        figure = figure_of(axes)
        figure.canvas.draw()
        assert axes[0].texts[0].get_text() == (
            f"{result.values['bias_median'][0][0, 0]:+.3f}\n±{result.values['bias_median'][1][0, 0]:.3f}"
        )
        for ax in axes:
            cell = ax.get_window_extent().width / len(names)
            assert all(text.get_window_extent().width <= 0.98 * cell for text in ax.texts)


def test_more_boxes_than_colours_have_their_names_beside_them():
    """A colour that comes twice would name two models."""
    cells = [labelled("a", "b", f"model {k}", seed=k) for k in range(7)]
    ax = boxes.draw(boxes.compute(cells, n_boot=5))
    assert [text.get_text() for text in ax.texts] == [cell.model for cell in cells]
    assert ax.get_legend() is None
    assert boxes.draw(boxes.compute(cells[:6], n_boot=5)).get_legend() is not None


def test_boxes():
    cells = [
        labelled(a, b, m, bias=0.05 * (a != b), seed=i)
        for i, m in enumerate(("cnn", "mlp"))
        for a in "ab"
        for b in "ab"
    ]
    result = boxes.compute(cells, n_boot=20)
    np.testing.assert_allclose(
        result.percentiles[3], np.percentile(cells[3].mean - cells[3].truth, boxes.QUANTILES), atol=1e-12
    )
    verdict = boxes.judge(result)
    assert verdict.sentence.startswith("Across domains the best is")
    ax = boxes.draw(result)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a → a", "a → b", "b → a", "b → b"]
    assert len(ax.patches) == len(cells)
    box = ax.patches[0]
    assert (box.get_x(), box.get_x() + box.get_width()) == pytest.approx(
        (result.percentiles[0, 2], result.percentiles[0, 4])
    )
    assert "whiskers 5-95 %" in ax.get_legend().get_title().get_text()
    assert len(result.to_table()) == 8
    assert boxes.judge(boxes.compute(cells[:1], n_boot=5)).sentence.startswith("Within domains")
    for bad in ([], [cells[0], replace(cells[1], target="age")]):
        with pytest.raises(DataError):
            boxes.compute(bad)


def test_corner():
    parts = [("A", catalogue(2000)), ("B", catalogue(1500, 1, age=7.5))]
    result = inputs.compute(parts, ["mstar", "age"])
    assert result.names == ("mstar", "age", "f_ex")
    assert result.n == (2000, 1500)
    verdict = inputs.judge(result)
    assert "differ most in age" in verdict.sentence
    assert "follows mstar" in verdict.sentence
    assert result.distance[1] == pytest.approx(0.38, abs=0.06)
    axes = inputs.draw(result)
    assert axes[0, 1] is None
    assert "Gyr" in axes[2, 1].get_xlabel()
    assert "M_\\odot" in axes[2, 0].get_xlabel()
    legend = figure_of(axes[0, 0]).legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["A (2000)", "B (1500)"]
    assert len({handle.get_edgecolor() for handle in legend.legend_handles}) == 2
    assert len(result.to_table()) == 6
    assert inputs.judge(inputs.compute(parts[:1], ["age"])).passed
    for bad in (lambda: inputs.compute([], ["age"]), lambda: inputs.compute([("A", catalogue(0))], ["age"])):
        with pytest.raises(DataError):
            bad()
    with pytest.raises(ConfigError):
        inputs.compute(parts, [])


def test_contours_hold_the_fractions_they_claim():
    x, y = np.meshgrid(np.linspace(-5, 5, 201), np.linspace(-5, 5, 201))
    plane = np.exp(-0.5 * (x**2 + y**2))
    outer, inner = inputs.contour_levels(plane, (0.8647, 0.3935))
    assert outer == pytest.approx(np.exp(-2), rel=0.03)
    assert inner == pytest.approx(np.exp(-0.5), rel=0.03)


def test_balance_counts_latest_snapshot_and_all():
    one, two = catalogue(1000), catalogue(500, 2, latest=28)
    result = balance.compute([("A", one), ("B", two)])
    assert result.after.sum(axis=1).tolist() == [1000, 500]
    assert result.before[1].sum() == (two["snapshot"] == 28).sum()
    assert result.high_before[0][0] < result.high_after[0][0]
    assert "A:" in balance.judge(result).sentence
    ax = balance.draw(result)
    assert len(ax.get_legend().get_texts()) == 4
    np.testing.assert_array_equal(ax.patches[1].get_data().values, result.after[0])
    assert len(result.to_table()) == 40
    plain = Catalogue({"f_ex": np.array([0.1, 0.9])}, np.arange(2), "a")
    assert balance.compute([("A", plain)]).before.sum() == 2
    with pytest.raises(DataError):
        balance.compute([])
    with pytest.raises(DataError):
        balance.compute([("A", catalogue(0))])
