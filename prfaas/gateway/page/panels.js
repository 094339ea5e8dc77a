// Figures of now, the threshold and why, what requests are like, and what was changed.

class Figures {
  constructor(node) {
    this.figures = ["Requests", "Offloaded", "TTFT p50", "Threshold", "Cache hits", "Waiting"].map((label) => {
      const value = el("span");
      const unit = el("small");
      const under = el("div", "under");
      const list = el("dl", "", el("div", "figure", el("dt", "", label), el("dd", "", value, unit, under)));
      node.append(list);
      return { value, unit, under };
    });
  }

  show({ fleet }) {
    const { latest, hits, admission, loops } = fleet;
    const refused = Object.values(admission.refused).reduce((a, b) => a + b, 0);
    const held = !loops || loops.threshold_off_because !== null;
    this.put(0, latest ? latest.requests_s.toFixed(latest.requests_s < 10 ? 2 : 0) : NONE, "/s", `${count(admission.outstanding)} under way`);
    this.put(1, percent(latest?.offloaded_share), "", "of the last minute");
    this.put(2, seconds(latest?.ttft_p50_s), "", `p90 ${seconds(latest?.ttft_p90_s)}, last minute`);
    this.put(3, count(fleet.threshold_tokens), "tokens", held ? "held" : "follows load and link");
    this.put(4, percent(hits.realised), "", `predicted ${percent(hits.predicted)}`);
    this.put(5, count(admission.waiting_interactive + admission.waiting_batch), "", `${count(refused)} refused since start`);
  }

  put(i, value, unit, under) {
    write(this.figures[i].value, value);
    write(this.figures[i].unit, unit);
    write(this.figures[i].under, under);
  }
}

class Threshold {
  constructor(node) {
    this.tokens = el("span");
    this.mode = el("span", "tag");
    this.reason = el("p", "reason");
    this.held = el("p", "reason quiet");
    this.spark = new Spark("Threshold, tokens", short, { top: 1, tall: true });
    this.signals = el("p", "quiet reason");
    const headline = el("p", "headline", this.tokens, el("small", "", "uncached tokens "), this.mode);
    node.append(headline, this.reason, this.spark.node, this.signals, this.held);
  }

  show({ fleet, history }) {
    const { loops } = fleet;
    write(this.tokens, count(fleet.threshold_tokens));
    const held = loops ? loops.threshold_off_because : "this router has no loops";
    write(this.mode, held === null ? "follows load and link" : "held");
    this.mode.classList.toggle("held", held !== null);
    write(this.reason, loops ? loops.threshold_reason : "");
    write(this.held, held === null ? "Longer prompts are prefilled in a remote cluster." : `Held: ${held}.`);
    write(this.signals, loops?.signals ? this.saw(loops) : "The loops have not looked yet.");
    this.spark.draw(fleet.unix_s, history, (sample) => sample.threshold_tokens);
  }

  saw({ signals, lambda_max_req_s: most, threshold_factor: factor }) {
    const waits = `prompts wait ${seconds(signals.prfaas_queue_s)} remotely, ${seconds(signals.link_queue_s)} for the link, ${seconds(signals.pdp_queue_s)} locally`;
    const model = most === null ? "" : ` The model says the fleet keeps up with ${most.toFixed(2)} requests/s at the best threshold; this one is ${factor.toFixed(2)} times that.`;
    return `Last look: ${bits(signals.egress_bytes_s)} egress, ${percent(signals.link_utilisation)} in use; ${waits}.${model}`;
  }
}

const REFUSALS = {
  requests_rate: "above a key's requests/s", tokens_rate: "above a key's tokens/s", contended: "contended, might not wait",
  room_full: "waiting room full", waited_too_long: "waited too long", unavailable: "no instance",
};

class Flow {
  constructor(node) {
    this.rate = new Spark("Requests/s", (n) => n.toFixed(n < 10 ? 1 : 0), { top: 1 });
    this.share = new Spark("Offloaded share", percent, { top: 1 });
    this.ttft = new Spark("TTFT", seconds, { top: 0.1, names: ["p50", "p90"], tall: true });
    this.refused = el("p", "quiet reason");
    node.append(this.rate.node, this.share.node, this.ttft.node, this.refused);
  }

  show({ fleet, history }) {
    this.rate.draw(fleet.unix_s, history, (sample) => sample.requests_s);
    this.share.draw(fleet.unix_s, history, (sample) => sample.offloaded_share);
    this.ttft.draw(fleet.unix_s, history, (sample) => sample.ttft_p50_s, (sample) => sample.ttft_p90_s);
    const { admission } = fleet;
    const refused = Object.entries(admission.refused).filter(([, n]) => n).map(([why, n]) => `${count(n)} ${REFUSALS[why] || why}`);
    const waiting = `${count(admission.waiting_interactive)} interactive and ${count(admission.waiting_batch)} batch requests wait (at most ${count(admission.max_waiting)}).`;
    write(this.refused, `${waiting} Refused: ${refused.join(", ") || "none"}.`);
  }
}

class Changes {
  constructor(node) {
    this.node = node;
    this.off = el("p", "quiet");
    this.list = el("ol");
    node.append(this.list, this.off);
  }

  show({ fleet, instances }) {
    const { loops } = fleet;
    const converting = [...instances.values()].filter((i) => i.converting_to).map((i) => `${i.name} drains to become ${i.converting_to}. `);
    const roles = loops?.roles_off_because ?? null;
    const off = loops ? (roles === null ? "Roles follow the load." : `Roles stay: ${roles}.`) : "This router has no loops.";
    write(this.off, converting.join("") + off);
    if (!loops) return;
    const rows = [
      ...loops.threshold_changes.map((c) => [c.unix_s, `${count(c.before_tokens)} → ${count(c.tokens)} tokens`, c.reason]),
      ...loops.role_changes.map((c) => [c.unix_s, `${c.instance} → ${c.role}${c.refusal ? " (refused)" : ""}`, c.refusal || c.reason]),
    ];
    const key = `${rows.length} ${Math.max(0, ...rows.map(([at]) => at))}`;
    if (key === this.key) return;
    this.key = key;
    rows.sort((a, b) => b[0] - a[0]);
    this.list.replaceChildren(...rows.slice(0, 60).map(([at, what, why]) => el("li", "", el("span", "quiet", clock(at)), el("span", "", el("b", "", what), ` ${why}`))));
  }
}
