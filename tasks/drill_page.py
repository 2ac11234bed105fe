"""A page about restore drills that needs nothing but itself: the trend of each time, each drill with its checks."""

import html
from collections.abc import Sequence
from datetime import datetime
from typing import Any

WIDTH, HEIGHT, LEFT, TOP = 720, 130, 60, 14
TIMES = (
    ("rto_seconds", "RTO: until a write was taken"),
    ("answer_seconds", "until the first answer"),
    ("rpo_seconds", "RPO: age of the newest restored row"),
)

STYLE = """
:root { color-scheme: light dark; --line: #2563eb; --bad: #dc2626; --soft: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1rem; margin: 1.5rem 0 0; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
polyline { fill: none; stroke: var(--line); stroke-width: 2; } circle { fill: var(--line); }
circle.fail { fill: var(--bad); } line { stroke: var(--soft); }
table { border-collapse: collapse; width: 100%; margin-top: 1.5rem; font-size: .9rem; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--soft); vertical-align: top; }
td.fail { color: var(--bad); font-weight: 600; } summary { cursor: pointer; }
"""


def page(title: str, drills: Sequence[dict[str, Any]]) -> str:
    """All of it as HTML, the newest drill first in the table."""
    charts = "".join(f"<h2>{html.escape(name)}</h2>{chart(drills, key)}" for key, name in TIMES)
    rows = "".join(_row(drill) for drill in reversed(drills))
    head = "".join(f"<th>{name}</th>" for name in ("began (UTC)", "kind", "verdict", "RTO", "answer", "RPO", "checks"))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1>{charts}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></html>\n"
    )


def chart(drills: Sequence[dict[str, Any]], key: str) -> str:
    """The times of the drills that came so far, over the days; one that failed is a point of its own colour."""
    measured = [drill for drill in drills if drill[key] is not None]
    if not measured:
        return "<p>no drill came so far</p>"
    moments = [datetime.fromisoformat(drill["began"]).timestamp() for drill in measured]
    highest = max(*(float(drill[key]) for drill in measured), 1.0)
    first, span = min(moments), (max(moments) - min(moments)) or 1.0
    inner = WIDTH - LEFT - 20
    places = [
        (LEFT + inner * (moment - first) / span, TOP + (HEIGHT - 2 * TOP) * (1 - max(float(drill[key]), 0.0) / highest))
        for moment, drill in zip(moments, measured, strict=True)
    ]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    circles = "".join(map(_circle, places, measured, [key] * len(places)))
    floor, right = HEIGHT - TOP, WIDTH - 20
    began, ended = (html.escape(drill["began"][:10]) for drill in (measured[0], measured[-1]))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 8}" role="img">'
        f'<line x1="{LEFT}" x2="{right}" y1="{floor}" y2="{floor}"/>'
        f'<line x1="{LEFT}" x2="{right}" y1="{TOP}" y2="{TOP}"/>'
        f'<text x="4" y="{TOP + 4}">{highest:.1f} s</text><text x="4" y="{floor + 4}">0 s</text>'
        f'<text x="{LEFT}" y="{HEIGHT + 4}">{began}</text><text x="{WIDTH - 90}" y="{HEIGHT + 4}">{ended}</text>'
        f'<polyline points="{points}"/>{circles}</svg>'
    )


def _circle(place: tuple[float, float], drill: dict[str, Any], key: str) -> str:
    verdict, began = html.escape(drill["verdict"]), html.escape(drill["began"][:16])
    says = f"<title>{began}: {float(drill[key]):.1f} s, {verdict}</title>"
    return f'<circle class="{verdict}" cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="4">{says}</circle>'


def _row(drill: dict[str, Any]) -> str:
    checks = "".join(
        f'<tr><td class="{"" if check["verdict"] == "pass" else "fail"}">{html.escape(check["verdict"])}</td>'
        f"<td>{html.escape(check['name'])}</td><td>{float(check['seconds']):.1f} s</td>"
        f"<td>{html.escape(check['found'])}</td></tr>"
        for check in drill["checks"]
    )
    passed = sum(check["verdict"] == "pass" for check in drill["checks"])
    times = "".join(f"<td>{'-' if drill[key] is None else f'{float(drill[key]):.1f} s'}</td>" for key, _ in TIMES)
    kind = "weekly" if drill["kind"] == "drill-weekly" else "daily"
    return (
        f"<tr><td>{html.escape(drill['began'][:16].replace('T', ' '))}</td><td>{kind}</td>"
        f'<td class="{html.escape(drill["verdict"])}">{html.escape(drill["verdict"])}</td>{times}'
        f"<td><details><summary>{passed} of {len(drill['checks'])}</summary><table>{checks}</table></details></td></tr>"
    )
