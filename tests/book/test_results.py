"""`claims` and `curves` against results made up here."""

import sys
import types

import numpy as np
import pytest
from page_reader import Parsed
from scipy.stats import bootstrap, trim_mean

from minirl.book import claims, curves, results


def run(arm, seed, curve):
    return {"arm": arm, "seed": seed, "cpu_s": 1.0, "curves": {"return": curve}, "metrics": {}}


def claim(k, verdict, **values):
    base = {
        "id": f"C{k}",
        "claim": "x < y",
        "paper": "3.1 (Table 2)",
        "ours": "2.9",
        "value": 2.9,
        "comment": "why & how",
    }
    return base | {"interval": [-2.5, 3.25], "n": 5, "verdict": verdict} | values


@pytest.fixture
def stored(monkeypatch):
    record = {"runs": [], "claims": []}
    reproduce = types.ModuleType("minirl.reproduce")
    reproduce.load = lambda slug: record
    monkeypatch.setitem(sys.modules, "minirl.reproduce", reproduce)
    return record


def test_the_table_holds_every_field(stored):
    stored["claims"] = [
        claim(1, "reproduced"),
        claim(2, "not reproduced", n=1, interval=None),
        claim(3, "cannot be shown here", ours="not run", value=None, interval=None, n=0),
    ]
    shown = claims("sac")
    parsed = Parsed(shown.page)
    cells = [text for attrs, text in parsed.all("td")]
    heads = [text for attrs, text in parsed.all("th") if attrs["scope"] == "row"]
    assert heads == ["C1. x < y", "C2. x < y", "C3. x < y"]
    assert cells == [
        *("3.1 (Table 2)", "2.9 (95\u00a0% interval −2.5 to 3.25), 5 seeds", "✓ reproduced", "why & how"),
        *("3.1 (Table 2)", "2.9, 1 seed", "✗ not reproduced", "why & how"),
        *("3.1 (Table 2)", "not run", "– cannot be shown here", "why & how"),
    ]
    assert shown.text.count("\n") == 2
    # What can scroll sideways can be reached by keyboard.
    assert any(attrs.get("tabindex") == "0" and "overflow-x:auto" in attrs["style"] for attrs, _ in parsed.all("div"))


def test_missing_results_say_so():
    """The real loader's message passes through."""
    pytest.importorskip("minirl.reproduce")
    with pytest.raises(ValueError, match="minirl reproduce no_such_paper"):
        claims("no_such_paper")


@pytest.mark.parametrize("seeds", [2, 4, 5, 7])
def test_centre_and_interval_are_scipys(seeds):
    values = np.random.default_rng(seeds).normal(size=(seeds, 6)).cumsum(axis=1)
    middle, low, high = results.interval(values)
    statistic = (lambda x, axis: trim_mean(x, 0.25, axis=axis)) if seeds >= 5 else np.mean
    direct = bootstrap(
        (values,), statistic, axis=0, n_resamples=2000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    np.testing.assert_allclose(middle, statistic(values, axis=0))
    np.testing.assert_allclose(low, direct.low)
    np.testing.assert_allclose(high, direct.high)


def test_interquartile_mean_drops_a_quarter_at_each_end():
    assert results.centre(np.array([-1000.0, 1, 2, 3, 1000])) == 2
    assert results.centre(np.array([1.0, 2, 3, 1000])) == 251.5


def test_agreeing_seeds_have_no_width(recwarn):
    middle, low, high = results.interval(np.ones((5, 3)))
    assert np.array_equal(low, middle)
    assert np.array_equal(high, middle)
    assert not recwarn.list


def test_a_single_seed_has_no_interval():
    y = np.array([[1.0, 5.0]])
    assert all(np.array_equal(part, y[0]) for part in results.interval(y))


def test_seeds_are_aligned_where_all_have_measurements():
    x, y = results.align([[[0, 0], [10, 10], [20, 20]], [[20, 40], [5, 10]]])  # unsorted, later start, steeper
    assert x.tolist() == [5, 10, 20]
    np.testing.assert_allclose(y, [[5, 10, 20], [10, 20, 40]])
    with pytest.raises(ValueError, match="no step in common"):
        results.align([[[0, 0], [1, 1]], [[2, 0], [3, 1]]])


def test_long_curves_are_thinned_but_keep_their_ends():
    x, y = results.align([[[k, k * k] for k in range(5001)]])
    assert len(x) == results.POINTS
    assert (x[0], x[-1], y[0, -1]) == (0, 5000, 5000**2)
    assert np.array_equal(y[0], x**2)


def test_alt_text_says_where_the_arms_end(stored):
    stored["runs"] = [run(arm, s, [[0, 0], [10, top + s]]) for arm, top in (("a", 10), ("b", 20)) for s in range(5)]
    shown = curves("sac", ylabel="return per episode", arms={"b": "Bee"})
    alt = Parsed(shown.page).all("img")[0][0]["alt"]
    assert alt.startswith(
        "return per episode against environment steps, interquartile mean over seeds with 95 % intervals"
    )
    assert "Bee ends at 22 (interval " in alt
    assert "5 seeds" in alt
    assert " a ends" not in alt
    both = curves("sac")
    assert all(f"{arm} ends at" in both.text for arm in "ab")


def test_unknown_arms_and_curves_are_named(stored):
    stored["runs"] = [run("a", 0, [[0, 0], [1, 1]])]
    with pytest.raises(ValueError, match="no run has a curve 'retrun'; there are return"):
        curves("sac", metric="retrun")
    with pytest.raises(ValueError, match="no arm 'b' with a curve 'return'; there are a"):
        curves("sac", arms=["b"])
