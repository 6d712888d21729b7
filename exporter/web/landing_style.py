"""The landing page's look: light and dark, wide and narrow."""

from __future__ import annotations

STYLE = """
:root { --text: #1f2328; --dim: #59636e; --page: #f6f8fa; --box: #fff; --line: #d1d9e0; --accent: #0969da;
  --good: #1a7f37; --good-box: #dafbe1; --bad: #b3261e; --bad-box: #ffe9e7; --warn: #8a5a00; --warn-box: #fff4d6 }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --dim: #9198a1; --page: #0d1117; --box: #161b22;
  --line: #30363d; --accent: #4493f8; --good: #4ac26b; --good-box: #12261e; --bad: #ff8078; --bad-box: #2d1517;
  --warn: #e3b341; --warn-box: #2a2111 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 76rem; padding: 1.25rem; background: var(--page); color: var(--text);
  font: 1rem/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
  font-variant-numeric: tabular-nums }
h1 { margin: 0; font-size: 1.5rem; display: flex; flex-wrap: wrap; gap: .25rem .75rem; align-items: center }
h2 { margin: 0 0 .75rem; font-size: 1.15rem; overflow-wrap: anywhere }
p { margin: .25rem 0 }
a { color: var(--accent) }
.note, small, .tile span, thead th { color: var(--dim) }
.note { font-size: .9rem }
.badge { font-size: .85rem; padding: .1rem .7rem; border-radius: 1rem; border: 1px solid }
.badge::before { content: "● " }
.badge.good { color: var(--good); background: var(--good-box) }
.badge.warn { color: var(--warn); background: var(--warn-box) }
.badge.bad { color: var(--bad); background: var(--bad-box) }
.state { margin: .75rem 0; padding: .6rem .9rem; border-left: .3rem solid; border-radius: .3rem;
  overflow-wrap: anywhere }
.state.good { border-color: var(--good); background: var(--good-box) }
.state.warn { border-color: var(--warn); background: var(--warn-box) }
.state.bad { border-color: var(--bad); background: var(--bad-box); color: var(--bad); font-weight: 600 }
section { margin: 1rem 0; padding: 1rem; background: var(--box); border: 1px solid var(--line); border-radius: .6rem }
.tiles { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)) }
.tile { padding: .6rem .8rem; border: 1px solid var(--line); border-radius: .5rem; overflow-wrap: anywhere }
.tile.wide { grid-column: span 2 }
.tile.warn { background: var(--warn-box); border-color: var(--warn) }
.tile.warn b { color: var(--warn) }
.tile span { display: block; font-size: .85rem }
.tile b { display: block; font-size: 1.5rem; font-weight: 600; line-height: 1.3 }
small { line-height: 1.35; display: block }
.tile.wide small.line { display: flex; gap: .75rem; align-items: center }
.tile.wide svg { flex: 1 }
meter { display: block; width: 100%; height: .7rem }
svg { display: block; width: 100%; min-width: 6rem; height: 1.5rem; overflow: visible }
polyline { fill: none; stroke: var(--accent); stroke-width: 1.5; vector-effect: non-scaling-stroke;
  stroke-linejoin: round }
path { stroke: var(--line); stroke-width: 1; vector-effect: non-scaling-stroke }
table { width: 100%; margin-top: 1rem; border-collapse: collapse }
th, td { padding: .4rem .6rem; text-align: right; border-top: 1px solid var(--line); white-space: nowrap }
thead th { border-top: 0; font-weight: 500; font-size: .85rem }
th:first-child { text-align: left }
tbody th { font-weight: 600; white-space: normal; overflow-wrap: anywhere; min-width: 9rem }
.spark { width: 26% }
thead th:nth-child(5) { text-align: center }
footer { margin-top: 1.5rem }
@media (max-width: 48rem) {
  body { padding: .75rem }
  .tiles { grid-template-columns: repeat(2, 1fr) }
  thead { display: none }
  table, tbody { display: block }
  tr { display: grid; grid-template-columns: 1fr 1.4fr .9fr 1.2fr; border-top: 1px solid var(--line); padding: .5rem 0 }
  th, td { border: 0; padding: .1rem .2rem; text-align: left; grid-row: 2; min-width: 0; overflow-wrap: anywhere;
    white-space: normal }
  tbody th { grid-row: 1; grid-column: 1 / 3; font-size: 1.05rem }
  td { font-size: .9rem }
  td.spark { grid-row: 1; grid-column: 3 / 5; width: auto }
  td[data-name]::before { content: attr(data-name); display: block; color: var(--dim); font-size: .8rem }
}
"""
"""Braces are CSS's own: the page's template takes it as a value."""
