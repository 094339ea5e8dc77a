// Ten minutes as a line, or two. The width is time, so a gap in what was heard is a gap in the line.

const SPAN_S = 600;
const WIDE = 600;
const HIGH = 60;

class Spark {
  // `format` writes a value; `top` is the least that the full height stands for.
  constructor(label, format, { top = 1, names = null, tall = false } = {}) {
    this.format = format;
    this.least = top;
    this.value = el("b");
    this.scale = el("small");
    const words = el("span", "");
    if (names) names.forEach((name, i) => words.append(el("i", i ? "legend second" : "legend"), `${name} `));
    this.area = svg("path", { class: "area" });
    this.lines = (names || [label]).map((_, i) => svg("path", { class: i ? "second" : "first" }));
    const picture = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img" });
    if (tall) picture.setAttribute("class", "tall");
    picture.append(this.area, ...this.lines);
    this.picture = picture;
    this.label = label;
    const left = names ? el("span", "") : null;
    if (left) left.append(label, " ", words);
    this.node = el("div", "spark", el("span", "", left || label, this.scale), picture);
  }

  draw(nowS, samples, ...reads) {
    const top = Math.max(this.least, ...reads.flatMap((read) => samples.map((sample) => read(sample) ?? 0)));
    reads.forEach((read, i) => {
      const runs = this.runs(nowS, samples, read, top);
      this.lines[i].setAttribute("d", runs.map((run) => `M${run.map(([x, y]) => `${x} ${y}`).join("L")}`).join(""));
      if (i) return;
      const filled = runs.map((run) => `M${run[0][0]} ${HIGH}L${run.map(([x, y]) => `${x} ${y}`).join("L")}L${run.at(-1)[0]} ${HIGH}Z`);
      this.area.setAttribute("d", filled.join(""));
    });
    const latest = samples.length ? reads.map((read) => this.write(read(samples.at(-1)))).join(" / ") : NONE;
    write(this.scale, `10 min, to ${this.format(top)}`);
    this.picture.setAttribute("aria-label", `${this.label} over ten minutes, now ${latest}`);
  }

  write(value) {
    return value === null || value === undefined ? NONE : this.format(value);
  }

  runs(nowS, samples, read, top) {
    const runs = [];
    let run = null;
    let beforeS = 0;
    for (const sample of samples) {
      const value = read(sample);
      if (value === null || value === undefined) {
        run = null;
        continue;
      }
      if (!run || sample.unix_s - beforeS > 5) runs.push((run = []));
      beforeS = sample.unix_s;
      const x = WIDE - ((nowS - sample.unix_s) / SPAN_S) * WIDE;
      run.push([x.toFixed(1), (HIGH - 1 - (value / top) * (HIGH - 3)).toFixed(1)]);
    }
    return runs;
  }
}
