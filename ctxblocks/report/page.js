"use strict";

// Curves: a button switches a group, a control or the bands, in all figures of its run.
function applySwitches(run) {
  const off = { group: new Set(), control: new Set(), part: new Set() };
  for (const button of run.querySelectorAll('.legend button[aria-pressed="false"]')) {
    for (const kind of Object.keys(off)) if (kind in button.dataset) off[kind].add(button.dataset[kind]);
  }
  for (const curve of run.querySelectorAll(".curve")) {
    curve.classList.toggle("off", Object.keys(off).some((kind) => off[kind].has(curve.dataset[kind])));
  }
}
for (const run of document.querySelectorAll(".run")) {
  for (const button of run.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const [kind, value] = Object.entries(button.dataset)[0];
      const pressed = button.getAttribute("aria-pressed") !== "true";
      for (const twin of run.querySelectorAll(".legend button")) {
        if (twin.dataset[kind] === value) twin.setAttribute("aria-pressed", String(pressed));
      }
      applySwitches(run);
    });
  }
}

// Tables: a head sorts by its column, numbers by their value, empty cells last.
function keyOf(row, column) {
  const cell = row.cells[column];
  if ("value" in cell.dataset) return cell.dataset.value === "" ? NaN : Number(cell.dataset.value);
  return cell.textContent.trim();
}
function compare(a, b) {
  const empty = (key) => key === "" || Number.isNaN(key);
  if (empty(a) || empty(b)) return Number(empty(a)) - Number(empty(b));
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
}
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const each of heads) each.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => [keyOf(row, column), row]);
    rows.sort(([a], [b]) => {
      const order = compare(a, b), blank = [a, b].some((key) => key === "" || Number.isNaN(key));
      return down && !blank ? -order : order;
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }));
}

// Colours: as the system, light, dark.
const theme = document.getElementById("theme");
const themes = [["", "as the system"], ["light", "light"], ["dark", "dark"]];
theme.addEventListener("click", () => {
  const now = document.documentElement.dataset.theme || "";
  const [name, words] = themes[(themes.findIndex(([each]) => each === now) + 1) % themes.length];
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  theme.textContent = "theme: " + words;
});

// Print: the numbers too.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => each.toggleAttribute("open", true)));
