"""Lesson 2. The linear unit: what will she earn? Supervised learning, gradient descent, and learning without answers.

    python examples/primer/lesson2_salary.py
    python examples/primer/lesson2_salary.py --table people.csv        a table of yours: a header, the last column is to be told

A linear unit is a perceptron without the step: y = w x + b, any number. We invent sixty people of three trades; a
salary is a starting pay of the trade, plus something for every year of work, plus luck.

Supervised    we are told the salary t of each and want to tell it for others. How wrong we are is
              E = 1/2 sum (y - t)^2. Its gradient says how E grows with each weight, so we walk the other way:
                  dE/dw = sum (y - t) x        w <- w - rate dE/dw
Unsupervised  nobody says which column is the answer, nor who has which trade. What can be learned is how the people
              fall into groups.
"""

from __future__ import annotations

import csv
from pathlib import Path

import chart
import numpy as np
from lesson import begin
from neuron import Array, squared_error

TRADES = ("baker", "nurse", "programmer")
START = np.array([24.0, 33.0, 43.0])  # thousand a year
PER_YEAR = 0.9
SCALE = tuple[Array, Array]


def people(seed: int = 2) -> tuple[Array, Array, Array]:
    """Years of work [60], trade [60] as 0, 1 or 2, and salary [60] in thousands."""
    rng = np.random.default_rng(seed)
    trade = np.repeat(np.arange(3), 20)
    years = rng.uniform(0, 30, 60).round(1)
    return years, trade, START[trade] + PER_YEAR * years + rng.normal(0, 1.5, 60)


# ---- supervised


def gradient(x: Array, t: Array, w: Array, b: float) -> tuple[float, Array, float]:
    """E, dE/dw and dE/db for x [N, d], t [N], w [d]."""
    error, dy = squared_error(x @ w + b, t)
    return error, dy @ x, dy.sum()


def descend(x: Array, t: Array, rate: float, steps: int) -> tuple[Array, Array]:
    """The way downhill from zero: (w, b) [steps + 1, d + 1], and E [steps + 1] at each place."""
    way, errors = np.zeros((steps + 1, x.shape[1] + 1)), np.zeros(steps + 1)
    for i in range(steps + 1):
        errors[i], dw, db = gradient(x, t, way[i, :-1], way[i, -1])
        if i < steps:
            way[i + 1] = way[i] - rate * np.append(dw, db)
    return way, errors


def least_squares(x: Array, t: Array) -> Array:
    """The lowest point of E at once: (w, b) [d + 1]. The judge of the walk."""
    return np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), t, rcond=None)[0]


def fastest_rate(x: Array) -> float:
    """E is a bowl. Above 2 / (its largest curvature) each step lands higher on the other side. One over that curvature is safe."""
    a = np.column_stack([x, np.ones(len(x))])
    return 1 / np.linalg.eigvalsh(a.T @ a)[-1]


def normalised(x: Array) -> tuple[Array, SCALE]:
    """Every column with mean 0 and standard deviation 1, and (mean, deviation) to do the same to newcomers."""
    mean, deviation = x.mean(0), x.std(0)
    deviation = np.where(deviation > 0, deviation, 1)
    return (x - mean) / deviation, (mean, deviation)


def back_to_units(wb: Array, scale: SCALE) -> Array:
    """(w, b) for raw columns, from those for normalised ones."""
    w = wb[:-1] / scale[1]
    return np.append(w, wb[-1] - w @ scale[0])


def one_hot(trade: Array) -> Array:
    """A trade is no number: nurse is not baker + 1. Each gets a column of its own; the first goes without, it is where b starts."""
    return (trade[:, None] == np.arange(1, 3)).astype(float)


# ---- unsupervised


