// What the router told: the fleet as of the last event, and ten minutes of samples.

const KEPT = 600;
const PLACEMENTS = 200;

class Model {
  constructor() {
    this.fleet = null;
    this.history = [];
    this.placements = new Map();
    this.instances = new Map();
    this.heardMs = 0;
  }

  start({ fleet, history }) {
    this.fleet = fleet;
    this.history = history;
    this.instances = new Map(fleet.instances.map((instance) => [instance.name, this.heard(instance, fleet.unix_s)]));
    this.placements = new Map();
    this.place(fleet.placements);
  }

  change({ instances, gone, placements, latest, ...rest }) {
    Object.assign(this.fleet, rest, { latest });
    if (latest && this.history.at(-1)?.unix_s !== latest.unix_s) this.history.push(latest);
    this.history.splice(0, this.history.length - KEPT);
    for (const instance of instances || []) this.instances.set(instance.name, this.heard(instance, rest.unix_s));
    for (const name of gone || []) this.instances.delete(name);
    this.place(placements || []);
  }

  heard(instance, nowS) {
    return { ...instance, heard_s: nowS - instance.age_s };
  }

  place(rows) {
    for (const row of rows) {
      if (row.attempt > 1) this.forget((other) => other.request === row.request && other.attempt < row.attempt);
      this.placements.set(row.number, row);
    }
    for (const number of [...this.placements.keys()].sort((a, b) => a - b).slice(0, -PLACEMENTS)) this.placements.delete(number);
  }

  forget(condition) {
    for (const [number, row] of this.placements) if (condition(row)) this.placements.delete(number);
  }
}

// Calls `onEvent` after every event. A browser comes again by itself, unless it was refused.
function listen(model, onEvent) {
  const source = new EventSource("fleet/events");
  const on = (name, take) =>
    source.addEventListener(name, (event) => {
      take(JSON.parse(event.data));
      model.heardMs = Date.now();
      onEvent();
    });
  on("start", (content) => model.start(content));
  on("change", (content) => model.fleet && model.change(content));
  source.addEventListener("error", () => {
    if (source.readyState !== EventSource.CLOSED) return;
    setTimeout(() => listen(model, onEvent), 3000);
  });
}
