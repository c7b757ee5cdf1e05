"""Spectra and overlap, drawn: by matplotlib where it is asked for, and in notebooks without it."""

import html
import math

_BLUE, _ORANGE, _GREY, _GREEN = "#3366aa", "#cc6622", "#999999", "#228855"


def _axes(ax):
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError("plot() draws with matplotlib, which is not installed: pip install matplotlib") from None
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    return ax


def plot_pairs(pairs, ax=None):
    ax = _axes(ax)
    values = pairs._result.eigenvalues.tolist()
    index = list(range(1, len(values) + 1))
    sizes = [abs(v) for v in values]
    trust = pairs.trust or ["value"] * len(values)
    certified = [t in ("pair", "cluster") for t in trust]
    for sign, color, label in ((1, _BLUE, "positive"), (-1, _ORANGE, "negative")):
        for sure in (True, False):
            at = [i for i, v in enumerate(values) if (v >= 0) == (sign > 0) and certified[i] == sure]
            if at:
                ax.plot([index[i] for i in at], [sizes[i] for i in at], "o", ms=4, color=color, mfc=color if sure else "none",
                        label=f"{label}, {'certified' if sure else 'not certified'}")
    enclosure = pairs.enclosure
    if enclosure is not None and len(values):
        low, high = (abs(column) for column in (enclosure[:, 0], enclosure[:, 1]))
        upper = [max(a, b) for a, b in zip(low.tolist(), high.tolist())]
        lower = [min(a, b) if v * w > 0 else 0 for a, b, v, w in zip(low.tolist(), high.tolist(), enclosure[:, 0].tolist(), enclosure[:, 1].tolist())]
        floor = min(size for size in sizes if size > 0) / 10 if any(sizes) else 1
        ax.vlines(index, [max(x, floor) for x in lower], [u if math.isfinite(u) else max(sizes) * 2 for u in upper], color=_GREY, lw=1, zorder=0,
                  label="enclosure")
    ax.set_yscale("log" if any(sizes) else "linear")
    ax.set_xlabel("place of the eigenvalue")
    ax.set_ylabel("|λ|")
    ax.set_title(pairs._summary().replace("; ", "\n", 1), fontsize=9, loc="left")
    if values:
        ax.legend(fontsize=8)
    return ax


def plot_overlap(curves, ax=None):
    ax = _axes(ax)
    k = list(range(1, len(curves) + 1))
    band = lambda low, high, color, label: ax.fill_between(k, low.clamp(min=1e-300).tolist(), high.tolist(), color=color, alpha=0.25, lw=0, label=label)
    ax.plot(k, curves.best.tolist(), color=_GREY, lw=1, ls=":", label="best mask")
    ax.plot(k, curves.chance.tolist(), color=_GREY, lw=1, label="chance, k/D")
    band(curves.by_layer_mean - 2 * curves.by_layer_std, curves.by_layer_mean + 2 * curves.by_layer_std, _ORANGE, None)
    ax.plot(k, curves.by_layer_mean.tolist(), color=_ORANGE, label="random, same count in each tensor")
    if curves.low is not None:
        band(curves.low, curves.high, _BLUE, "of the true eigenspaces")
    elif curves.spread is not None:
        spread = curves.spread.nan_to_num(0)
        band(curves.overlap - 2 * spread, curves.overlap + 2 * spread, _BLUE, "sketch's spread")
    ax.plot(k, curves.overlap.tolist(), color=_BLUE, label=f"largest by {curves.name}")
    ax.set_xscale("log")
    ax.set_yscale("log")
    floor = float(curves.chance.min()) / 3
    ax.set_ylim(bottom=floor, top=1.1)
    ax.set_xlabel("k, parameters in the mask and eigenvectors")
    ax.set_ylabel("overlap")
    ax.legend(fontsize=8)
    return ax


def _log_positions(values, size, low=None, high=None):
    logs = [math.log10(v) if v > 0 else None for v in values]
    known = [v for v in logs if v is not None]
    low = min(known, default=0) if low is None else low
    high = max(known, default=1) if high is None else high
    span = (high - low) or 1
    return [None if v is None else size - (v - low) / span * size for v in logs], low, high


