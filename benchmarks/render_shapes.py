"""Shapes of the rendered image sets, in parametrised strokes: animals and things, symbols, plots and map signs."""

import math
from random import Random
from typing import NamedTuple

Point = tuple[float, float]


class Stroke(NamedTuple):
    """A line through points of the unit square, closed or not, filled or not."""

    points: list[Point]
    closed: bool = False
    filled: bool = False


def arc(x: float, y: float, rx: float, ry: float, start: float = 0, end: float = 360, n: int = 24) -> list[Point]:
    """Points of an ellipse's arc; angles in degrees, clockwise from the right."""
    angles = (math.radians(start + (end - start) * i / n) for i in range(n + 1))
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


def ring(x: float, y: float, rx: float, ry: float | None = None, *, filled: bool = False) -> Stroke:
    return Stroke(arc(x, y, rx, rx if ry is None else ry)[:-1], True, filled)


def polygon(*points: Point, filled: bool = False) -> Stroke:
    return Stroke(list(points), True, filled)


def line(*points: Point) -> Stroke:
    return Stroke(list(points))


def box(left: float, top: float, right: float, bottom: float, *, filled: bool = False) -> Stroke:
    return polygon((left, top), (right, top), (right, bottom), (left, bottom), filled=filled)


# Line drawings: what classes share (faces, vessels, hulls, wheels) is on purpose, so that parts alone do not tell them.


def face(r: Random) -> list[Stroke]:
    wide, high = r.uniform(0.24, 0.34), r.uniform(0.22, 0.32)
    eye, size = r.uniform(0.08, 0.14), r.uniform(0.015, 0.04)
    strokes = [ring(0.5, 0.6, wide, high), ring(0.5 - eye, 0.54, size), ring(0.5 + eye, 0.54, size)]
    strokes.append(polygon((0.47, 0.64), (0.53, 0.64), (0.5, 0.68)))
    whiskers = [
        line((0.5 + s * 0.08, 0.68), (0.5 + s * r.uniform(0.28, 0.42), 0.62 + d)) for s in (-1, 1) for d in (0, 0.1)
    ]
    return strokes + (whiskers if r.random() < 0.6 else [])


def cat(r: Random) -> list[Stroke]:
    tip = r.uniform(0.1, 0.24)
    return face(r) + [line((0.5 + s * 0.26, 0.46), (0.5 + s * 0.24, tip), (0.5 + s * 0.08, 0.38)) for s in (-1, 1)]


def rabbit(r: Random) -> list[Stroke]:
    high, lean = r.uniform(0.12, 0.2), r.uniform(0, 0.08)
    ears = [
        Stroke([(x + s * lean * (0.5 - y), y) for x, y in arc(0.5 + s * 0.13, 0.24, 0.06, high)], True) for s in (-1, 1)
    ]
    return face(r) + ears


def mouse(r: Random) -> list[Stroke]:
    size = r.uniform(0.1, 0.16)
    return face(r) + [ring(0.5 + s * 0.25, 0.34, size) for s in (-1, 1)]


def fish(r: Random) -> list[Stroke]:
    high, tail = r.uniform(0.12, 0.22), r.uniform(0.1, 0.2)
    strokes = [
        ring(0.42, 0.5, 0.3, high),
        line((0.7, 0.5), (0.92, 0.5 - tail), (0.88, 0.5), (0.92, 0.5 + tail), (0.7, 0.5)),
    ]
    return [*strokes, ring(0.24, 0.46, 0.02), line((0.4, 0.5 - high), (0.5, 0.38 - high), (0.55, 0.52 - high))]


def bird(r: Random) -> list[Stroke]:
    high, wing = r.uniform(0.12, 0.2), r.uniform(0.1, 0.25)
    strokes = [ring(0.5, 0.55, 0.25, high), ring(0.26, 0.36, r.uniform(0.09, 0.13)), ring(0.24, 0.34, 0.015)]
    strokes += [
        line((0.17, 0.35), (0.06, 0.39), (0.18, 0.41)),
        line((0.73, 0.5), (0.94, 0.44), (0.9, 0.56), (0.73, 0.58)),
    ]
    strokes += [line((x, 0.55 + high - 0.01), (x - 0.02, 0.88)) for x in (0.46, 0.56)]
    return [*strokes, line((0.42, 0.5), (0.62, 0.5 - wing), (0.66, 0.55))]


