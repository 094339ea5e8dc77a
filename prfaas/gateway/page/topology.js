// Clusters at both sides and the links between them.

class Gauge {
  constructor(label) {
    this.value = el("b");
    this.fill = el("i");
    this.rest = el("i", "rest");
    this.node = el("div", "gauge", el("span", "", el("em", "", label), this.value), el("div", "bar", this.fill, this.rest));
  }

  show(text, share, restShare = 0, coloured = true) {
    write(this.value, text);
    const width = Math.min(1, share || 0);
    this.fill.style.width = `${(100 * width).toFixed(1)}%`;
    this.rest.style.width = `${(100 * Math.min(1 - width, restShare)).toFixed(1)}%`;
    this.fill.className = coloured && share > 0.9 ? "hot" : coloured && share > 0.6 ? "warm" : "";
  }
}

const FULL_QUEUE_S = 5;
const FULL_QUEUE_TOKENS = 65536;

class Instance {
  constructor() {
    this.title = el("b");
    this.state = el("span", "dot");
    this.role = el("span", "tag");
    this.more = el("span", "more");
    this.queue = new Gauge("queue");
    this.running = new Gauge("running");
    this.pages = new Gauge("pages");
    this.notes = el("small");
    const name = el("div", "name", this.state, this.title, this.role, this.more);
    const bars = el("div", "bars", this.queue.node, this.running.node, this.pages.node);
    this.node = el("li", "instance", name, bars, this.notes);
  }

  show(instance, nowS) {
    const state = instance.converting_to ? "converting" : instance.state;
    this.node.dataset.state = state;
    this.node.dataset.name = instance.name;
    this.node.firstChild.dataset.state = state;
    write(this.title, instance.name);
    write(this.role, instance.converting_to ? `${instance.role} → ${instance.converting_to}` : instance.role);
    const silent = `silent for ${seconds(Math.max(0, nowS - instance.heard_s))}`;
    write(this.more, { up: "up", draining: "draining", converting: "draining to change its role", stale: silent }[state]);
    this.more.classList.toggle("bad", state === "stale");
    const { queue, load } = instance;
    const waits = queue.seconds === null ? queue.tokens / FULL_QUEUE_TOKENS : queue.seconds / FULL_QUEUE_S;
    this.queue.show(queue.seconds === null ? `${short(queue.tokens)} tok` : `${seconds(queue.seconds)} · ${short(queue.tokens)} tok`, waits);
    const slots = instance.slots || load.running_requests;
    this.running.show(`${load.running_requests}/${slots || NONE}`, load.running_requests / (slots || 1));
    const total = load.pages_total || 1;
    this.pages.show(percent(load.pages_used / total), load.pages_used / total, load.pages_cached / total);
    write(this.notes, this.facts(instance));
  }

  facts({ hit_rate, rates, engine, load, prefixes }) {
    const facts = [];
    if (load.waiting_requests) facts.push(`${load.waiting_requests} waiting`);
    if (hit_rate !== null) facts.push(`hits ${percent(hit_rate)}`);
    if (rates?.prefill_tokens_per_s) facts.push(`prefill ${short(rates.prefill_tokens_per_s)} tok/s`);
    if (rates?.decode_step_s) facts.push(`step ${seconds(rates.decode_step_s)}`);
    if (prefixes.blocks) facts.push(`${short(prefixes.blocks)} blocks cached`);
    if (engine) facts.push(engine);
    return facts.join(" · ") || "nothing measured yet";
  }
}

class Cluster {
  constructor(name) {
    this.facts = el("small");
    this.list = el("ul");
    this.node = el("article", "cluster", el("header", "", el("h3", "", name), this.facts), this.list);
    this.nodes = new Map();
  }

  show(cluster, instances, nowS) {
    const remote = cluster.kind === "prfaas" ? "remote prefill" : "prefill and decode";
    const up = instances.filter((instance) => instance.state === "up").length;
    write(this.facts, `${remote} · ${up} of ${instances.length} up${cluster.profile_measured ? " · speed measured" : ""}`);
    for (const instance of instances) {
      if (!this.nodes.has(instance.name)) this.nodes.set(instance.name, new Instance());
      const node = this.nodes.get(instance.name);
      if (!node.node.isConnected) this.list.append(node.node);
      node.show(instance, nowS);
    }
    const names = new Set(instances.map((instance) => instance.name));
    for (const [name, node] of this.nodes) {
      if (names.has(name)) continue;
      node.node.remove();
      this.nodes.delete(name);
    }
  }
}

