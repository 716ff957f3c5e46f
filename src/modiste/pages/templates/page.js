for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const numeric = head.classList.contains("n");
    const rising = head.hasAttribute("aria-sort") ? head.getAttribute("aria-sort") === "descending" : !numeric || column === 0;
    const key = row => { const text = row.cells[column].textContent.trim(); return numeric ? parseFloat(text) : text; };
    const compare = (a, b) => {
      if (!numeric) return (rising ? 1 : -1) * a.localeCompare(b);
      return Number.isNaN(a) || Number.isNaN(b) ? Number.isNaN(a) - Number.isNaN(b) : (rising ? a - b : b - a);
    };
    body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
  }));
}
