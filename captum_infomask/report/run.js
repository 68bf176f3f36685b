
// ---- The summary of a run -----------------------------------------------------------------------

/** Heads that sort a table: names upwards, numbers downwards, then the other way round. */
function sortable(table) {
  const [body] = table.tBodies;
  const heads = [...table.tHead.rows[0].cells];
  const keyOf = (row, column) => {
    const text = row.cells[column].textContent.trim();
    if (column === 0) return text;
    const number = Number.parseFloat(text.replace(/,/g, "").replace(MINUS, "-"));
    return Number.isNaN(number) ? null : number;
  };
  heads.forEach((head, column) => {
    const button = make(
      "button",
      { type: "button" },
      make("span", {}, head.textContent),
      make("i", { class: "cim-sort", "aria-hidden": "true" }),
    );
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const first = column === 0 ? "ascending" : "descending";
      const other = column === 0 ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((each) => each.setAttribute("aria-sort", each === head ? order : "none"));
      const sign = order === "ascending" ? 1 : -1;
      const keyed = [...body.rows].map((row) => [keyOf(row, column), row]);
      keyed.sort(([left], [right]) => {
        if (left === null || right === null) return (left === null) - (right === null);
        return left < right ? -sign : left > right ? sign : 0;
      });
      body.append(...keyed.map(([, row]) => row));
    });
  });
}

const shown = JSON.parse(document.getElementById("payload").textContent);
if (shown.pictures.length) mount(document.getElementById("viewer"), shown);
document.querySelectorAll("table.cim-sortable").forEach(sortable);
