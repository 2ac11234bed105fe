"""A page about restore drills that needs nothing but itself: the trend of each time, each drill with its checks."""

import html
from collections.abc import Sequence
from datetime import datetime
from statistics import median
from typing import Any

WIDTH, HEIGHT, LEFT, TOP = 720, 130, 60, 14
TIMES = (
    ("rto_seconds", "RTO: until a write was taken"),
    ("answer_seconds", "until the first answer"),
    ("rpo_seconds", "RPO: age of the newest restored row"),
)

STYLE = """
:root { color-scheme: light dark; --line: #1d4ed8; --bad: #b91c1c; --soft: #8886; }
@media (prefers-color-scheme: dark) { :root { --line: #93b4ff; --bad: #ff8a80; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1rem; margin: 1.5rem 0 0; } h2 + p { margin: 0; font-size: .9rem; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
polyline { fill: none; stroke: var(--line); stroke-width: 2; } circle { fill: var(--line); }
circle.fail { fill: var(--bad); } path.fail { stroke: var(--bad); stroke-width: 2; } line { stroke: var(--soft); }
table { border-collapse: collapse; width: 100%; margin-top: 1.5rem; font-size: .9rem; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--soft); vertical-align: top; }
td { overflow-wrap: anywhere; } td:not(:last-child) { white-space: nowrap; }
.fail { color: var(--bad); font-weight: 600; } summary { cursor: pointer; }
"""
# Nothing is fetched and nothing runs, whatever a check has found.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(title: str, drills: Sequence[dict[str, Any]]) -> str:
    """All of it as HTML, the newest drill first in the table."""
    charts = "".join(f"<h2>{html.escape(name)}</h2>{summary(drills, key)}{chart(drills, key)}" for key, name in TIMES)
    rows = "".join(_row(drill) for drill in reversed(drills))
    head = "".join(f"<th>{name}</th>" for name in ("began (UTC)", "kind", "verdict", "RTO", "answer", "RPO", "checks"))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1>{_last(drills)}{charts}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></html>\n"
    )


def _last(drills: Sequence[dict[str, Any]]) -> str:
    """In words: the newest drill, and how many of those shown did not pass."""
    last, failed = drills[-1], [drill for drill in drills if drill["verdict"] != "pass"]
    wrong = _wrong(last)
    said = f"{_began(last)} UTC: {html.escape(last['verdict'])}{f', {html.escape(wrong)}' if wrong else ''}"
    shape = ' class="fail"' if last["verdict"] != "pass" else ""
    return f"<p{shape}>The last drill, {said}.</p><p>{len(failed)} of these {len(drills)} did not pass.</p>"


def _wrong(drill: dict[str, Any]) -> str:
    """What did not pass, the first with what was found."""
    wrong = [check for check in drill["checks"] if check["verdict"] != "pass"]
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return f"{wrong[0]['name']}: {wrong[0]['found']}{more}" if wrong else ""


def _began(drill: dict[str, Any]) -> str:
    return html.escape(drill["began"][:16].replace("T", " "))


def summary(drills: Sequence[dict[str, Any]], key: str) -> str:
    """The newest value beside what is usual, so that a trend is seen without measuring it."""
    times = [float(drill[key]) for drill in drills if drill[key] is not None]
    if not times:
        return ""
    usual = f"half of {len(times)} up to {median(times):.1f} s, the longest {max(times):.1f} s"
    return f"<p>last {times[-1]:.1f} s; {usual}</p>"


def chart(drills: Sequence[dict[str, Any]], key: str) -> str:
    """The times over the days; a drill that failed has its own colour, one that did not come so far a cross below."""
    measured = [drill for drill in drills if drill[key] is not None]
    if not measured:
        return "<p>no drill came so far</p>"
    moments = [datetime.fromisoformat(drill["began"]).timestamp() for drill in drills]
    highest = max(*(float(drill[key]) for drill in measured), 1.0)
    first, span = min(moments), (max(moments) - min(moments)) or 1.0
    inner, floor, right = WIDTH - LEFT - 20, HEIGHT - TOP, WIDTH - 20
    points, marks = [], []
    for moment, drill in zip(moments, drills, strict=True):
        x = LEFT + inner * (moment - first) / span
        if drill[key] is None:
            marks.append(_cross(x, floor, drill))
        else:
            y = TOP + (HEIGHT - 2 * TOP) * (1 - max(float(drill[key]), 0.0) / highest)
            points.append(f"{x:.1f},{y:.1f}")
            marks.append(_circle((x, y), drill, key))
    lines = "".join(_line(floor - (floor - TOP) * share, right, share * highest) for share in (0, 0.5, 1))
    began, ended = (html.escape(drill["began"][:10]) for drill in (drills[0], drills[-1]))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 8}" role="img">{lines}'
        f'<text x="{LEFT}" y="{HEIGHT + 4}">{began}</text><text x="{WIDTH - 90}" y="{HEIGHT + 4}">{ended}</text>'
        f'<polyline points="{" ".join(points)}"/>{"".join(marks)}</svg>'
    )


def _line(y: float, right: int, value: float) -> str:
    text = f'<text x="4" y="{y + 4:.1f}">{value:.1f} s</text>'
    return f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>{text}'


def _circle(place: tuple[float, float], drill: dict[str, Any], key: str) -> str:
    verdict = html.escape(drill["verdict"])
    says = f"<title>{_began(drill)}: {float(drill[key]):.1f} s, {verdict}</title>"
    return f'<circle class="{verdict}" cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="4">{says}</circle>'


def _cross(x: float, y: float, drill: dict[str, Any]) -> str:
    says = f"<title>{_began(drill)}: not reached, {html.escape(_wrong(drill))}</title>"
    return f'<path class="fail" d="M{x - 4:.1f},{y - 4} l8,8 m0,-8 l-8,8">{says}</path>'


def _row(drill: dict[str, Any]) -> str:
    checks = "".join(
        f'<tr><td class="{"" if check["verdict"] == "pass" else "fail"}">{html.escape(check["verdict"])}</td>'
        f"<td>{html.escape(check['name'])}</td><td>{float(check['seconds']):.1f} s</td>"
        f"<td>{html.escape(check['found'])}</td></tr>"
        for check in drill["checks"]
    )
    passed, wrong = sum(check["verdict"] == "pass" for check in drill["checks"]), _wrong(drill)
    # What did not pass is read without opening anything.
    named = f' <span class="fail">{html.escape(wrong)}</span>' if wrong else ""
    times = "".join(f"<td>{'-' if drill[key] is None else f'{float(drill[key]):.1f} s'}</td>" for key, _ in TIMES)
    kind = "weekly" if drill["kind"] == "drill-weekly" else "daily"
    return (
        f"<tr><td>{_began(drill)}</td><td>{kind}</td>"
        f'<td class="{html.escape(drill["verdict"])}">{html.escape(drill["verdict"])}</td>{times}'
        f"<td><details><summary>{passed} of {len(drill['checks'])}{named}</summary>"
        f"<table>{checks}</table></details></td></tr>"
    )
