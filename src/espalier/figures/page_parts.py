"""The style, the script and the frame of the page of a table.

They are Python text, so that the digest of the code that made a page covers them.
"""

from __future__ import annotations

STYLE = """
:root { color: #222; background: #fff; font: 15px/1.45 system-ui, sans-serif; }
body { margin: 1.25rem; }
h1 { font-size: 1.3rem; margin: 0 0 0.3rem; }
p { margin: 0 0 0.8rem; max-width: 60rem; }
form {
  display: flex;
  flex-wrap: wrap;
  gap: 0.5rem 1.5rem;
  align-items: baseline;
  margin-bottom: 0.8rem;
}
input { font: inherit; padding: 0.15rem 0.4rem; border: 1px solid #6b6b6b; border-radius: 4px; }
output { color: #555; }
.frame { overflow: auto; max-height: 75vh; border: 1px solid #b8b8b8; border-radius: 4px; }
table {
  border-collapse: separate;
  border-spacing: 0;
  font-size: 0.87rem;
  font-variant-numeric: tabular-nums;
}
th, td { padding: 0.2rem 0.7rem; text-align: right; white-space: nowrap; }
th {
  position: sticky;
  top: 0;
  background: #eef3ee;
  border-bottom: 1px solid #6b6b6b;
  font-weight: 600;
  vertical-align: bottom;
}
th small { display: block; color: #555; font-weight: 400; }
th button {
  font: inherit;
  color: inherit;
  background: none;
  border: 0;
  padding: 0;
  cursor: pointer;
}
th button::after { content: " ↕"; color: #8a8a8a; }
th[aria-sort="ascending"] button::after { content: " ↑"; color: #0a5c36; }
th[aria-sort="descending"] button::after { content: " ↓"; color: #0a5c36; }
tbody tr:nth-child(even of :not([hidden])) td { background: #f7f9f7; }
tbody tr:hover td { background: #e3eee3; }
:focus-visible { outline: 2px solid #0072b2; outline-offset: 1px; }
dl {
  display: grid;
  grid-template-columns: max-content 1fr;
  gap: 0 1rem;
  margin: 0.8rem 0 0;
  font-size: 0.8rem;
  color: #555;
}
dd { margin: 0; overflow-wrap: anywhere; }
"""

SCRIPT = r"""
"use strict";
const body = document.querySelector("tbody");
const headers = [...document.querySelectorAll("th")];
const rows = [...body.rows];
const rowFilter = document.getElementById("rows");
const columnFilter = document.getElementById("columns");
const words = new Intl.Collator("en", { numeric: true });
const MISSING = "–";

function compare(a, b, isNumber) {
  if (a === MISSING || b === MISSING) return 0;
  const difference = isNumber ? parseFloat(a) - parseFloat(b) : NaN;
  // Infinities, which parseFloat does not know, stand by their name.
  return Number.isNaN(difference) ? words.compare(a, b) : difference;
}

function sortBy(index) {
  const header = headers[index];
  const descending = header.getAttribute("aria-sort") === "ascending";
  for (const other of headers) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const isNumber = header.dataset.number === "1";
  const keyed = rows.map((row) => [row.cells[index].textContent, row]);
  keyed.sort(([a], [b]) => {
    // Missing values stand last in both directions.
    if ((a === MISSING) !== (b === MISSING)) return a === MISSING ? 1 : -1;
    return descending ? compare(b, a, isNumber) : compare(a, b, isNumber);
  });
  body.append(...keyed.map(([, row]) => row));
}

function filterRows() {
  const wanted = rowFilter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const text = [...row.cells].map((cell) => cell.textContent.toLowerCase());
    row.hidden = !wanted.every((word) => text.some((cell) => cell.includes(word)));
    shown += !row.hidden;
  }
  document.getElementById("count").textContent =
    wanted.length ? `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")}` : "";
}

function filterColumns() {
  const wanted = columnFilter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = headers.map((header) =>
    !wanted.length || wanted.some((word) => header.textContent.toLowerCase().includes(word)));
  for (const line of [headers, ...rows.map((row) => row.cells)])
    shown.forEach((visible, index) => { line[index].hidden = !visible; });
}

headers.forEach((header, index) => {
  header.firstChild.addEventListener("click", () => sortBy(index));
});
rowFilter.addEventListener("input", filterRows);
columnFilter.addEventListener("input", filterColumns);
document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
"""

#: Filled in by `str.format`.
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1 id="title">{title}</h1>
<p>{size} Rounded; every digit is in the CSV file. Press a column's name to sort by it.</p>
<form>
<label>Rows that hold <input id="rows" type="search" autocomplete="off"></label>
<label>Columns whose name holds <input id="columns" type="search" autocomplete="off"></label>
<output id="count" role="status"></output>
</form>
<div class="frame" role="region" aria-labelledby="title" tabindex="0">
<table>
<thead><tr>{head}</tr></thead>
<tbody>
{body}</tbody>
</table>
</div>
<dl>{provenance}</dl>
<script>{script}</script>
</body>
</html>
"""
