"""A reader's first questions: each test's own numbers, ranks whose differences are told, sentences, one figure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from known import gaussian, universe

from galineage.errors import ConfigError, DataError
from galineage.evaluation import accuracy, answers, figure_of

MODELS = {"good": 0.06, "same": 0.06, "poor": 0.14}


def scored(model, train, test, *, noise, bias=0.0, factor=1.0, galaxies=300, views=1, shift=True):
    """Posteriors of the galaxies of a domain, the same galaxies whichever model looks at them."""
    rng = np.random.default_rng(len(test) + ord(test[0]))
    centre, mstar = universe(galaxies, rng)
    common = rng.standard_normal(galaxies)
    own = np.random.default_rng(sum(map(ord, model + train + test)))
    truth = centre + 0.05 * rng.standard_normal(galaxies)
    error = noise * (0.9 * common + 0.44 * own.standard_normal(galaxies))
    rows = np.repeat(np.arange(galaxies), views)
    made = gaussian(
        truth[rows], (truth + bias + error)[rows], factor * noise, mstar[rows], rng, model=model, train=train, test=test
    )
    ids = rows.astype(str)
    if not shift:
        return replace(made, ids=ids, shift=None)
    # those with the largest errors are flagged
    return replace(made, ids=ids, shift=np.abs(error[rows]) / np.quantile(np.abs(error), 0.93))


@pytest.fixture(scope="module")
def cases():
    found = []
    for model, noise in MODELS.items():
        for train in ("a", "b"):
            for test in ("a", "b"):
                crossed = train != test
                found.append(
                    scored(
                        model, train, test, noise=noise * (1.5 if crossed else 1),
                        bias=0.04 * (model == "poor") * crossed, factor=0.6 if crossed else 1, views=3,
                    )
                )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def found(cases):
    return answers.compute(cases, n_boot=100, seed=1)


def test_numbers_are_those_of_each_test_alone(cases, found):
    for item, mine in zip(cases, found.tests, strict=True):
        alone = accuracy.compute(item, n_boot=5).values
        for name, theirs in (
            ("bias", "bias_p50"),
            *((name, name) for name in ("rmse", "r2", "coverage68", "coverage95")),
        ):
            assert mine.values[name][0] == pytest.approx(alone[theirs][0])
        assert (mine.rows, mine.galaxies) == (900, 300)
        out = item.shift > 1
        assert mine.values["flagged"][0] == pytest.approx(out.mean())
        assert mine.values["rmse_flagged"][0] == pytest.approx(np.sqrt(((item.mean - item.truth)[out] ** 2).mean()))


def test_errors_are_of_galaxies_not_of_views(found, cases):
    single = [item.select(np.arange(0, len(item), 3)) for item in cases]
    plain = answers.compute(single, n_boot=100, seed=1)
    naive = answers.compute([replace(item, ids=np.arange(len(item)).astype(str)) for item in cases], n_boot=100, seed=1)
    errors = [np.mean([item.values["rmse"][1] for item in result.tests]) for result in (plain, found, naive)]
    assert errors[1] == pytest.approx(errors[0], rel=0.15)
    assert errors[2] == pytest.approx(errors[0] / 3**0.5, rel=0.15)


def test_crossing_is_compared_with_training_at_home(found):
    for item in found.tests:
        value, error = item.values["worse"]
        if item.within:
            assert (value, error) == (1.0, 0.0)
        else:
            home = next(other for other in found.of(item.model, within=True) if other.test == item.test)
            assert value == pytest.approx(item.values["rmse"][0] / home.values["rmse"][0])
            # the same galaxies in both: less than of independent errors
            assert 0 < error < value * np.hypot(item.values["rmse"][1], home.values["rmse"][1]) / home.values["rmse"][0]
            low, high = item.between["worse"]
            assert low < value < high


def test_ranks_tell_what_the_same_galaxies_can_tell(found):
    assert found.ranked[-1] == "poor"
    assert set(found.level) == set(found.unbiased) == {"good", "same"}
    assert found.behind[0] == found.behind_error[0] == 0
    rms = np.sqrt(np.mean([item.values["rmse"][0] ** 2 for item in found.of("poor", within=False)]))
    assert found.error[-1] == pytest.approx(rms)
    size = np.mean([abs(item.values["bias"][0]) for item in found.of("poor", within=False)])
    assert found.offset[-1] == pytest.approx(size)


def test_the_order_of_the_rows_does_not_matter(cases, found):
    rng = np.random.default_rng(0)
    shuffled = [cases[0], *(item.select(rng.permutation(len(item))) for item in cases[1:])]
    again = answers.compute(shuffled, n_boot=100, seed=1)
    np.testing.assert_allclose(again.behind_error, found.behind_error)


def test_table_holds_every_number(found):
    table = found.to_table()
    assert len(table) == 12
    assert list(table["rank"]) == sorted(table["rank"])
    assert all(table[name].description for name in table.colnames)
    assert {f"{name}_error" for name in answers.METRICS} <= set(table.colnames)
    assert table.meta["main"] == "good"


def test_each_question_has_its_sentence(found):
    verdicts = answers.judge(found)
    assert [verdict.kind.partition(":")[0] for verdict in verdicts] == [
        "inside",
        "across",
        "inputs",
        "error bars",
        "flags",
    ]
    inside, across, inputs, bars, flags = verdicts
    assert inside.passed
    assert "900 views of 300 galaxies" in inside.sentence
    assert not across.passed
    assert across.kind == "across: larger errors"
    assert "times that of training on b itself" in across.sentence
    assert inputs.passed
    assert inputs.sentence.startswith("Best across: “")
    assert "“poor”" in inputs.sentence
    assert not bars.passed
    assert "too narrow in a → b and b → a" in bars.sentence
    assert "6 of 6 tests inside and in 0 of 6 tests across" in bars.sentence
    assert flags.passed
    assert "Flagged views of “good” have the larger errors in a → b and b → a" in flags.sentence


def test_another_model_can_come_first(cases):
    verdicts = answers.judge(answers.compute(cases, main="poor", n_boot=50))
    assert verdicts[1].kind == "across: larger errors and a bias"
    with pytest.raises(ConfigError, match="no test of 'cnn'"):
        answers.compute(cases, main="cnn", n_boot=5)


def test_questions_that_cannot_be_answered_are_left_out():
    one = answers.compute([scored("m", "a", "a", noise=0.06, shift=False)], n_boot=30)
    assert [verdict.kind.partition(":")[0] for verdict in answers.judge(one)] == ["inside", "error bars"]
    assert not one.crossed
    assert len(answers.draw(one)) == 3
    other = answers.compute([scored("m", "a", "b", noise=0.06, shift=False)], n_boot=30)
    assert answers.judge(other)[0].kind.startswith("across")
    assert np.isnan(other.tests[0].values["worse"][0])
    assert "times" not in answers.judge(other)[0].sentence


def test_nothing_lost_passes_and_the_mean_does_not():
    same = [scored("m", train, "a", noise=0.06) for train in ("a", "b")]
    verdicts = answers.judge(answers.compute(same, n_boot=200))
    assert verdicts[1].passed
    assert "costs “m” nothing that can be seen" in verdicts[1].sentence
    flat = replace(same[0], mean=np.full(300, same[0].truth.mean()))
    assert answers.judge(answers.compute([flat], n_boot=50))[0].kind == "inside: poor"
    few = answers.judge(answers.compute([same[0].select(np.arange(8))], n_boot=50))[0]
    assert few.kind == "inside: too few"


def test_flags_on_the_wrong_galaxies_do_not_pass():
    item = scored("m", "a", "b", noise=0.06)
    wrong = replace(item, shift=1 / np.maximum(item.shift * 7, 1e-3))
    verdict = answers.judge(answers.compute([wrong], n_boot=100))[-1]
    assert verdict.kind == "flags: smaller errors"
    assert not verdict.passed
    none = replace(item, shift=np.full(len(item), 0.5))
    verdict = answers.judge(answers.compute([none], n_boot=50))[-1]
    assert "0 % are flagged" in verdict.sentence
    assert not verdict.passed


def test_the_figure_shows_every_number_once(found, tmp_path):
    axes = answers.draw(found)
    assert [ax.get_title() for ax in axes] == ["How wrong?", "Biased?", "Error bars right?", "Whom not to trust?"]
    assert all(ax.get_xlabel() for ax in axes)
    assert [text.get_text() for text in axes[0].get_yticklabels()] == list(found.ranked)
    for ax, name in zip(axes, ("rmse", "bias"), strict=False):
        drawn = [float(line.get_xdata()[0]) for line in ax.get_lines() if len(line.get_xdata()) == 1]
        assert sorted(drawn) == pytest.approx(sorted(item.values[name][0] for item in found.tests))
    assert len(axes[3].texts) == 6
    figure = figure_of(axes)
    assert figure.get_figwidth() == 11.5
    figure.savefig(tmp_path / "f.png")


def test_what_cannot_be_compared_is_refused(cases):
    with pytest.raises(DataError, match="0 tests"):
        answers.compute([])
    with pytest.raises(DataError, match="two tests of 'good'"):
        answers.compute([cases[0], cases[0]])
    with pytest.raises(DataError, match="different targets"):
        answers.compute([cases[0], replace(cases[1], target="mstar")])
    with pytest.raises(DataError, match="no galaxies"):
        answers.compute([cases[0].select([])])
    with pytest.raises(DataError, match="no test across"):
        answers.compute([cases[1], scored("other", "a", "a", noise=0.1)], n_boot=5)