class Link {
  constructor({ source, target }, leftward) {
    this.ends = [source, target];
    this.flow = svg("line", { x1: 2, x2: 2, y1: 8, y2: 8, class: "flow" });
    const line = svg("svg", { class: leftward ? "line leftward" : "line", viewBox: "0 0 200 16", preserveAspectRatio: "none", "aria-hidden": "true" });
    line.append(svg("line", { x1: 2, x2: 190, y1: 8, y2: 8, class: "track" }), this.flow, svg("path", { d: "M190 3L198 8L190 13Z", class: "head" }));
    this.use = el("b");
    this.queue = el("b");
    this.facts = el("small");
    this.sparks = [
      new Spark("Utilisation", percent, { top: 1 }),
      new Spark("Queue", seconds, { top: 0.5 }),
      new Spark("Rate it can deliver", bits, { top: 1 }),
    ];
    const figures = el("div", "figures", el("span", "", this.use, " in use"), el("span", "", this.queue, " queued"));
    this.node = el("article", "link", el("h3", "", `${source} → ${target}`), line, figures, this.facts, ...this.sparks.map((s) => s.node));
  }

  show(path, history, nowS) {
    const idle = path.age_s === null;
    write(this.use, idle ? NONE : percent(path.utilisation));
    write(this.queue, seconds(path.queued_s));
    this.flow.setAttribute("x2", (2 + 188 * Math.min(1, path.utilisation)).toFixed(1));
    this.flow.setAttribute("class", path.utilisation > 0.9 ? "flow hot" : path.utilisation > 0.6 ? "flow warm" : "flow");
    const measured = idle ? "as the fleet file says, not measured yet" : `last bytes ${seconds(Math.round(path.age_s))} ago`;
    const lost = path.retransmitted > 0.001 ? ` · ${(path.retransmitted * 100).toFixed(1)} % sent again` : "";
    write(this.facts, `${bits(path.bytes_per_s)} · RTT ${seconds(path.rtt_s)} · ${measured}${lost}`);
    const [source, target] = this.ends;
    const mine = history.map((sample) => ({ unix_s: sample.unix_s, ...sample.links.find((link) => link.source === source && link.target === target) }));
    this.sparks[0].draw(nowS, mine, (link) => link.utilisation);
    this.sparks[1].draw(nowS, mine, (link) => link.queued_s);
    this.sparks[2].draw(nowS, mine, (link) => link.bytes_per_s);
  }
}

class Topology {
  constructor(node) {
    this.node = node;
    this.clusters = new Map();
    this.links = new Map();
  }

  show(model) {
    const { clusters, paths, unix_s: nowS } = model.fleet;
    this.arrange(clusters, paths);
    const instances = [...model.instances.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const cluster of clusters) this.clusters.get(cluster.name).show(cluster, instances.filter((i) => i.cluster === cluster.name), nowS);
    for (const path of paths) this.links.get(`${path.source} ${path.target}`).show(path, model.history, nowS);
  }

  // Remote clusters at the left, those that decode at the right; anew only when one comes or goes.
  arrange(clusters, paths) {
    const key = JSON.stringify([clusters.map((c) => [c.name, c.kind]), paths.map((p) => [p.source, p.target])]);
    if (key === this.key) return;
    this.key = key;
    const remote = new Set(clusters.filter((c) => c.kind === "prfaas").map((c) => c.name));
    this.clusters = new Map(clusters.map((c) => [c.name, new Cluster(c.name)]));
    this.links = new Map(paths.map((p) => [`${p.source} ${p.target}`, new Link(p, !remote.has(p.source) && remote.has(p.target))]));
    const nodes = (those) => those.map((c) => this.clusters.get(c.name).node);
    const left = el("div", "side", ...nodes(clusters.filter((c) => c.kind === "prfaas")));
    const right = el("div", "side", ...nodes(clusters.filter((c) => c.kind !== "prfaas")));
    const between = el("div", "links", ...[...this.links.values()].map((link) => link.node));
    this.node.classList.toggle("plain", !remote.size || !paths.length);
    this.node.replaceChildren(...[left, between, right].filter((part) => part.childElementCount));
  }
}
