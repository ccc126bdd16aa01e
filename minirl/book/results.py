"""What the reproductions measured, from chapters/results/<slug>.json: `claims` as a table, `curves` as a picture."""

import html

import matplotlib.pyplot as plt
import numpy as np

from minirl.book.plots import INK, RULE, Shown, figure, framed, series

POINTS = 200  # a curve of more is thinned: the eye cannot tell, the bootstrap can
RESAMPLES = 2000
VERDICTS = {  # icon and colour; the word is always there as well
    "reproduced": ("✓", "#116329"),
    "not reproduced": ("✗", "#a40e26"),
    "cannot be shown here": ("–", "#57606a"),
}

CELL = (
    f"padding:8px 14px 8px 0;vertical-align:top;text-align:left;border:0;border-bottom:1px solid {RULE};"
    f"background:#fff;color:{INK}"
)


def claims(slug):
    """The paper's claims, its numbers, ours, and the verdicts; make it the last line of a cell.

    ValueError naming the file and the command that makes it when there are no (intact) results.
    """
    from minirl.reproduce import load  # here, so that pages without results do not pay for it

    rows = load(slug)["claims"]
    names = ("Claim", "The paper", "Ours", "Verdict", "Comment")
    head = "".join(f'<th scope="col" style="{CELL};font-weight:600;white-space:nowrap">{name}</th>' for name in names)
    table = (
        f'<table style="border-collapse:collapse;width:100%;font-size:.9rem;line-height:1.45;margin:0;background:#fff">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(map(table_row, rows))}</tbody></table>"
    )
    # On a narrow screen the table scrolls sideways, and what scrolls must be reachable by keyboard: hence tabindex.
    page = framed("claims", table, 'role="region" aria-label="Claims and verdicts" tabindex="0"', "overflow-x:auto")
    return Shown(page, "\n".join(map(plain_row, rows)))


def table_row(row):
    icon, colour = VERDICTS[row["verdict"]]
    claim = html.escape(f"{row['id']}. {row['claim']}")
    verdict = f'<span aria-hidden="true">{icon}</span> {row["verdict"]}'
    return (
        f'<tr><th scope="row" style="{CELL};font-weight:400">{claim}</th>'
        f'<td style="{CELL}">{html.escape(row["paper"])}</td>'
        f'<td style="{CELL}">{html.escape(ours_text(row))}</td>'
        f'<td style="{CELL};font-weight:600;color:{colour}">{verdict}</td>'
        f'<td style="{CELL}">{html.escape(row["comment"])}</td></tr>'
    )


def ours_text(row):
    """Our number with its interval and the number of seeds."""
    text = row["ours"]
    if row["interval"] is not None:
        low, high = row["interval"]
        text += f" (95 % interval {low:.4g} to {high:.4g})".replace("-", "−").replace("95 %", "95\u00a0%")
    return f"{text}, {row['n']} seed{'s' if row['n'] != 1 else ''}" if row["n"] else text


def plain_row(row):
    line = f"{row['id']}. {row['claim']} | paper: {row['paper']} | ours: {ours_text(row)}"
    return f"{line} | {row['verdict']}. {row['comment']}"


def curves(slug, metric="return", arms=None, ylabel=None, xlabel="environment steps", alt=None):
    """Mean over seeds of one stored curve, with a 95 % bootstrap interval, a line for each arm.

    slug    whose results
    metric  name of the curve
    arms    names of arms, or {arm: label for the legend}; all arms that have this curve by default
    ylabel  label of the axis, with unit; the name of the metric by default
    alt     alt text; by default it says where each arm ends

    From five seeds on the interquartile mean replaces the mean (https://arxiv.org/abs/2108.13264).
    ValueError when there are no such results, arms or curves.
    """
    from minirl.reproduce import load

    runs = load(slug)["runs"]
    labels = arm_labels(runs, metric, arms)
    fig, ax = plt.subplots()
    ends = []
    for i, (arm, label) in enumerate(labels.items()):
        x, seeds = align([run["curves"][metric] for run in runs if run["arm"] == arm and metric in run["curves"]])
        middle, low, high = interval(seeds)
        ax.plot(x, middle, label=label, **series(i))
        ax.fill_between(x, low, high, color=series(i)["color"], alpha=0.18, linewidth=0)
        ends.append(f"{label} ends at {middle[-1]:.4g} (interval {low[-1]:.4g} to {high[-1]:.4g}, {len(seeds)} seeds)")
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel or metric)
    ax.margins(x=0.01)
    fig.legend(loc="outside upper center", ncols=min(len(labels), 4), frameon=False)
    what = f"{ylabel or metric} against {xlabel}, {centre_name(len(seeds))} over seeds with 95 % intervals"
    return figure(fig, alt or f"{what}: {'; '.join(ends)}.")


def arm_labels(runs, metric, arms):
    """{arm: label}, checked against the stored runs."""
    stored = list(dict.fromkeys(run["arm"] for run in runs if metric in run["curves"]))
    if not stored:
        known = sorted({name for run in runs for name in run["curves"]})
        raise ValueError(f"no run has a curve {metric!r}; there are {', '.join(known) or 'none'}")
    labels = arms if isinstance(arms, dict) else {arm: arm for arm in arms or stored}
    for arm in labels:
        if arm not in stored:
            raise ValueError(f"no arm {arm!r} with a curve {metric!r}; there are {', '.join(stored)}")
    return labels


def align(curves):
    """Curves [[x, y], ...] of S seeds -> x (P,), y (S, P): linear between measurements, where all seeds have some."""
    points = [np.array(sorted(curve), float) for curve in curves]
    low, high = max(p[0, 0] for p in points), min(p[-1, 0] for p in points)
    if low > high:
        raise ValueError("the curves of these seeds have no step in common")
    x = np.unique(np.concatenate([p[:, 0] for p in points]))
    x = x[(x >= low) & (x <= high)]
    if len(x) > POINTS:
        x = x[np.linspace(0, len(x) - 1, POINTS).round().astype(int)]
    return x, np.stack([np.interp(x, p[:, 0], p[:, 1]) for p in points])


def centre_name(n):
    return "interquartile mean" if n >= 5 else "mean"


def centre(values, axis=0):
    """Interquartile mean over `axis` from five seeds on, mean below that."""
    from scipy.stats import trim_mean  # scipy.stats alone takes a second to import

    return trim_mean(values, 0.25, axis=axis) if values.shape[axis] >= 5 else values.mean(axis=axis)


def interval(values):
    """values (S, P) of S seeds -> (centre, low, high), each (P,): 95 % percentile bootstrap over seeds.

    One seed has no interval: all three are its curve.
    """
    middle = centre(values)
    if len(values) == 1:
        return middle, middle, middle
    from scipy.stats import bootstrap

    # Percentile, not BCa: where all seeds agree, as at the optimum of a small problem, BCa divides by zero.
    found = bootstrap(
        (values,), centre, axis=0, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    )
    return middle, found.confidence_interval.low, found.confidence_interval.high
