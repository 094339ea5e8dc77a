// The latest placements with their reasons. Rows are kept, so that reading one is not disturbed by the next.

const KINDS = [
  ["all", "All", () => true],
  ["remote", "Remote", (row) => row.decision === "remote"],
  ["local", "Local", (row) => row.decision === "local"],
  ["decode", "On decode", (row) => row.decision === "decode"],
  ["failed", "Failed", (row) => row.outcome === "failed" || row.code !== ""],
];

class Placements {
  constructor(table, filters, empty) {
    this.body = table.tBodies[0];
    this.labels = [...table.tHead.rows[0].cells].map((cell) => cell.firstChild.textContent);
    this.empty = empty;
    this.rows = new Map();
    this.kind = "all";
    this.buttons = KINDS.map(([key, label]) => {
      const button = el("button", "", label);
      button.type = "button";
      button.addEventListener("click", () => this.choose(key));
      filters.append(button);
      return button;
    });
    this.choose("all");
  }

  choose(key) {
    this.kind = key;
    KINDS.forEach(([kind], i) => this.buttons[i].setAttribute("aria-pressed", String(kind === key)));
    for (const { node, row } of this.rows.values()) node.hidden = !this.fits(row);
    this.note();
  }

  fits(row) {
    return KINDS.find(([kind]) => kind === this.kind)[2](row);
  }

  show({ placements }) {
    for (const [number, { node }] of this.rows) {
      if (placements.has(number)) continue;
      node.remove();
      this.rows.delete(number);
    }
    for (const row of [...placements.values()].sort((a, b) => a.number - b.number)) this.put(row);
    this.note();
  }

  note() {
    const shown = [...this.rows.values()].some(({ node }) => !node.hidden);
    this.empty.hidden = shown;
    write(this.empty, this.rows.size ? "None of the latest placements is of this kind." : "No requests yet.");
  }

  put(row) {
    const key = JSON.stringify(row);
    const known = this.rows.get(row.number);
    if (known?.key === key) return;
    const node = this.draw(row);
    node.hidden = !this.fits(row);
    if (known) known.node.replaceWith(node);
    else this.body.prepend(node);
    this.rows.set(row.number, { key, node, row });
  }

  draw(row) {
    const again = row.attempt > 1 ? ` (attempt ${row.attempt})` : "";
    const measured = { running: "…", done: seconds(row.ttft_s), failed: NONE }[row.outcome];
    const ttft = `${seconds(row.expected_ttft_s)} → ${row.ttft_s === null ? measured : seconds(row.ttft_s)}`;
    const why = el("span", "", `${row.reason}${again}`);
    if (row.cache_from) why.append(` · cache from ${row.cache_from}`);
    if (row.code) why.append(" ", el("span", "tag failed", row.outcome === "failed" ? `failed: ${row.code}` : `prefilled by decode: ${row.code}`));
    const cells = [
      [clock(row.unix_s)], [el("code", "", row.request)], [count(row.prompt_tokens), "number"], [count(row.cached_tokens), "number"],
      [el("span", "", el("span", `tag ${row.decision}`, row.decision), ` ${row.prefill}`)], [row.decode], [ttft, "number"], [why, "why"],
    ];
    const nodes = cells.map(([content, name], i) => {
      const cell = el("td", name || "", content);
      cell.dataset.label = this.labels[i];
      return cell;
    });
    const node = el("tr", "", ...nodes);
    node.dataset.decision = row.decision;
    return node;
  }
}
