"""How the report looks: dark on white, for screen and paper alike."""

STYLE = """
:root { color: #24313d; font: 15px/1.5 "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; }
body { max-width: 54rem; margin: 2.5rem auto; padding: 0 1.25rem; }
header { border-bottom: 2px solid #24313d; margin-bottom: 1.5rem; }
h1 { font-size: 1.7rem; margin: 0; font-weight: 600; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; font-weight: 600; }
.source { font: 1.05rem ui-monospace, "DejaVu Sans Mono", monospace; margin: .2rem 0 0; }
.when, .note { color: #5c6b77; }
.when { margin: .2rem 0 .8rem; }
.note { font-size: .87rem; }
.verdict { border: 1px solid #c9d3d9; border-left: 6px solid #2b6c8f; padding: .9rem 1.3rem; }
.verdict.alarm { border-left-color: #b3402a; }
.verdict.caution { border-left-color: #c98b1b; }
.verdict h2 { margin: 0 0 .7rem; font-size: 1.3rem; }
.verdict p { margin: .35rem 0; }
.verdict ul { margin: .8rem 0 0; padding-left: 1.2rem; font-size: .92rem; }
.figures { display: flex; flex-wrap: wrap; gap: 2.4rem; margin: .4rem 0 .8rem; }
.figures div { display: grid; }
.figures b { font-size: 2.3rem; line-height: 1.1; font-weight: 600; }
.figures i { font-style: normal; font-size: .8rem; color: #5c6b77; }
.credit b { color: #3f7d4e; } .test b { color: #9a6a14; }
.verdict.alarm .assessed b { color: #b3402a; }
.verdict.caution .assessed b { color: #9aa7b0; }
img { display: block; width: 100%; height: auto; }
figure { margin: 1.4rem 0; }
figcaption { font-size: .92rem; margin-bottom: .3rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
img + table { margin-top: .8rem; }
td, th { padding: .22rem .6rem; text-align: right; font-weight: 400; vertical-align: top; }
thead th { border-bottom: 1px solid #24313d; font-size: .85rem; vertical-align: bottom; }
tbody tr:nth-child(even) { background: #f4f7f9; }
td:first-child, th[scope="row"], th:first-child, th:nth-child(2) { text-align: left; }
tfoot tr:first-child td, tfoot tr:first-child th { border-top: 1px solid #24313d; }
.result td, .result th { font-weight: 600; }
.least { font-weight: 700; }
.none { color: #9aa7b0; }
.facts td { text-align: left; overflow-wrap: anywhere; }
.facts th { white-space: nowrap; color: #5c6b77; }
.limits li { margin: .35rem 0; }
@media print {
  @page { margin: 14mm 16mm; }
  :root { font-size: 9pt; line-height: 1.4; }
  body { margin: 0; max-width: none; padding: 0; }
  figure, .verdict, table, .health, li { break-inside: avoid; }
  h2, figcaption { break-after: avoid; }
  h2 { margin-top: 1.4rem; }
  figure { margin: .9rem 0; }
  img { width: 88%; margin: 0 auto; }
  td, th { padding: .12rem .6rem; }
  tfoot { display: table-row-group; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
