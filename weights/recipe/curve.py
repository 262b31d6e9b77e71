"""The log as a picture: one SVG, no plotting library."""

import json
from pathlib import Path

WIDTH, HEIGHT, MARGIN = 720, 300, 44
LINES = {'mask': '#b5473c', 'dice': '#2f6f9f', 'false_positive': '#8a8a8a'}


def draw_curve(log: Path, path: Path) -> None:
    """Mask loss, Dice and false positives over the slices seen."""
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    if not rows:
        return
    last = max(row['slices'] for row in rows)
    top = max(1.0, *(row['mask'] for row in rows))
    inner_width, inner_height = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN

    def x(slices: float) -> float:
        return MARGIN + inner_width * slices / last

    def y(value: float) -> float:
        return HEIGHT - MARGIN - inner_height * value / top

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
             'font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for share in (0, 0.25, 0.5, 0.75, 1):
        level = y(share * top)
        parts.append(f'<path d="M{MARGIN} {level:.1f}H{WIDTH - MARGIN}" stroke="#e4e4e4"/>'
                     f'<text x="{MARGIN - 6}" y="{level + 4:.1f}" text-anchor="end">'
                     f'{share * top:.2f}</text>'
                     f'<text x="{x(share * last):.1f}" y="{HEIGHT - MARGIN + 18}" '
                     f'text-anchor="middle">{share * last:,.0f}</text>')
    for n, (name, colour) in enumerate(LINES.items()):
        points = ' '.join(f'{x(row["slices"]):.1f},{y(row[name]):.1f}' for row in rows
                          if row[name] is not None)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" '
                     'stroke-width="1.5"/>'
                     f'<text x="{MARGIN + 130 * n}" y="{MARGIN - 16}" fill="{colour}">'
                     f'{name.replace("_", " ")}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">slices</text></svg>')
    path.write_text('\n'.join(parts))
