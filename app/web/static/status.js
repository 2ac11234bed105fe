// Whether questions can be answered: the parts that this needs, looked at again every few seconds.

import { byId, element, moment, pause, read } from "./shared.js";

const NAMES = {
  database: "Database: accounts, documents and their text",
  index: "Index: finds passages by meaning",
  inference: "Models: write answers and compare meanings",
};

async function look() {
  const response = await fetch("/health/ready", { cache: "no-store" });
  const state = await response.json();
  const parts = state.parts ?? {};
  show(state.status === "ready", parts);
  const notes = (state.notes ?? []).map((note) => element("li", {}, note));
  byId("notes").replaceChildren(...notes);
  byId("notes").hidden = notes.length === 0;
}

function show(ready, parts) {
  byId("overall").textContent = ready ? "Questions are answered" : "Not everything works now";
  const rows = Object.entries(parts).map(([name, word]) => {
    const well = word === "ready";
    const state = element(
      "dd",
      {},
      element("span", { class: `state ${well ? "indexed" : "failed"}` }, well ? "works" : "does not work"),
      well ? "" : ` ${word}`,
    );
    return element("div", {}, element("dt", {}, NAMES[name] ?? name), state);
  });
  byId("parts").replaceChildren(...rows);
}

// Of the index on each host: what was uploaded or deleted since is not yet so in what is found there.
async function lookAtIndexes() {
  const { items } = await read("/api/v1/indexes");
  byId("lags").replaceChildren(
    ...items.map(({ host, behind, since }) => {
      const changes = behind === 1 ? "1 change" : `${behind} changes`;
      const state = element(
        "dd",
        {},
        element("span", { class: `state ${behind ? "embedding" : "indexed"}` }, behind ? "behind" : "in step"),
        behind ? element("span", {}, ` ${changes}, the first of `, moment(since)) : "",
      );
      return element("div", {}, element("dt", {}, host), state);
    }),
  );
  byId("indexes").hidden = items.length === 0;
}

// When to ask for a change of the embedding model again, while none is shown: the answer costs a count of all passages.
let changeFrom = 0;

// Of a change of the embedding model, which administrators alone are shown.
async function lookAtChange() {
  const card = document.getElementById("change");
  if (!card || (card.hidden && Date.now() < changeFrom)) return;
  changeFrom = Date.now() + 60_000;
  const change = await read("/api/v1/reembedding", { cache: "no-store" });
  card.hidden = change.state === "none";
  if (card.hidden) return;
  const rows = [
    ["State", change.state],
    ["Questions are embedded with", change.served],
    ["The other model", change.other],
    ["Passages that have its vector", `${change.done} of ${change.passages}`],
    ...change.hosts.map((one) => [`Index of ${one.host}`, one.index]),
    ...(change.problem ? [["Stands still", change.problem]] : []),
    ["Next", change.next],
  ];
  const parts = rows.map(([name, is]) => element("div", {}, element("dt", {}, name), element("dd", {}, is)));
  byId("change-parts").replaceChildren(...parts);
}

for (;;) {
  try {
    await look();
    await lookAtIndexes().catch(() => (byId("indexes").hidden = true));
    // What it does not tell now, it tells in a moment; the parts above stand by themselves.
    await lookAtChange().catch(() => undefined);
    byId("seen").textContent = `Looked at ${new Date().toLocaleTimeString()}`;
  } catch {
    byId("overall").textContent = "The platform does not answer";
    byId("parts").replaceChildren();
  }
  await pause(5000);
}
