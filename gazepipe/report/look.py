"""How the page looks and what it does: its style sheet and its script."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1c2833; --soft: #55616b; --line: #d5dadd; --band: #f4f6f7; --accent: #14598c;
  --note: #fff6df; --note-line: #e0b64c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14191e; --ink: #e4e8eb; --soft: #a7b1b9; --line: #3a444c; --band: #1d242a; --accent: #86c3ee;
    --note: #2e2818; --note-line: #8f7431;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: break-word;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
.page { display: grid; grid-template-columns: 15rem minmax(0, 1fr); max-width: 92rem; margin: 0 auto; }
nav { padding: 2rem 1rem 2rem 1.5rem; font-size: .9rem; }
nav > div { position: sticky; top: 1.5rem; max-height: calc(100vh - 3rem); overflow-y: auto; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav a { display: block; padding: .2rem .5rem; border-radius: .3rem; color: var(--soft); text-decoration: none; }
nav a:hover, nav a:focus-visible { background: var(--band); color: var(--ink); }
main { padding: 2rem 2rem 4rem; min-width: 0; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.4rem; margin: 3rem 0 .75rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.12rem; margin: 2rem 0 .5rem; }
h4, h5, h6 { font-size: 1rem; margin: 1.25rem 0 .4rem; }
p, ul, ol { max-width: 52rem; margin: .6rem 0; }
li { margin: .2rem 0; }
a { color: var(--accent); }
:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 1px;
}
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .88em; }
code { background: var(--band); padding: .1em .3em; border-radius: .25rem; }
pre { background: var(--band); padding: 1rem; overflow-x: auto; border-radius: .4rem; line-height: 1.4; }
pre code { padding: 0; background: none; }
blockquote { margin: 1rem 0; padding: .5rem 1rem; background: var(--note); border-left: 4px solid var(--note-line); }
blockquote p { margin: .2rem 0; }
dl.facts { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .25rem 1rem; margin: 1rem 0; }
dl.facts dt { color: var(--soft); }
dl.facts dd { margin: 0; }
.hidden {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap;
}

.box { overflow-x: auto; margin: 1rem 0 1.75rem; max-width: 100%; }
table.data { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; width: auto; margin: 0; }
table.data caption { caption-side: top; text-align: left; color: var(--soft); padding: .2rem 0; font-size: .88rem; }
table.data th, table.data td { padding: .35rem .75rem; border-bottom: 1px solid var(--line); text-align: left; }
table.data td { vertical-align: top; }
table.data thead th { border-bottom: 2px solid var(--soft); vertical-align: bottom; font-weight: 600; }
table.data .number, table.data.dataTable .number { text-align: right !important; }
table.data .text, table.data.dataTable .text { text-align: left !important; }
table.sorts td.number { white-space: nowrap; }
table.data tbody tr:nth-child(even) { background: var(--band); }

figure { margin: 1rem 0 1.75rem; max-width: 62rem; }
figure img {
  display: block; max-width: 100%; max-height: 56rem; width: auto; height: auto;
  background: #fff; border: 1px solid var(--line);
}
figcaption { color: var(--soft); font-size: .88rem; padding-top: .4rem; }
.files a { margin-right: .4rem; font-size: .85rem; }

details { border: 1px solid var(--line); border-radius: .4rem; margin: .6rem 0; padding: 0 1rem; }
details[open] { padding-bottom: .75rem; }
summary { cursor: pointer; padding: .55rem 0; font-weight: 600; }
summary span { font-weight: 400; color: var(--soft); }

:root, :root.dark { --dt-html-background: var(--paper); }
div.dt-container { color: var(--ink); width: fit-content; max-width: 100%; }
div.dt-container .dt-layout-row { margin: .25rem 0 !important; }
div.dt-container .dt-layout-row .dt-layout-cell { text-align: left !important; margin: 0 !important; }
div.dt-container .dt-search input {
  background: var(--paper); color: var(--ink); border: 1px solid var(--soft); border-radius: .3rem;
  padding: .3rem .5rem; font: inherit; font-size: .9rem; max-width: 12rem; margin-left: .4rem;
}
div.dt-container .dt-search, div.dt-container .dt-info { color: var(--soft); font-size: .88rem; }
div.dt-container .dt-layout-table { overflow-x: auto; }
div.dtcc-dropdown { max-width: 90vw; }

@media (max-width: 60rem) {
  .page { display: block; }
  nav { padding: 1rem 1rem 0; }
  nav > div { position: static; max-height: none; }
  nav ul { columns: 2; column-gap: .5rem; }
  nav a { padding: .3rem .3rem; }
  main { padding: 1rem 1rem 3rem; }
  h1 { font-size: 1.5rem; }
  h2 { font-size: 1.25rem; margin-top: 2rem; }
  dl.facts { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dl.facts dd { margin-bottom: .5rem; }
  table.data th, table.data td { padding: .3rem .5rem; }
  details { padding: 0 .6rem; }
}
@media print {
  :root { --paper: #fff; --ink: #000; --soft: #333; --line: #999; --band: #fff; --accent: #000; --note: #fff; }
  nav, .dt-search, .dt-info, .dtcc, .files { display: none !important; }
  .page { display: block; }
  main { padding: 0; }
  body { font-size: 10pt; }
  .box, .dt-layout-table { overflow: visible !important; }
  table.data { font-size: 8pt; }
  tr, figure { break-inside: avoid; }
  h2, h3, h4 { break-after: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""

SCRIPT = """
const source = document.getElementById("datatables").textContent;
const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
const { default: DataTable } = await import(address);
URL.revokeObjectURL(address);

// The library's own style goes by this class.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark", dark.matches);
dark.addEventListener("change", follow);
follow();

// Cells without a number come last in either direction.
const last = (a, b) => (a === "") - (b === "");
DataTable.ext.type.order["measured-asc"] = (a, b) => last(a, b) || a - b;
DataTable.ext.type.order["measured-desc"] = (a, b) => last(a, b) || b - a;

const few = (cells) => new Set(cells).size;
for (const table of document.querySelectorAll("table.sorts")) {
  const rows = table.tBodies[0] ? table.tBodies[0].rows.length : 0;
  if (rows < 2) continue;
  const heads = [...table.tHead.rows[0].cells];
  const columnDefs = heads.map((head, index) => {
    if (head.classList.contains("number")) return { targets: index, type: "measured" };
    const values = few([...table.tBodies[0].rows].map((row) => row.cells[index].textContent));
    const listed = values > 1 && values < rows && values <= 30;
    return { targets: index, columnControl: listed ? [["searchList"]] : [] };
  });
  new DataTable(table, {
    columnDefs, paging: false, order: [], autoWidth: false,
    layout: { topStart: null, topEnd: null, top2Start: "search", bottomStart: "info", bottomEnd: null },
    language: {
      search: "Filter rows", info: "", infoEmpty: "", infoFiltered: "_TOTAL_ of _MAX_ rows", zeroRecords: "no row",
    },
  });
}
document.documentElement.dataset.ready = "yes";
"""