def cup(r: Random) -> list[Stroke]:
    low, high = r.uniform(0.14, 0.26), r.uniform(0.2, 0.4)
    strokes = [line((0.25, high), (0.5 - low, 0.8), (0.5 + low, 0.8), (0.72, high)), ring(0.485, high, 0.235, 0.05)]
    return [*strokes, Stroke(arc(0.71, 0.52, 0.14, 0.13, -90, 90))]


def teapot(r: Random) -> list[Stroke]:
    high = r.uniform(0.2, 0.27)
    strokes = [ring(0.48, 0.58, 0.25, high), Stroke(arc(0.73, 0.56, 0.13, 0.14, -100, 100))]
    strokes += [line((0.25, 0.62), (0.12, 0.5), (0.05, 0.38), (0.14, 0.4), (0.26, 0.5)), ring(0.48, 0.55 - high, 0.03)]
    return [*strokes, Stroke(arc(0.48, 0.6 - high, 0.15, 0.05, 180, 360))]


def car(r: Random) -> list[Stroke]:
    roof, wheel = r.uniform(0.3, 0.4), r.uniform(0.07, 0.11)
    outline = [
        (0.06, 0.7),
        (0.08, 0.54),
        (0.26, 0.5),
        (0.36, roof),
        (0.66, roof),
        (0.78, 0.5),
        (0.94, 0.55),
        (0.94, 0.7),
    ]
    strokes = [Stroke(outline, True), ring(0.27, 0.7, wheel), ring(0.74, 0.7, wheel), line((0.52, roof), (0.52, 0.66))]
    return [*strokes, line((0.3, 0.5), (0.75, 0.5))]


def boat(r: Random) -> list[Stroke]:
    top, wide = r.uniform(0.1, 0.2), r.uniform(0.2, 0.32)
    strokes = [polygon((0.1, 0.64), (0.9, 0.64), (0.76, 0.84), (0.24, 0.84)), line((0.5, 0.64), (0.5, top))]
    strokes.append(polygon((0.52, top + 0.04), (0.52 + wide, 0.6), (0.52, 0.6)))
    return strokes + ([polygon((0.48, top + 0.1), (0.48, 0.6), (0.5 - wide, 0.6))] if r.random() < 0.6 else [])


def house(r: Random) -> list[Stroke]:
    top, eaves, door = r.uniform(0.1, 0.24), r.uniform(0.4, 0.5), r.uniform(0.24, 0.6)
    strokes = [
        box(0.2, eaves, 0.8, 0.86),
        line((0.14, eaves), (0.5, top), (0.86, eaves)),
        box(door, 0.62, door + 0.14, 0.86),
    ]
    window = door + 0.2 if door < 0.5 else door - 0.26
    return [*strokes, box(window, 0.58, window + 0.14, 0.7)]


LINE_DRAWINGS = (bird, boat, car, cat, cup, fish, house, mouse, rabbit, teapot)

# Glyphs: plots, symbols and map signs.


def axes() -> Stroke:
    return line((0.12, 0.08), (0.12, 0.88), (0.94, 0.88))


def bar_chart(r: Random) -> list[Stroke]:
    n = r.randint(3, 6)
    width = 0.76 / n
    tops = [r.uniform(0.15, 0.75) for _ in range(n)]
    gap = r.uniform(0.6, 0.9) * width
    filled = r.random() < 0.6
    return [axes()] + [
        box(0.16 + i * width, top, 0.16 + i * width + gap, 0.88, filled=filled) for i, top in enumerate(tops)
    ]


def line_plot(r: Random) -> list[Stroke]:
    n = r.randint(4, 8)
    lines = [line(*((0.14 + 0.78 * i / n, r.uniform(0.14, 0.8)) for i in range(n + 1))) for _ in range(r.randint(1, 2))]
    return [axes(), *lines]


