"""The plots, made by the benchmark itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

SIZE = (8.0, 4.5)


def plot_latencies(path: Path, title: str, samples: Mapping[str, Sequence[float]]) -> None:
    """What share of the samples took longer than a time, both on logarithmic axes.

    Args:
        samples: seconds, by what took them.
    """
    figure = Figure(figsize=SIZE)
    axes = figure.subplots()
    for name, values in samples.items():
        ordered = sorted(values)
        shares = [1 - place / len(ordered) for place in range(len(ordered))]
        axes.plot([value * 1000 for value in ordered], shares, label=name)
    axes.set(title=title, xlabel="milliseconds", ylabel="share that took longer")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(LogFormatter())
    axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 1)))
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    _save(figure, path)


def plot_rate(
    path: Path,
    title: str,
    unit: str,
    seconds: Sequence[float],
    rates: Sequence[float],
    held: tuple[float, float],
    free: tuple[Sequence[float], Sequence[float]] | None,
) -> None:
    """A rate over time, with the stretch marked in which the snapshot was held.

    Args:
        free: the seconds and rates of the same without a snapshot, if that was measured.
    """
    figure = Figure(figsize=SIZE)
    axes = figure.subplots()
    axes.axvspan(*held, alpha=0.15, label="a snapshot is held")
    axes.plot(list(seconds), list(rates), label="with it")
    if free is not None:
        axes.plot(list(free[0]), list(free[1]), label="without one", alpha=0.6)
    axes.set(title=title, xlabel="seconds", ylabel=unit)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")
