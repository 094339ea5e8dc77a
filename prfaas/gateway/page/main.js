// Puts the parts to work, and says when the router is not heard any more.

const byId = (id) => document.getElementById(id);
const LOST_MS = 4000;
const model = new Model();
const parts = [
  new Figures(byId("figures")),
  new Topology(byId("topology")),
  new Threshold(byId("threshold")),
  new Flow(byId("flow")),
  new Placements(byId("placements"), byId("filters"), byId("no-placements")),
  new Changes(byId("changes")),
];

function render() {
  if (document.hidden || !model.fleet) return;
  const { fleet } = model;
  write(byId("model"), fleet.model);
  const worker = fleet.worker === null ? "" : ` · worker ${fleet.worker} of ${fleet.workers}: its own requests and placements`;
  write(byId("facts"), `policy ${fleet.policy} · ${count(model.instances.size)} instances${worker}`);
  for (const part of parts) part.show(model);
}

function connection() {
  const node = byId("connection");
  const silentMs = Date.now() - model.heardMs;
  let [state, text] = ["live", "live"];
  if (!model.heardMs) [state, text] = ["waiting", "connecting"];
  else if (silentMs > LOST_MS) [state, text] = ["lost", `connection lost; this is ${seconds(Math.round(silentMs / 1000))} old`];
  else if (model.fleet?.draining) [state, text] = ["draining", "the router is draining"];
  node.dataset.state = state;
  write(byId("connection-text"), text);
  document.body.classList.toggle("lost", state === "lost");
}

listen(model, () => {
  render();
  connection();
});
document.addEventListener("visibilitychange", render);
setInterval(connection, 1000);