def competing_lines(points: Array, k: int, seed: int = 0, starts: int = 20) -> tuple[Array, Array]:
    """k linear units compete for points [N, 2]: (slope, base) [k, 2], and which unit each point belongs to [N].

    Like k-means, with lines for means: everybody goes to the nearest line, every line is fitted to its own, until nobody
    moves. What comes out depends on the start, so it starts often and keeps the best.
    """
    rng = np.random.default_rng(seed)
    x, y = points.T
    best: tuple[float, Array, Array] = (np.inf, np.zeros((k, 2)), np.zeros(len(x), int))
    for _ in range(starts):
        lines = np.column_stack([np.zeros(k), rng.choice(y, k, replace=False)])
        for _ in range(50):
            distance = (lines[:, :1] * x + lines[:, 1:] - y) ** 2  # [k, N]
            belongs = distance.argmin(0)
            new = [
                least_squares(x[belongs == i][:, None], y[belongs == i]) if (belongs == i).sum() > 1 else lines[i] for i in range(k)
            ]
            if np.allclose(new, lines):
                break
            lines = np.array(new)
        best = min(best, (distance.min(0).sum(), lines, belongs), key=lambda found: found[0])
    order = best[1][:, 1].argsort()  # lowest base first
    return best[1][order], order.argsort()[best[2]]


# ---- the lecture


def main(out: Path) -> None:
    years, trade, salary = people()
    alone, both = years[:, None], np.column_stack([years, one_hot(trade)])

    print("\nSupervised. Sixty people, salaries known.")
    fits = {}
    for name, x in (("years alone", alone), ("years and trade", both)):
        scaled, scale = normalised(x)
        way, errors = descend(scaled, salary, fastest_rate(scaled), 200)
        fits[name] = back_to_units(way[-1], scale)
        print(f"  {name:15}  E = {errors[-1]:6.1f} after 200 steps, off by {np.sqrt(2 * errors[-1] / 60):.1f} thousand (RMS)")
    slope, nurse, programmer, base = fits["years and trade"]
    starts = zip(TRADES, (base, base + nurse, base + programmer))
    print("  it says: " + ", ".join(f"a {trade} starts with {start:.1f}" for trade, start in starts))
    print(f"  and every year adds {slope:.2f}. We had put in {START[0]:.0f}, {START[1]:.0f}, {START[2]:.0f} and {PER_YEAR}.")

    print("\nUnsupervised. The same people, two numbers for each; nobody says who has which trade.")
    lines, belongs = competing_lines(np.column_stack([years, salary]), 3)
    for line, count in zip(lines, np.bincount(belongs, minlength=3)):
        print(f"  a group of {count}: {line[1]:.1f} and {line[0]:.2f} for every year")
    lost = belongs != trade
    print(f"  {60 - lost.sum()} of 60 stand in the group of their trade. That the groups are trades, it cannot know.")

    draw_fits(out, (years, trade, salary), fits, lines, belongs, lost)
    draw_descent(out, alone, salary)


def draw_fits(
    out: Path, data: tuple[Array, Array, Array], fits: dict[str, Array], lines: Array, belongs: Array, lost: Array
) -> None:
    years, trade, salary = data
    ends = np.array([0.0, 30.0])
    hues = (chart.ORANGE, chart.BLUE, chart.GREEN)

    def axes(title: str) -> chart.Chart:
        return chart.Chart((0, 30), (10, 75), width=300, height=300, title=title, across="years of work", up="salary in thousands")

    one = axes("told: years, salary")
    one.dots(years, salary, chart.GREY)
    w, b = fits["years alone"]
    one.line(ends, w * ends + b, chart.INK)
    two = axes("told: years, trade, salary")
    for i, start in enumerate((0, *fits["years and trade"][1:3])):
        two.dots(years[trade == i], salary[trade == i], hues[i], name=TRADES[i])
        two.line(ends, fits["years and trade"][0] * ends + fits["years and trade"][3] + start, hues[i])
    three = axes("told nothing: groups")
    for i, line in enumerate(lines):
        three.dots(years[belongs == i], salary[belongs == i], chart.HUES[i + 2])
        three.line(ends, line[0] * ends + line[1], chart.HUES[i + 2], dashes=7)
    three.dots(years[lost], salary[lost], chart.INK, radius=7, shape="ring")
    chart.save(chart.beside(one.picture(), two.picture("lower right"), three.picture()), out / "salary.png")