def _svg(width, height, body, ticks):
    left, bottom = 52, 28
    marks = "".join(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" font-size="10" fill="currentColor">{html.escape(text)}</text>'
                    for y, text in ticks)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + left + 12}" height="{height + bottom + 12}" role="img" '
            f'style="max-width:100%">{marks}<g transform="translate({left},6)"><rect width="{width}" height="{height}" fill="none" '
            f'stroke="{_GREY}"/>{body}</g></svg>')


def pairs_html(pairs):
    """The spectrum, drawn, and the first pairs in a table."""
    width, height = 420, 160
    values = pairs._result.eigenvalues.tolist()
    sizes = [abs(v) for v in values]
    places, low, high = _log_positions(sizes, height - 12)
    trust = pairs.trust or ["value"] * len(values)
    dots = "".join(
        f'<circle cx="{(i + 0.5) / len(values) * width:.1f}" cy="{y + 6:.1f}" r="3" stroke="{_BLUE if v >= 0 else _ORANGE}" '
        f'fill="{(_BLUE if v >= 0 else _ORANGE) if t in ("pair", "cluster") else "none"}"/>'
        for i, (v, y, t) in enumerate(zip(values, places, trust)) if y is not None)
    body = dots + f'<text x="{width / 2}" y="{height + 20}" text-anchor="middle" font-size="11" fill="currentColor">place; |λ| on a logarithmic axis</text>'
    picture = _svg(width, height, body, [(12, f"{10**high:.2g}"), (height, f"{10**low:.2g}")]) if any(sizes) else ""
    rows = []
    residuals, angle = pairs._result.residuals, pairs._certificates["angle"]
    for i, value in enumerate(values[:10]):
        cells = [str(i + 1), f"{value:.8g}"]
        if residuals is not None:
            cells += [f"{float(residuals[i]):.2g}", trust[i], f"{float(angle[i]):.2g}" if trust[i] in ("pair", "cluster") else "–"]
        rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{name}</th>" for name in ["", "eigenvalue"] + (["±", "trust", "angle ≤"] if residuals is not None else []))
    more = f"<p>… and {len(values) - 10} more</p>" if len(values) > 10 else ""
    return f"<div><p>{html.escape(pairs._summary())}</p>{picture}<table><tr>{head}</tr>{''.join(rows)}</table>{more}</div>"


def overlap_html(curves):
    width, height = 420, 200
    n = len(curves)
    lowest = min(v for v in curves.chance.tolist()) / 2
    low = math.log10(lowest)

    def line(values, color, dash=""):
        ys, _, _ = _log_positions([max(v, lowest) for v in values], height, low, 0.0)
        points = " ".join(f"{math.log(i + 1) / math.log(max(n, 2)) * width:.1f},{y:.1f}" for i, y in enumerate(ys))
        return f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.5" stroke-dasharray="{dash}"/>'

    body = (line(curves.best.tolist(), _GREY, "2 3") + line(curves.chance.tolist(), _GREY) + line(curves.by_layer_mean.tolist(), _ORANGE) +
            line(curves.overlap.tolist(), _BLUE) +
            f'<text x="{width / 2}" y="{height + 20}" text-anchor="middle" font-size="11" fill="currentColor">k, 1 to {n}; both axes logarithmic</text>')
    legend = (f'<span style="color:{_BLUE}">— largest by {html.escape(curves.name)}</span> &nbsp; <span style="color:{_ORANGE}">— random, same count in '
              f'each tensor</span> &nbsp; <span style="color:{_GREY}">— chance; dotted: best mask</span>')
    text = html.escape(repr(curves)).replace("\n", "<br>")
    return f"<div><p>{text}</p>{_svg(width, height, body, [(10, '1'), (height + 4, f'{lowest:.1g}')])}<p>{legend}</p></div>"


def plot_density(density, ax=None, width=None):
    ax = _axes(ax)
    grid, value, error = density.curve(width=width)
    x = grid.tolist()
    ax.fill_between(x, (value - 2 * error).clamp(min=1e-300).tolist(), (value + 2 * error).tolist(), color=_BLUE, alpha=0.25, lw=0, label="± 2 errors")
    ax.plot(x, value.clamp(min=1e-300).tolist(), color=_BLUE)
    ax.set_yscale("log")
    top = float(value.max())
    ax.set_ylim(top * 1e-8, top * 2)
    ax.set_xlabel("eigenvalue")
    ax.set_ylabel("density")
    ax.legend(fontsize=8)
    return ax