def scatter_plot(r: Random) -> list[Stroke]:
    size, slope, filled = r.uniform(0.02, 0.045), r.uniform(-0.7, 0.7), r.random() < 0.6
    places = [r.uniform(0.18, 0.9) for _ in range(r.randint(8, 20))]
    heights = [min(max(0.48 + slope * (x - 0.5) + r.gauss(0, 0.14), 0.1), 0.82) for x in places]
    return [axes()] + [ring(x, y, size, filled=filled) for x, y in zip(places, heights, strict=True)]


def pie_chart(r: Random) -> list[Stroke]:
    cuts = sorted(r.uniform(0, 360) for _ in range(r.randint(3, 5)))
    rims = [arc(0.5, 0.5, 0.38, 0.38, cut, cut, 1)[0] for cut in cuts]
    wedge = Stroke([(0.5, 0.5), *arc(0.5, 0.5, 0.38, 0.38, cuts[0], cuts[1])], True, True)
    return [ring(0.5, 0.5, 0.38), *(line((0.5, 0.5), rim) for rim in rims), wedge]


def contours(r: Random) -> list[Stroke]:
    bumps = [(r.randint(2, 5), r.uniform(0, 6.3), r.uniform(0.04, 0.14)) for _ in range(2)]

    def level(size: float) -> Stroke:
        points = []
        for i in range(48):
            a = 2 * math.pi * i / 48
            radius = size * (1 + sum(high * math.sin(k * a + phase) for k, phase, high in bumps))
            points.append((0.5 + radius * math.cos(a), 0.5 + radius * math.sin(a)))
        return Stroke(points, True)

    n = r.randint(3, 5)
    return [level(0.4 * (i + 1) / n) for i in range(n)]


def star(r: Random) -> list[Stroke]:
    n, inner = r.randint(5, 8), r.uniform(0.15, 0.26)
    radii = [0.42 if i % 2 == 0 else inner for i in range(2 * n)]
    points = [arc(0.5, 0.5, radius, radius, 180 / n * i - 90, 0, 1)[0] for i, radius in enumerate(radii)]
    return [Stroke(points, True, r.random() < 0.5)]


def gear(r: Random) -> list[Stroke]:
    n, depth = r.randint(6, 10), r.uniform(0.06, 0.12)
    points = []
    for i in range(4 * n):
        radius = 0.42 if i % 4 < 2 else 0.42 - depth
        points.append(arc(0.5, 0.5, radius, radius, 90 / n * i, 0, 1)[0])
    return [Stroke(points, True, False), ring(0.5, 0.5, r.uniform(0.1, 0.18), filled=r.random() < 0.5)]


def arrow(r: Random) -> list[Stroke]:
    head, half = r.uniform(0.2, 0.32), r.uniform(0.04, 0.1)
    bend = r.uniform(-0.2, 0.2)
    if r.random() < 0.5:
        tip = [(0.9 - head, 0.5 - head), (0.9, 0.5), (0.9 - head, 0.5 + head)]
        return [line((0.1, 0.5 + bend), (0.5, 0.5), (0.9, 0.5)), line(*tip)]
    body = [(0.1, 0.5 - half), (0.9 - head, 0.5 - half), (0.9 - head, 0.5 - head), (0.92, 0.5)]
    return [Stroke([*body, *((x, 1 - y) for x, y in reversed(body[:-1]))], True, r.random() < 0.6)]


def pin(r: Random) -> list[Stroke]:
    wide, y = r.uniform(0.2, 0.28), r.uniform(0.34, 0.42)
    outline = [*arc(0.5, y, wide, wide, 160, 380), (0.5, 0.94)]
    return [Stroke(outline, True, r.random() < 0.3), ring(0.5, y, wide * r.uniform(0.3, 0.5), filled=r.random() < 0.5)]


def warning(r: Random) -> list[Stroke]:
    sides = r.choice((3, 4))
    points = [arc(0.5, 0.54, 0.44, 0.44, 360 / sides * i - 90, 0, 1)[0] for i in range(sides)]
    return [Stroke(points, True), line((0.5, 0.36), (0.5, r.uniform(0.54, 0.62))), ring(0.5, 0.72, 0.025, filled=True)]


GLYPHS = (arrow, bar_chart, contours, gear, line_plot, pie_chart, pin, scatter_plot, star, warning)