def draw_descent(out: Path, x: Array, t: Array) -> None:
    """The same bowl in raw years (a ravine) and in normalised ones (round), and E for rates that crawl, walk and fly off."""
    panels = []
    scaled, _ = normalised(x)
    for title, a, spans in (
        ("60 steps, years as they are", x, ((-1, 5), (-10, 60))),
        ("60 steps, normalised", scaled, ((-35, 90), (-5, 90))),
    ):
        plane = chart.Chart(*spans, width=300, height=300, title=title, across="weight", up="bias")
        wb = plane.mesh(90).reshape(-1, 2)
        height = np.log10((0.5 * (wb[:, :1] * a[:, 0] + wb[:, 1:] - t) ** 2).sum(1)).reshape(90, 90)
        bands = np.floor((height - height.min()) / (height.max() - height.min()) * 11.99) / 12
        plane.ground(
            np.rint(np.array(chart.tint(chart.BLUE, 0.7)) * (1 - bands[..., None]) + 250 * bands[..., None]).astype(np.uint8)
        )
        way, _ = descend(a, t, 1.6 * fastest_rate(a), 60)
        plane.line(*way.T, chart.RED, width=1.5)
        plane.dots(*way.T, chart.RED, radius=2.5)
        plane.dots(*least_squares(a, t)[:, None], chart.INK, radius=6, shape="cross")
        panels.append(plane.picture())
    learning = chart.Chart(
        (0, 30),
        (3, 6),
        width=300,
        height=300,
        title="too slow, right, too fast",
        across="step",
        up="error E",
        y_ticks={p: f"{10**p:,}" for p in (3, 4, 5, 6)},
    )
    for share, colour in ((0.1, chart.ORANGE), (1.0, chart.GREEN), (2.2, chart.RED)):
        _, errors = descend(scaled, t, share * fastest_rate(scaled), 30)
        learning.line(range(31), np.log10(errors), colour, name=f"rate {share:g} / curvature")
    print(f"\nrates above {2 * fastest_rate(x):.6f} fly off on raw years, above {2 * fastest_rate(scaled):.4f} on normalised ones")
    chart.save(chart.beside(*panels, learning.picture("upper right")), out / "descent.png")


# ---- a table of yours


def read_table(path: Path) -> tuple[list[str], Array, Array]:
    """Names of columns, x [N, d], t [N] from a CSV with a header. A column of words becomes one column a word but the first."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        header, *rows = [row for row in csv.reader(file) if row] or [[]]
    if len(rows) < 2 or len(header) < 2 or any(len(row) != len(header) for row in rows):
        raise SystemExit(f"{path}: needs a header of at least two columns and rows just as wide")
    names, columns = [], []
    for name, values in zip(header, zip(*rows)):
        try:
            names.append(name)
            columns.append([float(value) for value in values])
        except ValueError:
            names.pop()
            if name == header[-1]:
                raise SystemExit(f"{path}: the last column, {name}, is what is to be told and must be numbers") from None
            for word in sorted(set(values))[1:]:
                names.append(f"{name} {word}")
                columns.append([float(value == word) for value in values])
    table = np.array(columns).T
    return names, table[:, :-1], table[:, -1]


def learn_table(path: Path) -> None:
    names, x, t = read_table(path)
    scaled, scale = normalised(x)
    way, errors = descend(scaled, t, fastest_rate(scaled), 2000)
    best = back_to_units(least_squares(scaled, t), scale)
    print(f"{len(t)} rows; E = {errors[-1]:.6g}      learned   least squares")
    for name, learned, exact in zip([*names[:-1], "start"], back_to_units(way[-1], scale), best):
        print(f"  {name:24}{learned:12.5g}{exact:16.5g}")


if __name__ == "__main__":
    said = begin(__doc__, table="a CSV: header, numbers or words, the last column is to be told")
    if said.table:
        learn_table(said.table)
    else:
        main(said.out)
