"""SVG plots as text, for a page whose style sheet gives the colours (style.css: .c0 ... .c9, .ceiling)."""
import math
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 380, 280  # units of the viewBox, few, so that letters can be read on a phone
TOP, BOTTOM, LEFT = 26, 42, 52
LETTER = 6.6  # width of one, more or less
COLOURS = 10

# A contender is told by its marker and dashes too, not by its colour alone.
DASHES = ("", "7 3", "2 3", "9 3 2 3", "5 2", "1 2", "12 4", "4 4", "9 2 2 2 2 2", "3 1")


def marker(shape, x, y, r=4.2):
    """A path around (x, y)."""
    if shape % COLOURS == 0:
        return f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z"
    corners = {
        1: ((-1, -1), (1, -1), (1, 1), (-1, 1)),  # square
        2: ((0, -1.2), (1.1, 0.9), (-1.1, 0.9)),  # triangle
        3: ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),  # diamond
        4: ((-1.1, -0.9), (1.1, -0.9), (0, 1.2)),  # triangle on its point
        5: ((-1.2, -0.4), (-0.4, -0.4), (-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4),
            (0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4)),  # plus
        6: ((0, -1.2), (1.2, -0.3), (0.7, 1.1), (-0.7, 1.1), (-1.2, -0.3)),  # pentagon
        7: ((-1.2, -1.2), (1.2, -1.2), (-1.2, 1.2), (1.2, 1.2)),  # hourglass
        8: ((-1.2, -1.2), (1.2, 1.2), (1.2, -1.2), (-1.2, 1.2)),  # bow
        9: ((-1.3, -0.6), (1.3, -0.6), (1.3, 0.6), (-1.3, 0.6)),  # bar
    }[shape % COLOURS]
    return "M" + "L".join(f"{x + r * dx:.1f} {y + r * dy:.1f}" for dx, dy in corners) + "z"


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    low: float = math.nan
    high: float = math.nan
    title: str = ""


@dataclass
class Series:
    name: str
    style: int  # of the contender, the same on the whole page; -1: a ceiling, a line without markers
    points: list = field(default_factory=list)
    joined: bool = True  # by a line


def nice_ticks(top, count=5):
    """From 0 up to at least `top` in steps of 1, 2, 2.5 or 5 times a power of ten."""
    if not top > 0:
        return [0, 1]
    power = 10 ** math.floor(math.log10(top / count))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m * count >= top * 0.999)
    return [n * step for n in range(math.ceil(top / step - 1e-9) + 1)]


def log_ticks(low, high, base=10):
    """Powers of the base from at most `low` to at least `high`."""
    first, last = math.floor(math.log(low, base) + 1e-9), math.ceil(math.log(high, base) - 1e-9)
    return [float(base) ** n for n in range(first, max(last, first + 1) + 1)]


def fine_log_ticks(low, high):
    """1, 2, 5 times powers of ten from at most `low` to at least `high`."""
    steps = [m * 10.0 ** n for n in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
             for m in (1, 2, 5)]
    first = max(n for n, step in enumerate(steps) if step <= low * 1.0001)
    last = min(n for n, step in enumerate(steps) if step >= high * 0.9999)
    return steps[first:max(last, first + 1) + 1]


def figure(value):
    """Three significant digits without an exponent, as attention_bench prints them."""
    if math.isnan(value):
        return "-"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3 if abs(value) >= 0.1 else 4}f}"


def plain(value):
    return f"{value:g}" if 1e-3 <= abs(value) < 1e6 or value == 0 else f"{value:.0e}"


def spread_out(places, gap, low, high):
    """Heights of labels: near their places, in order, none closer than `gap`, all within low ... high if they fit."""
    order = sorted(range(len(places)), key=lambda n: places[n])
    out = list(places)
    for before, n in zip([None] + order, order):
        out[n] = max(out[n], low if before is None else out[before] + gap)
    limit = high
    for n in reversed(order):
        out[n] = min(out[n], limit)
        limit = out[n] - gap
    return out


class Axis:
    def __init__(self, ticks, start, end, logarithmic):
        self.ticks, self.logarithmic = ticks, logarithmic
        self.low, self.high, self.start, self.end = self._of(ticks[0]), self._of(ticks[-1]), start, end

    def _of(self, value):
        return math.log(value) if self.logarithmic else value

    def __call__(self, value):
        width = self.high - self.low
        return self.start + (self.end - self.start) * ((self._of(value) - self.low) / width if width else 0.5)


def _opening(title, description, height, key):
    return [f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-labelledby="{key}-t {key}-d">'
            f'<title id="{key}-t">{escape(title)}</title><desc id="{key}-d">{escape(description)}</desc>']


