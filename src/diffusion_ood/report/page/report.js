"use strict";

// Tables whose heads have buttons are sorted by them; the third press gives the first order back.
for (const button of document.querySelectorAll("button.sort")) {
  const head = button.closest("th");
  const table = head.closest("table");
  const body = table.tBodies[0];
  const column = [...head.parentNode.children].indexOf(head);
  const first = [...body.rows];
  const next = { none: "ascending", ascending: "descending", descending: "none" };

  // Columns are counted from the right, as a row without pictures has one wide cell for all.
  const fromRight = head.parentNode.children.length - column;
  const key = (row) => {
    const cell = row.cells[row.cells.length - fromRight];
    const value = cell.dataset.value;
    if (value === undefined) return cell.textContent.trim().toLowerCase();
    return value === "" ? Number.NEGATIVE_INFINITY : Number(value);
  };
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (typeof x === "number") return x - y || 0;
    return x.localeCompare(y, undefined, { numeric: true });
  };

  button.addEventListener("click", () => {
    const order = next[head.getAttribute("aria-sort")];
    for (const other of head.parentNode.querySelectorAll("[aria-sort]")) {
      other.setAttribute("aria-sort", "none");
    }
    head.setAttribute("aria-sort", order);
    const rows = order === "none" ? first : [...first].sort(compare);
    body.append(...(order === "descending" ? rows.reverse() : rows));
  });
}

// A row stays when each of the words is somewhere in its text.
for (const input of document.querySelectorAll("input[data-filters]")) {
  const rows = [...document.getElementById(input.dataset.filters).tBodies[0].rows];
  const status = document.getElementById(input.dataset.filters + "-status");
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    status.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
  });
}