def _axes(x, y, x_label, y_label, tick_text, y_text, right):
    out = []
    last = -math.inf
    for tick in y.ticks:
        height = y(tick)
        out.append(f'<line class="grid" x1="{LEFT}" x2="{right:g}" y1="{height:.1f}" y2="{height:.1f}"/>'
                   f'<text class="tick" x="{LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">'
                   f'{escape(y_text(tick))}</text>')
    for tick in x.ticks:
        place, text = x(tick), tick_text(tick)
        out.append(f'<line class="axis" x1="{place:.1f}" x2="{place:.1f}" y1="{HEIGHT - BOTTOM}" '
                   f'y2="{HEIGHT - BOTTOM + 4}"/>')
        if place - len(text) * LETTER / 2 < last + 4:
            continue
        last = place + len(text) * LETTER / 2
        out.append(f'<text class="tick" x="{place:.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">'
                   f'{escape(text)}</text>')
    out.append(f'<line class="axis" x1="{LEFT}" x2="{right:g}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>')
    out.append(f'<text class="label" x="{(LEFT + right) / 2:.1f}" y="{HEIGHT - 6}" text-anchor="middle">'
               f'{escape(x_label)}</text>')
    out.append(f'<text class="label" x="2" y="12">{escape(y_label)}</text>')
    return out


def _series(series, x, y):
    style = "ceiling" if series.style < 0 else f"c{series.style % COLOURS}"
    dash = "1 4" if series.style < 0 else DASHES[series.style % COLOURS]
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    own = " own" if series.style == 0 else ""
    out = []
    if len(series.points) > 1 and series.joined:
        path = "L".join(f"{x(p.x):.1f} {y(p.y):.1f}" for p in series.points)
        out.append(f'<path class="line {style}{own}" d="M{path}"{dashes}/>')
    for p in series.points:
        here = x(p.x), y(p.y)
        if p.high > p.low:
            out.append(f'<path class="spread {style}" d="M{here[0]:.1f} {y(p.low):.1f}V{y(p.high):.1f}"/>')
        if series.style >= 0:
            out.append(f'<path class="mark {style}" d="{marker(series.style, *here)}"><title>{escape(p.title)}'
                       '</title></path>')
    return out


def _labels(series, x, y, right):
    """Names at the lines' ends, with a hair line where one had to move."""
    ends = [s.points[-1] for s in series]
    heights = spread_out([y(p.y) for p in ends], 13.5, TOP, HEIGHT - BOTTOM)
    out = []
    for s, p, height in zip(series, ends, heights):
        style = "ceiling" if s.style < 0 else f"c{s.style % COLOURS}"
        out.append(f'<path class="hair" d="M{x(p.x) + 5:.1f} {y(p.y):.1f}L{right + 7:.1f} {height:.1f}"/>')
        if s.style >= 0:
            out.append(f'<path class="mark {style}" d="{marker(s.style, right + 12, height, 3.4)}"/>')
        out.append(f'<text class="name{" own" if s.style == 0 else ""}" x="{right + (19 if s.style >= 0 else 9):.1f}" '
                   f'y="{height + 4:.1f}">{escape(s.name)}</text>')
    return out


def lines(key, title, description, series, *, x_label, y_label, x_ticks, y_ticks, y_log=False, tick_text=plain,
          y_text=plain):
    """Series over a logarithmic x. Every series has points."""
    right = WIDTH - 24 - LETTER * max(len(s.name) for s in series)
    pad = 1.0 if len(x_ticks) > 1 else 0
    x = Axis(x_ticks, LEFT + 10 * pad, right - 8 * pad, True)
    y = Axis(y_ticks, HEIGHT - BOTTOM, TOP, y_log)
    out = _opening(title, description, HEIGHT, key) + _axes(x, y, x_label, y_label, tick_text, y_text, right)
    for s in sorted(series, key=lambda s: -s.style if s.style > 0 else (1 if s.style == 0 else -99)):
        out += _series(s, x, y)
    return "".join(out + _labels(series, x, y, right) + ["</svg>"])


def bars(key, title, description, series, *, unit):
    """One bar for each series' only point, its figure behind it."""
    row = 26
    left = 10 + LETTER * max(len(s.name) for s in series) + 14
    room = WIDTH - left - 62
    top = max(max(s.points[0].y, s.points[0].high if s.points[0].high > 0 else 0) for s in series) or 1
    height = row * len(series) + 26
    out = _opening(title, description, height, key)
    for n, s in enumerate(series):
        p, y = s.points[0], 20 + row * n
        style = "ceiling" if s.style < 0 else f"c{s.style % COLOURS}"
        length = room * p.y / top
        if s.style >= 0:
            out.append(f'<path class="mark {style}" d="{marker(s.style, 6, y + 8, 3.4)}"/>')
        out.append(f'<text class="name{" own" if s.style == 0 else ""}" x="14" y="{y + 12}">{escape(s.name)}</text>'
                   f'<rect class="bar {style}" x="{left:.1f}" y="{y}" width="{length:.1f}" height="16">'
                   f'<title>{escape(p.title)}</title></rect>')
        end = length
        if p.high > p.low:
            end = max(length, room * p.high / top)
            out.append(f'<path class="whisker" d="M{left + room * p.low / top:.1f} {y + 8}H{left + end:.1f}"/>')
        out.append(f'<text class="tick" x="{left + end + 6:.1f}" y="{y + 12}">{escape(figure(p.y))}</text>')
    out.append(f'<text class="label" x="2" y="12">{escape(unit)}</text>')
    return "".join(out + ["</svg>"])
